"""What speaks for a match, and the one meaning of confidence: the probability that the match is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.matching.search import Similarity, row_blocks


@dataclass(frozen=True)
class Evidence:
    """The witnesses to each match, tensors of one shape.

    score: similarity of the partners, s = max(0, <phi_u, phi_v>) in [0, 1].
    sigma: the mean of both partners' learnt inverse confidences, positive.
    concentration: in (0, 1], how little else in the target looks like the source cell: softmax over all cells of the
        target turns its similarities into shares, and this is the share of those near the partner.
    agreement: in (0, 1], how well the cells around the source cell are displaced alike: the mean of
        exp(-difference / tolerance), each neighbour weighing with the cube of its score, as its vote in Hough matching.
    crowding: log(n / e), n source cells having their partners near this one's, and e being how many would if partners
        were spread evenly: the few places that all sorts of cells are drawn to are no true partners of most.
    """

    score: Tensor
    sigma: Tensor
    concentration: Tensor
    agreement: Tensor
    crowding: Tensor

    def stacked(self) -> Tensor:
        """The witnesses in the order above, along a new first axis."""
        return torch.stack([getattr(self, field.name) for field in fields(self)])


@dataclass(frozen=True)
class Hearing:
    """How the witnesses are heard.

    fixed_sigma: the inverse confidence of features that know none.
    temperature: of the softmax in concentration, in units of cosine similarity; that of the soft-argmax.
    reach: how far around a cell is near, as a share of the longer side of its image.
    tolerance: the difference of displacements, as a share of the images' longer sides, at which agreement falls to 1/e.
    """

    fixed_sigma: float = 0.159
    temperature: float = 0.05
    reach: float = 0.06
    tolerance: float = 0.1

    def reach_in_cells(self, grid_shape: tuple[int, int]) -> int:
        return max(1, round(self.reach * max(grid_shape)))


@dataclass(frozen=True)
class MatchPosterior:
    """The model's probability that a match is right, that is, within alpha = 0.1 of the truth.

    The likelihood of Probabilistic Introspection, p(s | y, sigma) ~ exp((1 - loss) / sigma) with loss 1 - s for points
    that correspond and s for others, gives at equal priors the log-odds (2 s - 1) / sigma. It is learnt from views of
    one photograph. For photographs of different objects it is tempered, sigma counts for itself, too, as what the
    network thinks of the two points wherever they are matched, three more witnesses are heard, and matches picked as
    best get the prior that such picks have:

        log-odds = (2 s - 1) / (temperature sigma) + sureness / sigma
                   + concentration_weight concentration + agreement_weight agreement - crowding_weight crowding + prior

    The defaults are logistic regression on the validation pairs of SPair-71k and animal-parts (nn and hough, preset
    default), as ``benchmarks/calibration.py`` prints them.
    """

    temperature: float = 4.697
    sureness: float = 0.624
    concentration_weight: float = 2.367
    agreement_weight: float = 2.445
    crowding_weight: float = 0.493
    prior: float = -6.518

    def __call__(self, evidence: Evidence) -> Tensor:
        """Probabilities in [0, 1], of the evidence's shape."""
        return torch.sigmoid(
            ((2 * evidence.score - 1) / self.temperature + self.sureness) / evidence.sigma
            + self.concentration_weight * evidence.concentration
            + self.agreement_weight * evidence.agreement
            - self.crowding_weight * evidence.crowding
            + self.prior
        )


POSTERIORS: Mapping[str, MatchPosterior] = {
    "anchornet": MatchPosterior(
        temperature=8.615,
        sureness=0.104,
        concentration_weight=1.862,
        agreement_weight=5.084,
        crowding_weight=0.755,
        prior=-5.047,
    ),
}
"""Of features, by the first part of their name, that speak otherwise than introspection; fitted in the same way."""


def hear(
    source: FeatureMap,
    target: FeatureMap,
    landing: Tensor,
    how: Hearing,
    max_bytes: int,
    similarity: Similarity | None = None,
) -> Evidence:
    """The evidence for each source cell's match.

    landing: (N, 2), where in the target each source cell lies, in pixels x, y; the target's cell nearest to it is what
    the source cell is held against. similarity: that of the two, if it is at hand. Returns evidence of shape (N,),
    float32. Raises OutOfMemoryError when ``max_bytes`` cannot hold a row of scores.
    """
    return hear_each(source, target, [landing], how, max_bytes, similarity)[0]


def hear_each(
    source: FeatureMap,
    target: FeatureMap,
    landings: Sequence[Tensor],
    how: Hearing,
    max_bytes: int,
    similarity: Similarity | None = None,
) -> list[Evidence]:
    """What `hear` gives for each of several landings, in little more time than for one: cells are compared once."""
    a, b = source.descriptors.flatten(1), target.descriptors.flatten(1)
    start = source.grid.centres(a.device) / max(source.image_size)
    all_partners = [target.grid.nearest(landing) for landing in landings]
    concentrations = _concentrations(similarity or Similarity.of(source, target), target, all_partners, how, max_bytes)
    heard = []
    for landing, partners, concentration in zip(landings, all_partners, concentrations, strict=True):
        score = (a * b[:, partners]).sum(dim=0).relu_()
        sigma = torch.full_like(score, how.fixed_sigma)
        if source.inverse_confidence is not None and target.inverse_confidence is not None:
            sigma = (source.inverse_confidence.flatten() + target.inverse_confidence.flatten()[partners]) / 2
        displacement = landing / max(target.image_size) - start
        agreement = _agreement(source, displacement, score, how, max_bytes)
        heard.append(Evidence(score, sigma, concentration, agreement, _crowding(target, partners, how)))
    return heard


def _concentrations(
    similarity: Similarity, target: FeatureMap, all_partners: Sequence[Tensor], how: Hearing, max_bytes: int
) -> list[Tensor]:
    radius = how.reach_in_cells(target.grid.shape)
    concentrations = [torch.empty(similarity.shape[0], device=similarity.a.device) for _ in all_partners]
    for begin, end in row_blocks(*similarity.shape, max_bytes):
        shares = torch.softmax(similarity.rows(begin, end) / how.temperature, dim=1)
        for concentration, partners in zip(concentrations, all_partners, strict=True):
            near, on_grid = target.grid.around(partners[begin:end], radius)
            concentration[begin:end] = (shares.gather(1, near) * on_grid).sum(dim=1)
    return concentrations


def _agreement(source: FeatureMap, displacement: Tensor, score: Tensor, how: Hearing, max_bytes: int) -> Tensor:
    cells = torch.arange(len(score), device=score.device)
    weight = score.clamp(min=1e-3) ** 3
    agreement = torch.empty_like(score)
    radius = how.reach_in_cells(source.grid.shape)
    for begin, end in row_blocks(len(score), (2 * radius + 1) ** 2 * 2, max_bytes):
        near, on_grid = source.grid.around(cells[begin:end], radius)
        difference = (displacement[near] - displacement[begin:end, None]).norm(dim=2)
        weights = weight[near] * on_grid
        agreement[begin:end] = (weights * torch.exp(-difference / how.tolerance)).sum(dim=1) / weights.sum(dim=1)
    return agreement


def _crowding(target: FeatureMap, partners: Tensor, how: Hearing) -> Tensor:
    height, width = target.grid.shape
    side = 2 * how.reach_in_cells(target.grid.shape) + 1
    drawn = torch.bincount(partners, minlength=height * width).to(target.descriptors).reshape(1, 1, height, width)
    near = F.avg_pool2d(drawn, side, stride=1, padding=side // 2, count_include_pad=False).flatten()
    return (near[partners] * (height * width / len(partners))).log()
