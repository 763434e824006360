"""Match cues, pair cues, and the confidence model: the probability, given these cues, that a match is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import ConfidenceModel, CueWeights
from geomatch.matching.base import MatchContext, TargetPoints
from geomatch.matching.similarity import OUTSIDE, Similarity, row_blocks


@dataclass(frozen=True)
class MatchCues:
    """The cues of each match, tensors of one shape.

    score: similarity of the two cells, s = max(0, <phi_u, phi_v>) in [0, 1]; if one of them lies outside a mask, so far
        below that the match has no probability.
    sigma: the mean of both cells' learnt inverse confidences, positive.
    peakedness: in (0, 1], how much of the similarity to the target is concentrated on the matched cell. A softmax
        over all target cells turns similarities into shares that sum to 1; this is the sum over the cells near it.
    neighbour_agreement: in (0, 1], how similar the displacements of the cells around the source cell are to its own:
        the mean of exp(-difference / tolerance), each neighbour weighted by the cube of its score, as in Hough
        matching.
    hubness: log(n / e). n source cells are matched near this one's target cell; e would be if matches were spread
        evenly. The few places that attract many cells (hubs) are rarely the right match.
    """

    score: Tensor
    sigma: Tensor
    peakedness: Tensor
    neighbour_agreement: Tensor
    hubness: Tensor

    def stacked(self) -> Tensor:
        """The cues in the order above, along a new first axis."""
        return torch.stack([getattr(self, field.name) for field in fields(self)])


@dataclass(frozen=True)
class CellMatches:
    """The matches of all N cells of one image of a pair.

    cues: of each match, (N,).
    cycle_error: (N,), how far from its cell matching back ends; positions: (N, 2), the cells' centres x, y. Both as
        shares of the longer side of the cells' image.
    """

    cues: MatchCues
    cycle_error: Tensor
    positions: Tensor


@dataclass(frozen=True)
class PairCues:
    """What all matches of a pair say together, the same for either direction. Scalars, or of the shape of `MatchCues`.

    Each is the mean of the values of both directions. Matches are weighted by their own probability, so that the
    background has little influence.

    consistency: in [0, 1], the share of the matches that matching back returns to near their start. It is high for a
        pair of similar objects.
    extent: in [0, 1/2], the standard deviation of the cells' positions, along the axis where it is larger. It is .29 if
        the object fills the image. Right means within a tenth of the object's size, which is easier if that is large.
    cells: the logarithm of the number of cells, in thousands. Cues that are the same on a finer grid promise more.
    """

    consistency: Tensor
    extent: Tensor
    cells: Tensor


@dataclass(frozen=True)
class CueSettings:
    """How cues are computed.

    temperature: of the softmax in peakedness, in units of cosine similarity; the same as in the sub-cell refinement.
    reach: radius of the neighbourhood of a cell, as a share of the longer side of its image.
    tolerance: difference of displacements, each as a share of its image's longer side, at which agreement falls to 1/e.
    cycle_tolerance: largest cycle error of a match that counts as consistent, as a share of the image's longer side.
    """

    temperature: float = 0.05
    reach: float = 0.06
    tolerance: float = 0.1
    cycle_tolerance: float = 0.05

    def reach_in_cells(self, grid_shape: tuple[int, int]) -> int:
        return max(1, round(self.reach * max(grid_shape)))


def match_probability(cues: MatchCues, weights: CueWeights) -> Tensor:
    """The probability, in [0, 1] and of the cues' shape, that a match is right; see `match_log_odds`."""
    return torch.sigmoid(match_log_odds(cues, weights))


