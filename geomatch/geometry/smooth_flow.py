"""A smooth flow fitted to the matches of a pair: one piece, without folds where matches hold together.

A dense match is a patchwork. Each cell has the position that suits it best, so a picture that is warped by it melts
into terraces, folds, and is torn. Here the flow is a thin plate instead, which gives way to matches by their
confidence. On a lattice over the source, the displacement u, minus an affine map, minimises

    sum_i w_i r_i |u_i - d_i|^2 + bending sum |second differences|^2 + stretching sum |first differences|^2

with d_i the displacement of the match there and w_i its confidence to a power. r_i = 1 / (1 + |u_i - d_i|^2 / s^2)^2 is
the weight of Geman and McClure's robust estimator (1987), solved by iterated weighting while s falls from coarse to
fine. Differences across an edge of the image cost less. Then matches lose weight where they fold or overstretch the
plate, a few times: of contradicting matches the more confident ones stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from geomatch.geometry.banded import ACROSS, BEND_ACROSS, BEND_DOWN, DOWN, TWIST, Lattice, Values
from geomatch.geometry.region import calm_region

_TINY = 1e-6
_FEWEST = 4
"""Points of a lattice along an axis, at least."""
_LEAST_EDGE = 0.1
"""Of the weight of a difference across an edge, so that no part of the plate comes loose."""


@dataclass(frozen=True)
class Smoothing:
    """How a smooth flow is fitted. Distances are shares of the longer side of the image they lie in.

    points: of the lattice, along the longer side of the source.
    bending, stretching: resistance of the plate, beside a match of full weight.
    edges: how much the plate gives way at edges of the image; 0: not at all.
    power: of the confidence. trust_invalid: factor for matches that are not valid.
    coarse, fine: the residuals s at which a match loses most of its weight, at first and in the end.
    rounds: of robust weighting. repairs: of unfolding, at most.
    least, most: area, as a share of its median, that a triangle of the lattice may shrink or grow to.
    """

    points: int = 56
    bending: float = 0.1
    stretching: float = 0.005
    edges: float = 10.0
    power: float = 3.0
    trust_invalid: float = 0.2
    coarse: float = 0.2
    fine: float = 0.04
    rounds: int = 7
    repairs: int = 8
    least: float = 0.05
    most: float = 4.0


@dataclass(frozen=True)
class SmoothFlow:
    """A smooth flow and where it can be trusted.

    flow: (2, H, W) float32, pixels, x then y. sound: (H, W) bool, where it is neither folded nor overstretched.
    distance: (H, W) float32, how far the matches lie from it, as a share of the target's longer side.
    """

    flow: NDArray[np.float32]
    sound: NDArray[np.bool_]
    distance: NDArray[np.float32]

    def supported(self, tolerance: float, image: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
        """The calm region (H, W), without islands and specks, where it is sound and matches lie within ``tolerance``.

        image: the source, (3, H, W), whose edges the outline follows.
        """
        return calm_region((self.distance <= tolerance) & self.sound, image)


def fit_smooth_flow(
    flow: NDArray[np.float32],
    confidence: NDArray[np.float32],
    valid: NDArray[np.bool_],
    target_size: tuple[int, int],
    image: NDArray[np.uint8] | None = None,
    how: Smoothing | None = None,
) -> SmoothFlow:
    """Fit a smooth flow to a flow (2, H, W) of the same frame.

    Args:
        flow: x then y, in pixels; what is not finite has no weight. confidence: (H, W) in [0, 1]. valid: (H, W).
        target_size: (height, width) in pixels.
        image: the source, (3, H, W), whose edges the plate gives way at.
    """
    how = how or Smoothing()
    height, width = flow.shape[1:]
    pitch = max(height, width) / min(how.points, max(height, width))
    lattice = Lattice(*(max(_FEWEST, round(length / pitch)) for length in (height, width)))
    y, x = ((np.arange(n) + 0.5) * length / n - 0.5 for n, length in zip(lattice.shape, (height, width), strict=True))
    start = np.stack(np.meshgrid(x, y))
    rows, columns = (each.round().clip(0).astype(np.intp) for each in (y, x))
    sampled = flow[:, rows[:, None], columns].astype(np.float64)
    finite = np.isfinite(sampled).all(axis=0)
    trust = _reduced(confidence * np.where(valid, 1, how.trust_invalid).astype(np.float32), lattice)
    longest = max(target_size)
    plate = _Plate(
        lattice,
        start=lattice.flat(start) / max(height, width),
        wanted=lattice.flat(np.where(finite, start + sampled, 0)) / longest,
        weights=lattice.flat((np.where(finite, trust, 0) ** how.power)[None])[:, 0],
        edges=_edge_weights(image, lattice, how.edges),
        how=how,
    )
    positions = plate.fit()
    displacement = lattice.maps(positions) * longest - start
    to_rows, to_columns = _spline(height, lattice.height), _spline(width, lattice.width)
    smooth = np.stack([to_rows @ axis @ to_columns.T for axis in displacement.astype(np.float32)])
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.hypot(*(smooth - flow)) / longest
    return SmoothFlow(smooth, ~_nearest(plate.bad(positions), (height, width)), distance)


class _Plate:
    """A thin plate over the points of a lattice; positions are shares of the longer side of their image."""

    def __init__(
        self,
        lattice: Lattice,
        start: Values,
        wanted: Values,
        weights: Values,
        edges: tuple[Values, Values] | None,
        how: Smoothing,
    ) -> None:
        """start, wanted: (N, 2), the points in the source and their matches in the target. weights: (N,)."""
        self.lattice, self.how, self.start = lattice, how, start
        self.weights = weights / max(float(np.quantile(weights, 0.9)), _TINY)
        self.affine = _robust_affine(start, wanted, self.weights, how)
        self.residual = wanted - self.affine
        across, down = edges or (
            np.ones((lattice.height, lattice.width - 1)),
            np.ones((lattice.height - 1, lattice.width)),
        )
        mixed = np.minimum(np.minimum(across[:-1], across[1:]), np.minimum(down[:, :-1], down[:, 1:]))
        self.energy = lattice.energy(
            [
                (BEND_ACROSS, how.bending * np.minimum(across[:, :-1], across[:, 1:])),
                (BEND_DOWN, how.bending * np.minimum(down[:-1], down[1:])),
                (TWIST, how.bending * 2 * mixed),
                (ACROSS, how.stretching * across),
                (DOWN, how.stretching * down),
            ]
        )

    def fit(self) -> Values:
        """The positions (N, 2) of the points in the target."""
        bent, scale = np.zeros_like(self.residual), self.how.coarse
        doubt = np.ones(self.lattice.shape)
        for _ in range(self.how.rounds):
            bent = self._bend(bent, scale, doubt)
            scale = max(self.how.fine, 0.7 * scale)
        for _ in range(self.how.repairs):
            bad = self.bad(self.affine + bent)
            if not bad.any():
                break
            doubt = np.where(ndimage.binary_dilation(bad, np.ones((3, 3), bool)), 0.3 * doubt, doubt)
            bent = self._bend(bent, scale, doubt)
        return self.affine + bent

    def _bend(self, before: Values, scale: float, doubt: Values) -> Values:
        x, y = (self.residual - before).T
        squared = (x**2 + y**2) / scale**2
        weights = self.weights * self.lattice.flat(doubt[None])[:, 0] / (1 + squared) ** 2
        return self.lattice.minimise(
            self.energy, weights + _TINY, self.residual * (weights / (weights + _TINY))[:, None]
        )

    def bad(self, positions: Values) -> NDArray[np.bool_]:
        """Points (height, width) at a corner of a triangle that is folded or too large."""
        area = triangle_areas(self.lattice.maps(positions))
        middle = np.median(area)
        share = area / (middle if abs(middle) > _TINY**2 else 1)
        bad = ((share < self.how.least) | (share > self.how.most)).any(axis=0)
        corners = np.zeros((self.lattice.height, self.lattice.width), bool)
        for rows in (slice(0, -1), slice(1, None)):
            for columns in (slice(0, -1), slice(1, None)):
                corners[rows, columns] |= bad
        return corners


def triangle_areas(positions: Values) -> Values:
    """Twice the signed areas (4, h - 1, w - 1) of the triangles at the corners of each quad of positions (2, h, w)."""
    across, down = np.diff(positions, axis=2), np.diff(positions, axis=1)
    return np.stack(
        [a[0] * d[1] - a[1] * d[0] for a in (across[:, :-1], across[:, 1:]) for d in (down[:, :, :-1], down[:, :, 1:])]
    )


def _robust_affine(start: Values, wanted: Values, weights: Values, how: Smoothing) -> Values:
    """The positions (N, 2) that the affine map nearest to most of the weight takes the points to."""
    columns = np.c_[start, np.ones(len(start))]
    prior = np.diag([1e-3, 1e-3, _TINY]) * weights.sum() + _TINY * np.eye(3)
    robust, scale, mapped = weights, 2 * how.coarse, wanted
    for _ in range(2 * how.rounds):
        weighted = columns * robust[:, None]
        mapped = start + columns @ np.linalg.solve(columns.T @ weighted + prior, weighted.T @ (wanted - start))
        squared = ((wanted - mapped) ** 2).sum(axis=1) / scale**2
        robust, scale = weights / (1 + squared) ** 2, max(2 * how.fine, 0.85 * scale)
    return mapped


def _edge_weights(image: NDArray[np.uint8] | None, lattice: Lattice, strength: float) -> tuple[Values, Values] | None:
    """Weights (h, w - 1) and (h - 1, w) of the differences between neighbours, small across an edge of the image."""
    if image is None or strength == 0:
        return None
    colours = np.stack([_reduced(channel.astype(np.float32), lattice) for channel in image]) / 255
    across, down = (np.exp(-strength * (np.diff(colours, axis=axis) ** 2).sum(axis=0)) for axis in (2, 1))
    return _LEAST_EDGE + (1 - _LEAST_EDGE) * across, _LEAST_EDGE + (1 - _LEAST_EDGE) * down


def _reduced(values: NDArray[np.float32], lattice: Lattice) -> Values:
    """Means (h, w) of values (H, W) around the points of a lattice."""
    size = lattice.width, lattice.height
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX), dtype=np.float64)


def _nearest(marks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Marks (h, w) of the points of a lattice at the pixels of an image of (height, width)."""
    rows, columns = (np.arange(length) * n // length for length, n in zip(size, marks.shape, strict=True))
    return np.asarray(marks[rows[:, None], columns])


@lru_cache(8)  # images of a list are often of one size
def _spline(length: int, points: int) -> NDArray[np.float32]:
    """(length, points), what each point of an axis weighs at each pixel: natural cubic interpolation.

    scipy's CubicSpline gives the same, and takes longer to load than a match to compute.
    """
    at = (np.arange(length) + 0.5) * points / length - 0.5
    value, curvature = np.eye(points), np.zeros((points, points))  # second derivatives are 0 at both ends
    inner = 4 * np.eye(points - 2) + np.eye(points - 2, k=1) + np.eye(points - 2, k=-1)
    curvature[1:-1] = np.linalg.solve(inner, 6 * np.diff(value, 2, axis=0))
    left = np.floor(at).astype(np.intp).clip(0, points - 2)
    after = (at - left)[:, None]
    before = 1 - after
    straight = before * value[left] + after * value[left + 1]
    bent = (before**3 - before) * curvature[left] + (after**3 - after) * curvature[left + 1]
    return np.asarray(straight + bent / 6, dtype=np.float32)
