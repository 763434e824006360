"""The losses of AnchorNet (Novotny, Larlus, Vedaldi, CVPR 2017, arXiv 1704.04749): equations (1) to (4), and L_R."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from geomatch.options import Discriminability


def discriminability_loss(activations: Tensor, labels: Tensor, thresholds: Tensor, form: Discriminability) -> Tensor:
    """Equation (1): each filter's strongest response must say whether an image shows its class. (B, N).

    activations: (B, N, K, h, w), F_k * Phi. labels: (B, N), 1 where the image shows the class, else -1. thresholds:
    (N, K), b.

    As printed: -y sum_k gmax psi_k with psi = softplus, which has no lower bound. Ours, with one:
    sum_k softplus(-y (gmax F_k * Phi - b_k)).
    """
    highest = activations.amax(dim=(3, 4))
    if form is Discriminability.printed:
        return -labels * F.softplus(highest).sum(dim=2)
    return F.softplus(-labels[:, :, None] * (highest - thresholds)).sum(dim=2)


def auxiliary_loss(activations: Tensor) -> Tensor:
    """Equation (2), for images that do not show the class: sum_k gavg max(0, F_k * Phi).

    activations: (..., K, h, w); returns (...). It reaches all positions, of which (1) sees only the strongest.
    """
    return activations.relu().mean(dim=(-2, -1)).sum(dim=-1)


def filter_diversity_loss(filters: Tensor) -> Tensor:
    """Equation (3), of banks (N, K, C, 3, 3), p in the kernel: sum over i != j of |sum_p cos(F_i^p, F_j^p)|: (N,)."""
    unit = F.normalize(filters, dim=2).flatten(2)
    return _sum_beside_the_diagonal((unit @ unit.mT).abs())


def response_diversity_loss(responses: Tensor) -> Tensor:
    """Equation (4), of responses psi (..., K, h, w): sum over i != j of cos(psi_i, psi_j)^2 of whole maps: (...)."""
    unit = F.normalize(responses.flatten(-2), dim=-1)
    return _sum_beside_the_diagonal((unit @ unit.mT).square())


def reconstruction_loss(centred: Tensor, kept: Tensor, filters: Tensor) -> Tensor:
    """L_R = D(x, (F^S)^T * F^S * c(x)), D(a, b) = |a/|a| - b/|b||^2 on whole tensors: the mean over images, a scalar.

    centred: responses less their mean, x (B, R, h, w). kept: (B, R), 0 for the channels that c leaves out, else 1.
    filters: F^S (L, R).
    """
    corrupted = (centred * kept[:, :, None, None]).flatten(2)
    restored = filters.mT @ (filters @ corrupted)
    difference = F.normalize(centred.flatten(1), dim=1) - F.normalize(restored.flatten(1), dim=1)
    return difference.square().sum(dim=1).mean()


def _sum_beside_the_diagonal(square: Tensor) -> Tensor:
    return square.sum(dim=(-2, -1)) - square.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
