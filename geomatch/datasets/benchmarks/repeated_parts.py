"""Keypoints of parts that an object has more than once: where correspondence has to tell left from right.

The geometry-aware subset of GeoAware-SC (Zhang et al., CVPR 2024, section 3.1): a keypoint belongs to it if the target
shows at least two keypoints of its group. The groups are those of ``SPAIR_GEO_AWARE`` and ``AP10K_GEO_AWARE`` in the
authors' ``utils_geoware.py``, with the identifiers of the data sets, as ``eval_spair.py`` applies them. (For scores per
keypoint, their ``pck_train.py`` first renumbers the identifiers in the order of the groups. That moves some of them to
other groups, for buses, cars, potted plants, monitors and AP-10K; it is not followed here.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Groups = Sequence[Sequence[int]]

_TWOS = tuple((first, first + 1) for first in range(0, 22, 2))
_VEHICLE = ((10, 13, 20, 23), (11, 14, 21, 24), (12, 15, 22, 25), (16, 17, 26, 27), (18, 19, 28, 29))
_CATTLE = ((2, 3), (9, 10, 11, 12), (15, 16, 17, 18), (19, 20))

SPAIR: Mapping[str, Groups] = {
    "aeroplane": _TWOS[2:],
    "bicycle": ((2, 3), (6, 7), (9, 10)),
    "bird": ((1, 2), (10, 11), (12, 13), (14, 15)),
    "boat": tuple((first, first + 1) for first in range(1, 12, 2)),
    "bottle": _TWOS[:5],
    "bus": ((0, 1), (2, 3, 5, 6), (4, 7), *_VEHICLE),
    "car": ((0, 1), (2, 3, 6, 7), (4, 8), (5, 9), *_VEHICLE),
    "cat": ((2, 3), (9, 10, 11, 12)),
    "chair": ((0, 1), (2, 3), (4, 5, 6, 7), (8, 9), (10, 11), (12, 13)),
    "cow": _CATTLE,
    "dog": ((2, 3), (9, 10, 11, 12)),
    "horse": ((2, 3), (10, 11, 12, 13), (16, 17, 18, 19)),
    "motorbike": ((0, 1), (2, 3)),
    "person": _TWOS[4:10],
    "pottedplant": ((0, 1, 2, 3), (4, 5), (6, 8)),
    "sheep": _CATTLE,
    "train": _TWOS[:9],
    "tvmonitor": ((0, 2, 4, 6), (1, 3, 5, 7), (8, 10, 12, 14), (9, 11, 13, 15)),
}
"""By class of SPair-71k; the numbers are its ``kps_ids``."""

AP_10K: Groups = ((5, 8), (6, 9, 12, 15), (7, 10, 13, 16), (11, 14))
"""Shoulders; elbows and knees; paws; hips: the numbers are places in AP-10K's list of 17 keypoints, from 0."""


def geometry_aware(groups: Groups, shared: Sequence[int], in_target: Collection[int]) -> NDArray[np.bool_]:
    """Which of the keypoints that both images show (K,) are in a group of which the target shows at least two.

    shared: (K,), their numbers. in_target: the numbers of all keypoints that the target shows.

    >>> geometry_aware([(4, 5), (6, 7)], [4, 6, 9], {4, 5, 6, 9}).tolist()
    [True, False, False]
    """
    told_apart = {number for group in groups if len({*group} & {*in_target}) > 1 for number in group}
    return np.array([number in told_apart for number in shared], np.bool_)
