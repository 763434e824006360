"""The loss of a training from keypoints: each keypoint is to be found among all cells of the other view.

CATs (Cho et al., NeurIPS 2021), SCorrSAN (Huang et al., ECCV 2022) and GeoAware-SC (Zhang et al., CVPR 2024) learn in
this way, each with its own form of the target; ours is a soft one around the keypoint.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_targets(points: Tensor, cells: Tensor, spread: float) -> Tensor:
    """Distributions (..., K, N) over cells (N, 2) around points (..., K, 2): Gaussians of deviation ``spread``.

    All are in one unit. The rows sum to 1, also for a point between or beyond the cells.
    """
    distance = torch.cdist(points, cells, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.softmax(-distance.square() / (2 * spread**2), dim=-1)


def contrastive_loss(similarity: Tensor, targets: Tensor, ignored: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of a softmax over cells against soft targets: that of each keypoint, (..., K).

    similarity: (..., K, N) of keypoints to all cells of the other view, divided by ``temperature``. targets: the same
    shape, from `soft_targets`. ignored: (..., N) bool, cells that are no alternative: they show another object of the
    kind. A cell that a target gives weight counts all the same.
    """
    hidden = ignored[..., None, :] & (targets < 1e-3)
    logits = (similarity / temperature).masked_fill(hidden, -torch.inf)
    logarithms = torch.log_softmax(logits, dim=-1).masked_fill(hidden, 0)
    return -(targets.masked_fill(hidden, 0) * logarithms).sum(dim=-1)