def match_log_odds(cues: MatchCues, weights: CueWeights) -> Tensor:
    """The log-odds, of the cues' shape, that a match is right, that is, within alpha = 0.1 of the truth.

    Probabilistic Introspection (Novotny et al., CVPR 2018) has the likelihood p(s | y, sigma) ~ exp((1 - loss) / sigma)
    with loss 1 - s for points that correspond and s for others. At equal priors this gives the log-odds
    (2 s - 1) / sigma. It is learnt from two warps of one photograph. For photographs of different objects we depart
    from it: we temper it, add a term in 1 / sigma and three more cues, and add the prior of matches that were selected
    as the best ones, with the `CueWeights` w:

        log-odds = (2 s - 1) / (w.temperature sigma) + w.inverse_sigma / sigma + w.peakedness peakedness
                   + w.agreement neighbour_agreement - w.hubness hubness + w.prior
    """
    return (
        ((2 * cues.score - 1) / weights.temperature + weights.inverse_sigma) / cues.sigma
        + weights.peakedness * cues.peakedness
        + weights.agreement * cues.neighbour_agreement
        - weights.hubness * cues.hubness
        + weights.prior
    )


def probability_in_pair(cues: MatchCues, pair: PairCues, model: ConfidenceModel) -> Tensor:
    """The probability, in [0, 1] and of the cues' shape, that a match of a pair with these cues is right:

        log-odds = match_log_odds(cues, model.in_pair)
                   + model.consistency consistency + model.extent extent + model.cells cells

    Pairs differ in how hard they are, and the cues of one match do not say it: alone, they give matches of easy pairs
    too little confidence.
    """
    of_pair = model.consistency * pair.consistency + model.extent * pair.extent + model.cells * pair.cells
    return torch.sigmoid(match_log_odds(cues, model.in_pair) + of_pair)


def confidence_both_ways(
    context: MatchContext, forward: TargetPoints, backward: TargetPoints, settings: CueSettings
) -> tuple[Tensor, Tensor]:
    """The confidence of the matches of all source cells (N,) and of all target cells (M,), float32 in [0, 1].

    forward, backward: where the source lies in the target, and the target in the source.

    Raises:
        OutOfMemoryError: if ``context.max_bytes`` cannot hold a row of scores.
    """
    model = context.source.calibration
    there, back = matches_both_ways(context, forward, backward, settings)
    pair = compute_pair_cues((there, back), model.alone, settings)
    return probability_in_pair(there.cues, pair, model), probability_in_pair(back.cues, pair, model)


def matches_both_ways(
    context: MatchContext, forward: TargetPoints, backward: TargetPoints, settings: CueSettings
) -> tuple[CellMatches, CellMatches]:
    """The matches of all source cells and of all target cells; see `confidence_both_ways`."""
    return (
        _cell_matches(context, forward, backward, settings),
        _cell_matches(context.reversed, backward, forward, settings),
    )


def _cell_matches(
    context: MatchContext, forward: TargetPoints, backward: TargetPoints, settings: CueSettings
) -> CellMatches:
    centres, longer_side = context.source.grid.centres(forward.positions.device), context.source.longer_side
    points = forward.at(centres)
    cues = compute_cues(context, points, settings, context.stored_similarity)
    return CellMatches(cues, (backward.at(points) - centres).norm(dim=1) / longer_side, centres / longer_side)


def compute_pair_cues(
    both_ways: tuple[CellMatches, CellMatches], weights: CueWeights, settings: CueSettings
) -> PairCues:
    """The cues of a pair, given the matches of all cells of both images, which their probability alone weighs."""
    consistency, extent, cells = [], [], []
    for matches in both_ways:
        weight = torch.softmax(
            F.logsigmoid(match_log_odds(matches.cues, weights)), dim=0
        )  # proportional to probability
        consistency.append(weight @ (matches.cycle_error <= settings.cycle_tolerance).to(weight))
        variance = weight @ (matches.positions - weight @ matches.positions).square()
        extent.append(variance.max().sqrt())
        cells.append(weight.new_full((), math.log(len(weight) / 1000)))
    return PairCues(*(torch.stack(each).mean() for each in (consistency, extent, cells)))


def compute_cues(context: MatchContext, points: Tensor, settings: CueSettings, similarity: Similarity) -> MatchCues:
    """The cues (N,) float32 of each source cell's match; see `compute_cues_of_each`."""
    return compute_cues_of_each(context, [points], settings, similarity)[0]


