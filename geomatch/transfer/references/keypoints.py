"""Keypoints of one object found on a target from several references: evidence, consensus, position, confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomatch.annotations import Instance, Keypoints, Points, Visibility, mirror_partners
from geomatch.geometry.grid import Grid
from geomatch.transfer.references.consensus import (
    DEFAULT_SETTINGS,
    FEWEST_POINTS,
    Consensus,
    ConsensusSettings,
    Shapes,
    find_consensus,
)
from geomatch.transfer.references.evidence import average_of_neighbours, log_likelihood, mean_similarity

PRESENT = 0.5
"""The share of the references that have to mark something for it to be present."""
RETURN = 0.1
"""How far, as a share of the longer side of an object's keypoints, a match back may lie from where it began."""
NEAR = 0.08
"""Radius, as a share of the grid's longer side, within which a likely place counts for the one that was chosen."""


@dataclass(frozen=True)
class Examples:
    """E marked objects with the same K names.

    places: (E,), the number of each one's image. descriptors: (E, K, C), whitened, at the keypoints. points: (E, K, 2)
    in pixels of their images. visibility: (E, K) of `Visibility`.
    """

    names: tuple[str, ...]
    places: NDArray[np.int64]
    descriptors: Tensor
    points: Points
    visibility: NDArray[np.int64]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(E, K), which keypoints are marked."""
        return self.visibility > Visibility.absent

    @property
    def present(self) -> NDArray[np.bool_]:
        """(K,), which most of the objects have."""
        return np.asarray(self.seen.mean(axis=0) >= PRESENT)

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """(K,), which are hidden on most of the objects that have them."""
        guessed, seen = ((self.visibility == each).sum(axis=0) for each in (Visibility.guessed, Visibility.seen))
        return np.asarray(guessed > seen)

    def most_similar(self, cells: Tensor, count: int) -> Examples:
        """Those ``count`` whose keypoints are, in the mean, most similar to some cell (P, C) of a target."""
        seen = torch.from_numpy(self.seen).to(cells)
        highest = (self.descriptors @ cells.mT).amax(dim=2)
        score = (highest * seen).sum(dim=1) / seen.sum(dim=1)
        score = score.nan_to_num(nan=-1.0)  # an object that has none of these keypoints comes last
        chosen = score.argsort(descending=True, stable=True)[:count]
        here = chosen.cpu().numpy()
        return Examples(
            self.names, self.places[here], self.descriptors[chosen], self.points[here], self.visibility[here]
        )

    def returning(self, descriptors: Tensor) -> NDArray[np.float64]:
        """The cycle agreement of keypoints found on a target: (K,) in [0, 1].

        Each place on the target is matched back to the most similar of the places that an object marks. Of the objects
        that mark this keypoint, that is the share on which the match lies within `RETURN` of it.

        descriptors: (K, C), whitened, at the places found.
        """
        similarity = torch.einsum("kc,ejc->ekj", descriptors, self.descriptors).cpu().numpy()
        back = np.where(self.seen[:, None], similarity, -np.inf).argmax(axis=2)
        distance = np.linalg.norm(np.take_along_axis(self.points, back[..., None], axis=1) - self.points, axis=2)
        objects = [points[seen] for points, seen in zip(self.points, self.seen, strict=True)]
        reach = np.array([RETURN * np.ptp(points, axis=0).max() if len(points) else 0.0 for points in objects])
        returned = (distance <= reach[:, None]) & self.seen
        return np.asarray(returned.sum(axis=0) / np.maximum(self.seen.sum(axis=0), 1))


@dataclass(frozen=True)
class KeypointCues:
    """What the confidence of a fused keypoint is computed from, (K,) each.

    similarity: mean similarity of the references' places to the chosen cell. likelihood, density: logarithms of the
    evidence and of the consensus at that cell. peakedness: share of their product within `NEAR` of it. seen: share of
    the hypotheses whose reference marks the keypoint. score: of the best hypothesis, the same for all.
    """

    similarity: NDArray[np.float64]
    likelihood: NDArray[np.float64]
    density: NDArray[np.float64]
    peakedness: NDArray[np.float64]
    seen: NDArray[np.float64]
    score: NDArray[np.float64]

    def stacked(self) -> NDArray[np.float64]:
        """In the order above: (6, K)."""
        return np.stack([getattr(self, name) for name in self.__dataclass_fields__])


@dataclass(frozen=True)
class FusedConfidence:
    """The probability that a fused keypoint is right, within a tenth of the object's size of the truth:

        log-odds = sum of the weights times the cues of `KeypointCues` + prior

    Fitted by logistic regression on the validation images of animal-parts, with references from other photographs, as
    ``scripts/fit_references.py`` prints it.
    """

    similarity: float = 1.484
    likelihood: float = 0.307
    density: float = 0.309
    peakedness: float = 1.931
    seen: float = 0.867
    score: float = 0.287
    prior: float = -3.707

    def __call__(self, cues: KeypointCues) -> NDArray[np.float64]:
        """(K,) in [0, 1]."""
        weights = [getattr(self, name) for name in cues.__dataclass_fields__]
        return np.asarray(1 / (1 + np.exp(-(np.array(weights) @ cues.stacked() + self.prior))))


@dataclass(frozen=True)
class Acceptance:
    """When an object found on a target may be a reference for others.

    confidence: of its keypoints at least, in the mean. agreement: so much of `Examples.returning`, in the mean. points:
    as many keypoints at least.
    """

    confidence: float = 0.6
    agreement: float = 0.5
    points: int = FEWEST_POINTS

    def accepts(self, instance: Instance, agreement: NDArray[np.float64]) -> bool:
        """agreement: (K,), of each of its keypoints."""
        assert isinstance(instance.shape, Keypoints), "only keypoints are found in rounds"
        here = instance.shape.present
        confident = instance.confidence is not None and instance.confidence >= self.confidence
        return bool(confident and here.sum() >= self.points and agreement[here].mean() >= self.agreement)


DEFAULT_ACCEPTANCE = Acceptance()


@dataclass(frozen=True)
class FoundKeypoints:
    """positions: (K, 2) in pixels of the target. known: (K,), those that an example marks. cues: (K,) each."""

    positions: Points
    known: NDArray[np.bool_]
    cues: KeypointCues


def find_keypoints(
    examples: Examples,
    cells: Tensor,
    grid: Grid,
    settings: ConsensusSettings = DEFAULT_SETTINGS,
    inside: Tensor | None = None,
) -> FoundKeypoints:
    """The places on a target of the keypoints that examples mark.

    The evidence of each keypoint, `mean_similarity` of all examples, averaged over 3 x 3 cells, is a map over the
    target. The consensus of
    the examples' shapes, and of their mirror images if names tell the sides apart, is another. The cell with the
    highest product is chosen, and its place refined over the cells next to it.

    Args:
        examples: of the chosen references.
        cells: (P, C), the whitened descriptors of the target. grid: where they lie.
        inside: (P,) bool, the cells that may be chosen; None: all.
    """
    seen = torch.from_numpy(examples.seen).float()
    similarity = mean_similarity(examples.descriptors, seen.to(cells), cells).cpu()
    similarity = average_of_neighbours(similarity.reshape(-1, *grid.shape)).flatten(1)
    likelihood = log_likelihood(similarity)
    known: NDArray[np.bool_] = np.asarray(examples.seen.any(axis=0))
    likelihood[~torch.from_numpy(known)] = 0.0
    outside = torch.zeros(len(cells), dtype=torch.bool) if inside is None else ~inside.cpu()
    likelihood[:, outside] = likelihood.min()
    partners = mirror_partners(examples.names)
    shapes = Shapes(examples.points, examples.seen)
    shapes = shapes.with_mirrored(partners) if partners else shapes
    consensus = find_consensus(likelihood.reshape(-1, *grid.shape), shapes, settings)
    if consensus is None:
        share = seen.mean(dim=0).double().numpy()
        consensus = Consensus(torch.ones(len(known), *grid.shape), share, float(likelihood.min()))
    density = consensus.density.flatten(1).log()
    posterior = (likelihood + density).masked_fill(outside, -torch.inf)
    chosen = torch.from_numpy(posterior.numpy().argmax(axis=1))[:, None]
    shares = torch.softmax(posterior, dim=1)
    near, on_grid = grid.window(chosen[:, 0], max(1, round(NEAR * max(grid.shape))))
    at_chosen = [each.gather(1, chosen)[:, 0].double().numpy() for each in (similarity, likelihood, density)]
    near_chosen = (shares.gather(1, near) * on_grid).sum(dim=1).double().numpy()
    score = np.full(len(known), consensus.score)
    cues = KeypointCues(at_chosen[0], at_chosen[1], at_chosen[2], near_chosen, consensus.seen, score)
    return FoundKeypoints(_refined(shares, chosen[:, 0], grid), known, cues)


def _refined(shares: Tensor, chosen: Tensor, grid: Grid) -> Points:
    """The means (K, 2), in pixels, of the 3 x 3 cells around those chosen, weighted by their shares (K, P)."""
    near, on_grid = grid.window(chosen, 1)
    weights = shares.gather(1, near) * on_grid
    centres = grid.centres()[near]
    return ((weights[..., None] * centres).sum(dim=1) / weights.sum(dim=1, keepdim=True)).double().numpy()
