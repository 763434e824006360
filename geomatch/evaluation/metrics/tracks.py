"""The measures of TAP-Vid (Doersch et al., NeurIPS Datasets 2022, section 3.1). Pure functions of arrays.

As in ``compute_tapvid_metrics`` of the authors' ``evaluation_datasets.py``: positions are those of 256 x 256 pixels, an
error equal to a threshold is too large, counts are pooled over a video, and videos have equal weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRACK_THRESHOLDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pixels."""


@dataclass(frozen=True)
class TrackCounts:
    """What is counted of the points queried in one frame, in another frame.

    within: (5,), visible points within each of TRACK_THRESHOLDS. visible: all visible points. found: (5,), those within
    that are also predicted to be visible. claimed: (5,), visible points, and points that are wrongly predicted to be
    visible or predicted too far away. told: points whose visibility is predicted. points: all points.

    Of the sums over a video, ``within / visible`` is the share of correct points, ``found / claimed`` the Jaccard
    index, and ``told / points`` the occlusion accuracy.
    """

    within: NDArray[np.int64]
    visible: int
    found: NDArray[np.int64]
    claimed: NDArray[np.int64]
    told: int
    points: int


def count_tracks(errors: NDArray[np.floating], seen: NDArray[np.bool_], hidden_seen: NDArray[np.bool_]) -> TrackCounts:
    """Count the points of one frame.

    errors: (K,), distances of the K visible points' predictions from the truth, in pixels. seen: (K,), which of them
    are predicted to be visible. hidden_seen: (H,), which of the H occluded points are predicted to be visible.
    """
    within = errors[None] < np.asarray(TRACK_THRESHOLDS)[:, None]
    found = (within & seen).sum(axis=1)
    wrong = (~within & seen).sum(axis=1) + hidden_seen.sum()
    return TrackCounts(
        within=within.sum(axis=1),
        visible=len(errors),
        found=found,
        claimed=len(errors) + wrong,
        told=int(seen.sum() + (~hidden_seen).sum()),
        points=len(errors) + len(hidden_seen),
    )
