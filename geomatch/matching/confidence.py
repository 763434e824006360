"""What speaks for a match, and the one meaning of confidence: the probability that the match is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.matching.similarity import Similarity, row_blocks


@dataclass(frozen=True)
class MatchCues:
    """The cues of each match, tensors of one shape.

    score: similarity of the partners, s = max(0, <phi_u, phi_v>) in [0, 1].
    sigma: the mean of both partners' learnt inverse confidences, positive.
    peakedness: in (0, 1], how little else in the target looks like the source cell. Softmax over all cells of the
        target turns similarities into shares; this is the share of the cells near the partner.
    neighbour_agreement: in (0, 1], how well the cells around the source cell are displaced alike: the mean of
        exp(-difference / tolerance), each neighbour weighted with the cube of its score, as in Hough matching.
    hubness: log(n / e). n source cells have their partners near this one's; e would, if partners were spread evenly.
        The few places that attract all sorts of cells are rarely the right partner.
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
class CueSettings:
    """How cues are computed.

    temperature: of the softmax in peakedness, in units of cosine similarity; the same as the soft-argmax's.
    reach: radius of the neighbourhood of a cell, as a share of the longer side of its image.
    tolerance: difference of displacements, as a share of the images' longer sides, at which agreement falls to 1/e.
    """

    temperature: float = 0.05
    reach: float = 0.06
    tolerance: float = 0.1

    def reach_in_cells(self, grid_shape: tuple[int, int]) -> int:
        return max(1, round(self.reach * max(grid_shape)))


def match_probability(cues: MatchCues, model: ConfidenceModel) -> Tensor:
    """The probability, in [0, 1] and of the cues' shape, that a match is right: within alpha = 0.1 of the truth.

    The likelihood of Probabilistic Introspection, p(s | y, sigma) ~ exp((1 - loss) / sigma) with loss 1 - s for points
    that correspond and s for others, gives at equal priors the log-odds (2 s - 1) / sigma. It is learnt from views of
    one photograph. For photographs of different objects we temper it, let sigma count for itself, too, add three more
    cues, and give matches that were picked as best the prior that such picks have (ours):

        log-odds = (2 s - 1) / (temperature sigma) + inverse_sigma_weight / sigma
                   + peakedness_weight peakedness + agreement_weight neighbour_agreement
                   - hubness_weight hubness + prior
    """
    return torch.sigmoid(
        ((2 * cues.score - 1) / model.temperature + model.inverse_sigma_weight) / cues.sigma
        + model.peakedness_weight * cues.peakedness
        + model.agreement_weight * cues.neighbour_agreement
        - model.hubness_weight * cues.hubness
        + model.prior
    )


def compute_cues(
    source: FeatureMap,
    target: FeatureMap,
    landing: Tensor,
    how: CueSettings,
    max_bytes: int,
    similarity: Similarity | None = None,
) -> MatchCues:
    """The cues of each source cell's match.

    landing: (N, 2), where in the target each source cell lies, in pixels x, y; the target's cell nearest to it is what
    the source cell is held against. similarity: that of the two, if it is at hand. Returns cues of shape (N,),
    float32. Raises OutOfMemoryError when ``max_bytes`` cannot hold a row of scores.
    """
    return compute_cues_of_each(source, target, [landing], how, max_bytes, similarity)[0]


def compute_cues_of_each(
    source: FeatureMap,
    target: FeatureMap,
    landings: Sequence[Tensor],
    how: CueSettings,
    max_bytes: int,
    similarity: Similarity | None = None,
) -> list[MatchCues]:
    """Compute cues for each of several landings; cells are compared once, so several take little longer than one."""
    a, b = source.descriptors.flatten(1), target.descriptors.flatten(1)
    start = source.grid.centres(a.device) / max(source.image_size)
    all_partners = [target.grid.nearest(landing) for landing in landings]
    peakednesses = _peakedness(similarity or Similarity.of(source, target), target, all_partners, how, max_bytes)
    cues = []
    for landing, partners, peakedness in zip(landings, all_partners, peakednesses, strict=True):
        score = (a * b[:, partners]).sum(dim=0).relu_()
        sigma = torch.full_like(score, source.calibration.fixed_sigma)
        if source.inverse_confidence is not None and target.inverse_confidence is not None:
            sigma = (source.inverse_confidence.flatten() + target.inverse_confidence.flatten()[partners]) / 2
        displacement = landing / max(target.image_size) - start
        agreement = _agreement(source, displacement, score, how, max_bytes)
        cues.append(MatchCues(score, sigma, peakedness, agreement, _hubness(target, partners, how)))
    return cues


def _peakedness(
    similarity: Similarity, target: FeatureMap, all_partners: Sequence[Tensor], how: CueSettings, max_bytes: int
) -> list[Tensor]:
    radius = how.reach_in_cells(target.grid.shape)
    peakednesses = [torch.empty(similarity.shape[0], device=similarity.a.device) for _ in all_partners]
    for begin, end in row_blocks(*similarity.shape, max_bytes):
        shares = torch.softmax(similarity.rows(begin, end) / how.temperature, dim=1)
        for peakedness, partners in zip(peakednesses, all_partners, strict=True):
            near, on_grid = target.grid.window(partners[begin:end], radius)
            peakedness[begin:end] = (shares.gather(1, near) * on_grid).sum(dim=1)
    return peakednesses


def _agreement(source: FeatureMap, displacement: Tensor, score: Tensor, how: CueSettings, max_bytes: int) -> Tensor:
    cells = torch.arange(len(score), device=score.device)
    weight = score.clamp(min=1e-3) ** 3
    agreement = torch.empty_like(score)
    radius = how.reach_in_cells(source.grid.shape)
    for begin, end in row_blocks(len(score), (2 * radius + 1) ** 2 * 2, max_bytes):
        near, on_grid = source.grid.window(cells[begin:end], radius)
        difference = (displacement[near] - displacement[begin:end, None]).norm(dim=2)
        weights = weight[near] * on_grid
        agreement[begin:end] = (weights * torch.exp(-difference / how.tolerance)).sum(dim=1) / weights.sum(dim=1)
    return agreement


def _hubness(target: FeatureMap, partners: Tensor, how: CueSettings) -> Tensor:
    height, width = target.grid.shape
    side = 2 * how.reach_in_cells(target.grid.shape) + 1
    drawn = torch.bincount(partners, minlength=height * width).to(target.descriptors).reshape(1, 1, height, width)
    near = F.avg_pool2d(drawn, side, stride=1, padding=side // 2, count_include_pad=False).flatten()
    return (near[partners] * (height * width / len(partners))).log()
