"""Keypoint average precision, KAP (Mariotti et al., Viewpoint-Guided Spherical Maps, CVPR 2024). Pure functions.

PCK asks only for keypoints that both images show. KAP also asks that a keypoint that the target does not show resembles
nothing there: the similarity of a source keypoint to its target position is a positive example, its similarity to the
most similar place elsewhere a negative one, and average precision says how well similarity tells them apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from geomatch.annotations import Points
from geomatch.evaluation.metrics.retrieval import average_precision

KAP_ALPHAS = (0.10, 0.05, 0.01)

Peaks = tuple[NDArray[np.float64], NDArray[np.float64]]
"""For each of A alphas: (A, K) similarities near the true positions, and (A, K + H) elsewhere."""


def similarity_peaks(
    similarity: NDArray[np.floating],
    cells: Points,
    targets: Points,
    length: float,
    alphas: tuple[float, ...] = KAP_ALPHAS,
) -> Peaks:
    """The examples that a pair gives to average precision.

    As in the authors' ``pck_spair_pascal_sphere.py``, similarities are scaled to 0 .. 1 over the pair, near is nearer
    than alpha times ``length``, and the cell nearest to the truth is always near. There, the position of a cell is its
    upper left pixel, and the cells of a padded square count; here it is its centre, and only the image has cells.

    Args:
        similarity: (K + H, N), of the source's K shared and H hidden keypoints to the target's N cells.
        cells: (N, 2), the cells' centres in pixels of the target.
        targets: (K, 2), the true positions of the shared keypoints.
        length: pixels that alpha is a share of.

    Returns:
        The largest similarity near the truth of each shared keypoint (A, K), and the largest elsewhere of all keypoints
        (A, K + H); 0 if there is nothing elsewhere.
    """
    low, high = float(similarity.min()), float(similarity.max())
    scaled = (similarity.astype(np.float64) - low) / ((high - low) or 1.0)
    shared, hidden = np.split(scaled, [len(targets)])
    distances = cdist(targets, cells)
    near = distances < np.reshape(alphas, (-1, 1, 1)) * length
    near[:, np.arange(len(targets)), distances.argmin(axis=1)] = True
    values = np.broadcast_to(shared, near.shape)
    positive, negative = (values.max(axis=2, initial=0.0, where=which) for which in (near, ~near))
    return positive, np.hstack((negative, np.tile(hidden.max(axis=1), (len(alphas), 1))))


def keypoint_average_precision(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Average precision of positive (P,) among positive and negative (M,) similarities; NaN without positive ones.

    >>> keypoint_average_precision(np.array([0.9, 0.4]), np.array([0.5, 0.1]))
    0.8333333333333333
    """
    relevant = np.repeat([True, False], [len(positive), len(negative)])
    return average_precision(np.concatenate((positive, negative)), relevant)
