"""The loss of a batch of pairs at once, against the same loss of one pair and one direction after the other."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.training.introspection.loss import IGNORED, features_at, introspection_loss, label_pairs
from geomatch.training.keypoints.loss import contrastive_loss, soft_targets
from geomatch.training.keypoints.objective import KeypointObjective
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.letterbox import cell_centres

STRIDE, OFFSET, SIDE = 8, 0.5, 65
RECIPE = KeypointRecipe(view_size=SIDE, hardest=6, positive_radius=5.0, negative_radius=20.0, contrastive_weight=2.0)
CENTRES = cell_centres(SIDE, STRIDE, OFFSET).float()


@dataclass(frozen=True)
class Pairs:
    points: Tensor
    shared: Tensor
    ignored: Tensor


def batch(counts: tuple[int, ...]) -> tuple[Pairs, Tensor, Tensor]:
    """Pairs that share so many keypoints, and phi and sigma of their views; a third of the cells show other objects."""
    generator = torch.Generator().manual_seed(0)
    side, views = round(len(CENTRES) ** 0.5), 2 * len(counts)
    shared = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    points = torch.rand(len(counts), 2, max(counts), 2, generator=generator) * (SIDE - 1)
    ignored = torch.rand(views, len(CENTRES), generator=generator) < 1 / 3
    phi = F.normalize(torch.randn(views, 12, side, side, generator=generator), dim=1)
    sigma = 0.1 + torch.rand(views, 1, side, side, generator=generator)
    return Pairs(points * shared[:, None, :, None], shared, ignored), phi, sigma


def of_one_direction(pairs: Pairs, phi: Tensor, sigma: Tensor, source: int, target: int) -> Tensor:
    """The likelihood and the contrastive loss of the keypoints of one view, in the order of their definitions."""
    here, there = (pairs.points.flatten(0, 1)[view][pairs.shared[source // 2]] for view in (source, target))
    first, corresponding = (
        features_at((points[None] - OFFSET) / STRIDE, phi[view, None], sigma[view, None])
        for points, view in ((here, source), (there, target))
    )
    cells = phi[target].flatten(1).mT
    second = (
        torch.cat((corresponding[0], cells[None]), dim=1),
        torch.cat((corresponding[1], sigma[target].flatten(1)), dim=1),
    )
    labels = label_pairs(torch.cat((there, CENTRES))[None], RECIPE.positive_radius, RECIPE.negative_radius)
    labels = labels[:, : len(there)].clone()
    labels[:, :, len(there) :].masked_fill_(pairs.ignored[target], IGNORED)
    targets = soft_targets(there / STRIDE, CENTRES / STRIDE, RECIPE.spread)
    contrastive = contrastive_loss(first[0][0] @ cells.mT, targets, pairs.ignored[target], RECIPE.temperature)
    return torch.stack((introspection_loss(first, second, labels, RECIPE.hardest), contrastive.mean()))


@pytest.mark.parametrize("hardest", [6, 1000])
def test_objective_of_a_batch_equals_one_pair_after_the_other(hardest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also its gradient; with pairs of 5, 1 and 8 keypoints, and if more points are asked for than there are."""
    monkeypatch.setitem(globals(), "RECIPE", replace(RECIPE, hardest=hardest))
    pairs, phi, sigma = batch((5, 1, 8))
    phi.requires_grad_()
    sigma.requires_grad_()
    terms = [of_one_direction(pairs, phi, sigma, view, view ^ 1) for view in range(6)]
    likelihood, contrastive = torch.stack(terms).mean(dim=0)
    expected = torch.autograd.grad(likelihood + 2 * contrastive, (phi, sigma))

    found, report = KeypointObjective(RECIPE, STRIDE, OFFSET, CENTRES)(pairs, phi, sigma, None, 0)
    torch.testing.assert_close(found, likelihood + 2 * contrastive)
    torch.testing.assert_close(report["likelihood"], likelihood.detach())
    torch.testing.assert_close(report["contrastive"], contrastive.detach())
    for gradient, other in zip(torch.autograd.grad(found, (phi, sigma)), expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-6, rtol=1e-4)


def test_objective_does_not_depend_on_what_pads_the_points() -> None:
    pairs, phi, sigma = batch((5, 1, 8))
    other = replace(pairs, points=torch.where(pairs.shared[:, None, :, None], pairs.points, 31.0))
    objective = KeypointObjective(RECIPE, STRIDE, OFFSET, CENTRES)
    torch.testing.assert_close(objective(pairs, phi, sigma, None, 0)[0], objective(other, phi, sigma, None, 0)[0])
