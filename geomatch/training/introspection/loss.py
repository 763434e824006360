"""The losses of Probabilistic Introspection (Novotny et al., CVPR 2018, arXiv 1804.01552), and one of our own."""

from __future__ import annotations

import torch
from torch import Tensor

SAME, IGNORED, DIFFERENT = 1, 0, -1  # `_mean_losses` calculates with these numbers


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


def label_pairs(points: Tensor, positive_radius: float, negative_radius: float) -> Tensor:
    """Labels (B, K, K) of all pairs of a first view's point i with a second view's point j.

    points: (B, K, 2), the true positions of both in the second view, in pixels. SAME within ``positive_radius`` of the
    true position, DIFFERENT beyond ``negative_radius``, IGNORED between.
    """
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
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
    phi_u, sigma_u = first
    phi_v, sigma_v = second
    # One view pair after the other, since K x M numbers stay in a processor's cache and B x K x M do not.
    mean_loss = torch.stack([_mean_losses(*pair) for pair in zip(phi_u, sigma_u, phi_v, sigma_v, labels, strict=True)])
    chosen = mean_loss.topk(min(hardest, mean_loss.shape[1]), dim=1).indices
    count = phi_u.shape[1]
    positive_scores = torch.relu((phi_u * phi_v[:, :count]).sum(dim=2))
    positives = negative_log_likelihood(1 - positive_scores, (sigma_u + sigma_v[:, :count]) / 2).mean()

    phi_hard = phi_v.gather(1, chosen[:, :, None].expand(-1, -1, phi_v.shape[2]))
    sigma_hard = sigma_v.gather(1, chosen)
    hard_scores = torch.relu(phi_u @ phi_hard.mT)
    hard_losses = negative_log_likelihood(hard_scores, (sigma_u[:, :, None] + sigma_hard[:, None, :]) / 2)
    different = labels.gather(2, chosen[:, None, :].expand(-1, labels.shape[1], -1)) == DIFFERENT
    negatives = (hard_losses * different).sum() / different.sum().clamp(min=1)
    return (positives + negatives) / 2


@torch.no_grad()
def _mean_losses(phi_u: Tensor, sigma_u: Tensor, phi_v: Tensor, sigma_v: Tensor, labels: Tensor) -> Tensor:
    """The mean loss (M,) of each second point's labelled pairs, in one pair of views."""
    scores = torch.relu(phi_u @ phi_v.mT)
    # Reckoning with 1, 0 and -1 is quicker than choosing by masks.
    signs = labels.to(scores.dtype)
    losses = (signs.relu() - scores).abs()
    losses = negative_log_likelihood(losses, (sigma_u[:, None] + sigma_v) / 2)
    counted = signs.abs()
    return (losses * counted).sum(dim=0) / counted.sum(dim=0).clamp(min=1)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference between two cosine-similarity matrices of the same cells: a scalar.

    student, teacher: descriptors (K, C) of unit length; their sizes C may differ. Ours, not the paper's.
    """
    return (student @ student.mT - teacher @ teacher.mT).square().mean()
