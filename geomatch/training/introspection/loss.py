"""The losses of Probabilistic Introspection (Novotny et al., CVPR 2018, arXiv 1804.01552), and one of our own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.geometry.grid import read_cells

SAME, IGNORED, DIFFERENT = 1, 0, -1  # `_mean_losses` calculates with these numbers

_CACHED_LOSSES = 1 << 19
"""Losses of point pairs that stay in a processor's cache."""


def log_normaliser(sigma: Tensor) -> Tensor:
    """log C(sigma), C = integral of exp(t / sigma) over t in [0, 1], less the 1/sigma that cancels in the likelihood.

    C(sigma) = sigma (exp(1/sigma) - 1), so log C - 1/sigma = log(sigma (1 - exp(-1/sigma))).
    """
    return (-sigma * torch.expm1(-1 / sigma)).log()


def negative_log_likelihood(loss: Tensor, sigma: Tensor) -> Tensor:
    """-log p(s | y, sigma) = loss / sigma + log sigma + log(1 - exp(-1/sigma)), with p = exp((1 - loss)/sigma) / C.

    loss: 1 - s for a pair that corresponds, s for one that does not, in [0, 1]; sigma > 0; shapes broadcast.
    """
    return loss / sigma + log_normaliser(sigma)


def features_at(cells: Tensor, phi: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Descriptors (B, K, C) of unit length and sigmas (B, K), read from maps at cells (B, K, 2)."""
    return F.normalize(read_cells(phi, cells), dim=1).mT, read_cells(sigma, cells)[:, 0]


def label_pairs(points: Tensor, positive_radius: float, negative_radius: float, others: Tensor | None = None) -> Tensor:
    """Labels (B, K, M) of all pairs of a first view's point i with a second view's point j.

    points: (B, K, 2), the true positions of the first view's points in the second view, in pixels. others: (B, M, 2),
    where the second view's points are; None: they are the same. SAME within ``positive_radius`` of the true position,
    DIFFERENT beyond ``negative_radius``, IGNORED between.
    """
    others = points if others is None else others
    distance = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
    return (distance <= positive_radius).to(torch.int8) - (distance > negative_radius).to(torch.int8)


def introspection_loss(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], labels: Tensor, hardest: int
) -> Tensor:
    """The paper's loss over corresponding points of a batch of view pairs: a scalar.

    first, second: descriptors (B, K, C) of unit length and sigmas (B, K); point i of one corresponds to point i of
    the other. There may be further second points that correspond to none, M in all. labels: (B, K, M) as from
    `label_pairs`.

    Of all K x M pairs, the K corresponding ones count, and those of the ``hardest`` second points, by the mean loss
    of their labelled pairs; both sides weigh the same.
    """
    chosen = _mean_losses_of_each(first, second, labels).topk(min(hardest, labels.shape[2]), dim=1).indices
    negatives, count = _negatives(first, second, labels, chosen)
    return (_positives(first, second).mean() + negatives.sum() / count.sum().clamp(min=1)) / 2


def introspection_losses(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], labels: Tensor, hardest: int, shared: Tensor
) -> Tensor:
    """`introspection_loss` of each pair of views by itself, (B,), of which some have fewer points than others.

    shared: (B, K) bool, at least one a pair, which of the corresponding points are there; labels of others are IGNORED.
    """
    mean_losses = _mean_losses_of_each(first, second, labels)
    mean_losses[:, : shared.shape[1]].masked_fill_(~shared, -torch.inf)
    chosen = mean_losses.topk(min(hardest, labels.shape[2]), dim=1).indices
    positives = (_positives(first, second) * shared).sum(dim=1) / shared.sum(dim=1)
    negatives, count = _negatives(first, second, labels, chosen)
    return (positives + negatives / count.clamp(min=1)) / 2


def _positives(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """The losses (B, K) of the pairs of points that correspond."""
    (phi_u, sigma_u), count = first, first[0].shape[1]
    phi_v, sigma_v = (each[:, :count] for each in second)
    return negative_log_likelihood(1 - torch.relu((phi_u * phi_v).sum(dim=2)), (sigma_u + sigma_v) / 2)


def _negatives(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], labels: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum (B,) of the losses of all first points with the ``chosen`` second ones (B, H), where DIFFERENT; how many
    these are, (B,)."""
    (phi_u, sigma_u), (phi_v, sigma_v) = first, second
    phi_hard = phi_v.gather(1, chosen[:, :, None].expand(-1, -1, phi_v.shape[2]))
    sigma_hard = sigma_v.gather(1, chosen)
    hard_scores = torch.relu(phi_u @ phi_hard.mT)
    hard_losses = negative_log_likelihood(hard_scores, (sigma_u[:, :, None] + sigma_hard[:, None, :]) / 2)
    different = labels.gather(2, chosen[:, None, :].expand(-1, labels.shape[1], -1)) == DIFFERENT
    return (hard_losses * different).sum(dim=(1, 2)), different.sum(dim=(1, 2))


def _mean_losses_of_each(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    """The mean loss (B, M) of each second point's labelled pairs."""
    at_once = max(1, _CACHED_LOSSES // labels[0].numel()) if labels.device.type == "cpu" else len(labels)
    parts = (torch.split(each, at_once) for each in (*first, *second, labels))
    return torch.cat([_mean_losses(*some) for some in zip(*parts, strict=True)])


@torch.no_grad()
def _mean_losses(phi_u: Tensor, sigma_u: Tensor, phi_v: Tensor, sigma_v: Tensor, labels: Tensor) -> Tensor:
    scores = torch.relu(phi_u @ phi_v.mT)
    # Reckoning with 1, 0 and -1 is quicker than choosing by masks.
    signs = labels.to(scores.dtype)
    losses = (signs.relu() - scores).abs()
    losses = negative_log_likelihood(losses, (sigma_u[:, :, None] + sigma_v[:, None]) / 2)
    counted = signs.abs()
    return (losses * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference between two cosine-similarity matrices of the same cells: a scalar.

    student, teacher: descriptors (K, C) of unit length; their sizes C may differ. Ours, not the paper's.
    """
    return (student @ student.mT - teacher @ teacher.mT).square().mean()
