"""A flow turned round: for every pixel of the target, the position in the source that flows to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEPS = 3
_LONGEST_STEP = 2.0  # pixels of the source: near a fold the derivatives of a flow mean nothing further away


@np.errstate(all="ignore")  # a flow may hold NaN, and the derivatives at a fold are no help
def invert_flow(
    flow: NDArray[np.float32], confidence: NDArray[np.float32], target_size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The positions in the source that a flow takes to the pixels of the target.

    Every source pixel is entered at the target pixel nearest to its match; of several the most confident stays, and of
    equally confident ones the first. Target pixels without one start where the nearest entered pixel does. Newton steps
    on the bilinear flow then move all to where they belong.

    Args:
        flow: (2, H, W), x then y, in pixels. confidence: (H, W), of the source's pixels.
        target_size: (height, width) in pixels.

    Returns:
        Positions (2, h, w), x then y, in pixels of the source; and (h, w), how far from the target pixel, in pixels,
        the flow takes them. Where nothing flows to, that is far.
    """
    from scipy import ndimage  # a match loads it only if its inverse is asked for

    height, width = target_size
    row, column = np.indices(flow.shape[1:], dtype=np.float64)
    reached = np.stack((column, row)) + flow
    x, y = np.floor(reached + 0.5)
    inside = np.flatnonzero(((x >= 0) & (x < width) & (y >= 0) & (y < height)).ravel())
    cells = (y.ravel()[inside] * width + x.ravel()[inside]).astype(np.intp)
    order = np.lexsort((-inside, confidence.ravel()[inside]))  # the most confident is written last
    entered = np.full(height * width, -1, np.intp)
    entered[cells[order]] = inside[order]
    entered = entered.reshape(target_size)
    if (entered < 0).all():
        return np.zeros((2, *target_size)), np.full(target_size, np.inf)
    nearest = ndimage.distance_transform_edt(entered < 0, return_distances=False, return_indices=True)
    start = entered[tuple(nearest)]
    positions = np.stack((start % flow.shape[2], start // flow.shape[2])).astype(np.float64)
    return _refined(reached, positions, np.indices(target_size, dtype=np.float64)[::-1])


def _refined(
    reached: NDArray[np.float64], positions: NDArray[np.float64], wanted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions after Newton steps towards where ``reached`` (2, H, W) is ``wanted``, each kept only if it helps."""
    slopes = [np.gradient(reached[axis], axis=(1, 0)) if min(reached.shape[1:]) > 1 else None for axis in (0, 1)]
    most = np.array(reached.shape[:0:-1], np.float64)[:, None, None] - 1
    missed = wanted - _read(reached, positions)
    distance = np.hypot(*missed)
    for _ in range(_STEPS if None not in slopes else 0):
        (xx, xy), (yx, yy) = (tuple(_read(np.stack(each), positions)) for each in slopes)  # type: ignore[arg-type]
        determinant = xx * yy - xy * yx
        scale = np.where(np.abs(determinant) > 1e-6, 1 / np.where(determinant == 0, 1, determinant), 0)
        step = np.stack((yy * missed[0] - xy * missed[1], xx * missed[1] - yx * missed[0])) * scale
        tried = (positions + step.clip(-_LONGEST_STEP, _LONGEST_STEP)).clip(0, most)
        new_missed = wanted - _read(reached, tried)
        better = np.hypot(*new_missed) < distance
        positions, missed = np.where(better, tried, positions), np.where(better, new_missed, missed)
        distance = np.hypot(*missed)
    return positions, distance


def _read(maps: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps (C, H, W) read bilinearly at positions (2, ...)."""
    from scipy import ndimage

    return np.stack([ndimage.map_coordinates(each, positions[::-1], order=1, mode="nearest") for each in maps])