def compute_cues_of_each(
    context: MatchContext, candidates: Sequence[Tensor], settings: CueSettings, similarity: Similarity
) -> list[MatchCues]:
    """The cues of several candidate matches of the same pair.

    Cells are compared once, so several candidates take little longer than one.

    Args:
        candidates: each (N, 2), where every source cell lies in the target, in pixels x, y. A source cell is compared
            with the target cell nearest to that.
        similarity: `MatchContext.similarity`, or `MatchContext.stored_similarity` if others read it, too.

    Returns:
        Cues of shape (N,), float32, one for each candidate.

    Raises:
        OutOfMemoryError: if ``context.max_bytes`` cannot hold a row of scores.
    """
    source, target = context.source, context.target
    a, b = similarity.a, similarity.b
    start = source.grid.centres(a.device) / source.longer_side
    partners_of_each = [target.grid.nearest(points) for points in candidates]
    peakedness_of_each = _peakedness_of_each(context, partners_of_each, settings, similarity)
    cues = []
    for points, partners, peakedness in zip(candidates, partners_of_each, peakedness_of_each, strict=True):
        score = (a * b[:, partners]).sum(dim=0)
        score = torch.where(score < OUTSIDE / 2, score, score.relu())
        sigma = torch.full_like(score, source.calibration.fixed_sigma)
        if source.inverse_confidence is not None and target.inverse_confidence is not None:
            sigma = (source.inverse_confidence.flatten() + target.inverse_confidence.flatten()[partners]) / 2
        displacement = points / target.longer_side - start
        agreement = _neighbour_agreement(context, displacement, score, settings)
        cues.append(MatchCues(score, sigma, peakedness, agreement, _hubness(context, partners, settings)))
    return cues


def _peakedness_of_each(
    context: MatchContext, partners_of_each: Sequence[Tensor], settings: CueSettings, similarity: Similarity
) -> list[Tensor]:
    grid = context.target.grid
    radius = settings.reach_in_cells(grid.shape)
    peakedness_of_each = [torch.empty(similarity.shape[0], device=similarity.a.device) for _ in partners_of_each]
    for begin, end in row_blocks(*similarity.shape, context.max_bytes, similarity.a.device):
        shares = torch.softmax(similarity.rows(begin, end) / settings.temperature, dim=1)
        for peakedness, partners in zip(peakedness_of_each, partners_of_each, strict=True):
            near, on_grid = grid.window(partners[begin:end], radius)
            peakedness[begin:end] = (shares.gather(1, near) * on_grid).sum(dim=1)
    return peakedness_of_each


def _neighbour_agreement(context: MatchContext, displacement: Tensor, score: Tensor, settings: CueSettings) -> Tensor:
    grid = context.source.grid
    cells = torch.arange(len(score), device=score.device)
    weight = score.clamp(min=1e-3) ** 3
    agreement = torch.empty_like(score)
    radius = settings.reach_in_cells(grid.shape)
    for begin, end in row_blocks(len(score), (2 * radius + 1) ** 2 * 2, context.max_bytes, score.device):
        near, on_grid = grid.window(cells[begin:end], radius)
        difference = (displacement[near] - displacement[begin:end, None]).norm(dim=2)
        weights = weight[near] * on_grid
        agreement[begin:end] = (weights * torch.exp(-difference / settings.tolerance)).sum(dim=1) / weights.sum(dim=1)
    return agreement


def _hubness(context: MatchContext, partners: Tensor, settings: CueSettings) -> Tensor:
    source, target = context.source, context.target
    height, width = target.grid.shape
    side = 2 * settings.reach_in_cells(target.grid.shape) + 1
    matched = partners if source.inside is None else partners[source.inside]
    cells = height * width if target.inside is None else int(target.inside.sum())
    # Not by bincount, for which a GPU would wait: the size of its result depends on the partners.
    counts = target.descriptors.new_zeros(height * width)
    counts.scatter_add_(0, matched, counts.new_ones(1).expand(len(matched)))
    counts = counts.reshape(1, 1, height, width)
    near = F.avg_pool2d(counts, side, stride=1, padding=side // 2, count_include_pad=False).flatten()
    if source.inside is not None:
        near = near.clamp(min=1 / side**2)  # a match from outside the mask is not counted, and may have nothing near it
    return (near[partners] * (cells / len(matched))).log()
