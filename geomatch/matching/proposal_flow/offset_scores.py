"""Local offset matching of boxes: does a pair of boxes move like the boxes that overlap it (Ham et al., PAMI 2018)."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomatch.matching.proposal_flow.regions import Regions
from geomatch.matching.similarity import argmax_of_rows, row_blocks

_MEDIAN_STEPS: Final = 20
_LEAST_DISTANCE: Final = 1e-6


def offset_scores(
    similarity: Tensor, source: Regions, target: Regions, distance_weight: float, scale_weight: float, max_bytes: int
) -> Tensor:
    """Scores z (N, M) float32 of similarities s (N, M) of the boxes of two images.

        z_ij = s_ij exp(-distance_weight |o_xy - m_xy| - scale_weight |o_s - m_s|)
                    sum of best s in N(i) / sum of best s of all boxes

    The offset is o_ij = (centre of i - centre of j, area of i / area of j). N(i) are the boxes that overlap i and have
    a match, m(i) the median of the offsets of their best matches by s.
    """
    best, partner = similarity.max(dim=1).values, argmax_of_rows(similarity.contiguous())
    across, down = (source.centre[:, None] - target.centre).unbind(dim=2)
    scale = source.area[:, None] / target.area
    around = source.overlaps() & (best > 0)
    offsets = torch.stack([each.gather(1, partner[:, None])[:, 0] for each in (across, down, scale)])
    x, y, s = neighbours_median(offsets, around, max_bytes)[:, :, None]
    distance = torch.hypot(across - x, down - y)
    agreement = torch.exp(-distance_weight * distance - scale_weight * (scale - s).abs())
    support = (around * best).sum(dim=1) / best.sum().clamp(min=1e-12)
    return similarity * agreement * support[:, None]


def offset_scores_in_turn(
    similarity: Tensor, source: Regions, target: Regions, distance_weight: float, scale_weight: float
) -> Tensor:
    """The scores of `offset_scores` as the released code computes them: one source box after the other.

    The released code writes the scores z_i over the similarities s_i. So boxes before i count in its neighbours' best
    matches, and in both sums, with their scores instead of their similarities.
    """
    scores = similarity.double().cpu().numpy().copy()
    offsets = (source.centre[:, None] - target.centre).double().cpu().numpy()
    scales = (source.area[:, None] / target.area).double().cpu().numpy()
    overlaps = source.overlaps().cpu().numpy()
    best, partner = scores.max(axis=1), scores.argmax(axis=1)
    for i, row in enumerate(scores):
        around = np.flatnonzero(overlaps[i] & (best > 0))
        if len(around) == 0:
            row[:] = best[i] = 0  # nothing supports it
            continue
        found = np.column_stack((offsets[around, partner[around]], scales[around, partner[around]]))
        x, y, s = _median(found)
        distance = np.hypot(offsets[i, :, 0] - x, offsets[i, :, 1] - y)
        row *= np.exp(-distance_weight * distance - scale_weight * np.abs(scales[i] - s))
        row *= best[around].sum() / best.sum()
        best[i], partner[i] = row.max(), row.argmax()
    return torch.from_numpy(scores).to(similarity)


def _median(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median (C,) of offsets (N, C), each coordinate's own, as `neighbours_median` computes it."""
    weights = np.ones_like(offsets)
    for _ in range(_MEDIAN_STEPS + 1):
        centre = (weights * offsets).sum(axis=0) / weights.sum(axis=0)
        weights = 1 / np.abs(offsets - centre).clip(_LEAST_DISTANCE)
    return np.asarray(centre, np.float64)


def neighbours_median(offsets: Tensor, around: Tensor, max_bytes: int) -> Tensor:
    """The median of offsets (C, N) over the neighbours of each box, around (N, N) bool: (C, N), each coordinate's own.

    Computed by 20 steps of iteratively re-weighted least squares from the mean. The released code starts from 1, where
    windows of equal area would stay. Zero without neighbours.
    """
    medians = torch.zeros_like(offsets)
    for begin, end in row_blocks(len(around), len(around), max_bytes, around.device):
        members = around[begin:end].to(offsets)
        for values, median in zip(offsets, medians, strict=True):
            weights = members
            for _ in range(_MEDIAN_STEPS + 1):
                centre = (weights @ values) / weights.sum(dim=1).clamp(min=_LEAST_DISTANCE)
                weights = members / (values - centre[:, None]).abs().clamp(min=_LEAST_DISTANCE)
            median[begin:end] = centre
    return medians
