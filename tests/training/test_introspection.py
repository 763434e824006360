import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.geometry.homography import pixel_grid
from geomatch.training.introspection.loss import (
    DIFFERENT,
    IGNORED,
    SAME,
    introspection_loss,
    label_pairs,
    negative_log_likelihood,
    similarity_loss,
)
from geomatch.training.introspection.start import start_from_teacher
from geomatch.training.introspection.teacher import Teacher, TrunkTeacher
from geomatch.training.letterbox import Letterbox


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("loss", [0.0, 0.2, 0.9])
def test_negative_log_likelihood_is_normalised(sigma: float, loss: float) -> None:
    """Against the integral of exp((1 - l) / sigma) over l in [0, 1], done numerically."""
    constant, _ = quad(lambda t: math.exp((1 - t) / sigma), 0, 1)
    expected = -math.log(math.exp((1 - loss) / sigma) / constant)
    found = negative_log_likelihood(torch.tensor(loss, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64))
    assert float(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_negative_log_likelihood_best_sigma_grows_with_loss(loss: float) -> None:
    sigmas = torch.linspace(0.02, 20, 20_000, dtype=torch.float64)
    best = float(sigmas[negative_log_likelihood(torch.tensor(loss), sigmas).argmin()])
    assert best < 5
    assert best > float(sigmas[negative_log_likelihood(torch.tensor(loss / 2), sigmas).argmin()])
    hopeless = negative_log_likelihood(torch.tensor(0.6, dtype=torch.float64), sigmas)
    assert int(hopeless.argmin()) == len(sigmas) - 1


def test_label_pairs_by_distance() -> None:
    points = torch.tensor([[[0.0, 0], [0.6, 0.8], [0, 30], [40, 0]]])
    labels = label_pairs(points, 1, 30)[0]
    assert labels[0].tolist() == [SAME, SAME, IGNORED, DIFFERENT]
    assert torch.equal(labels, labels.mT)


def test_introspection_loss_matches_loops() -> None:
    """Against a double loop over the definition, with few points so that every label occurs."""
    pairs, points, channels, hardest = 2, 12, 5, 3
    phi_u, phi_v = unit(pairs, points, channels), unit(pairs, points, channels, seed=1)
    random = np.random.default_rng(0)
    sigma_u, sigma_v = (torch.from_numpy(random.uniform(0.1, 1, (pairs, points))) for _ in range(2))
    places = torch.from_numpy(random.uniform(0, 60, (pairs, points, 2)))
    places[:, 1] = places[:, 0] + 0.5  # two places that count as one

    positives, negatives = [], []
    for image in range(pairs):

        def likelihood(i: int, j: int, same: bool, image: int = image) -> float:
            score = max(0.0, float(phi_u[image, i] @ phi_v[image, j]))
            sigma = float(sigma_u[image, i] + sigma_v[image, j]) / 2
            loss = 1 - score if same else score
            return loss / sigma + math.log(sigma) + math.log(1 - math.exp(-1 / sigma))

        distance = torch.cdist(places[image], places[image])
        columns = []
        for j in range(points):
            counted = [
                likelihood(i, j, bool(distance[i, j] <= 1))
                for i in range(points)
                if distance[i, j] <= 1 or distance[i, j] > 30
            ]
            columns.append(sum(counted) / len(counted))
        positives += [likelihood(i, i, True) for i in range(points)]
        for j in np.argsort(columns)[-hardest:]:
            negatives += [likelihood(i, int(j), False) for i in range(points) if distance[i, j] > 30]
    expected = (np.mean(positives) + np.mean(negatives)) / 2

    found = introspection_loss((phi_u, sigma_u), (phi_v, sigma_v), label_pairs(places, 1, 30), hardest)
    assert float(found) == pytest.approx(float(expected), abs=1e-9)


def test_introspection_loss_descent_pulls_pairs_together() -> None:
    """Free descriptors, no network: a few steps down the gradient must do what the loss is for."""
    one, other = (torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    phi = torch.nn.Parameter(one.clone())
    psi = torch.nn.Parameter(one + other)
    raw = torch.nn.Parameter(torch.zeros(1, 40))
    places = torch.stack((torch.arange(40.0) * 35, torch.zeros(40)), dim=-1)[None]
    labels = label_pairs(places, 1, 30)
    optimiser = torch.optim.Adam([phi, psi, raw], lr=0.05)
    for _ in range(200):
        sigma = 0.05 + 1.95 * torch.sigmoid(raw)
        u, v = (torch.nn.functional.normalize(values, dim=-1) for values in (phi, psi))
        loss = introspection_loss((u, sigma), (v, sigma), labels, 10)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    before = (torch.nn.functional.normalize(one, dim=-1) * torch.nn.functional.normalize(one + other, dim=-1)).sum(
        dim=2
    )
    after = (u * v).sum(dim=2)
    assert after.mean() > before.mean() + 0.2
    assert (u[0] @ v[0].mT)[labels[0] == DIFFERENT].mean() < 0.1
    assert float(sigma.detach().mean()) < 0.4


def test_similarity_loss_matches_loops() -> None:
    student, teacher = unit(4, 3), unit(4, 6, seed=1)
    differences = [float(student[i] @ student[j] - teacher[i] @ teacher[j]) for i in range(4) for j in range(4)]
    assert float(similarity_loss(student, teacher)) == pytest.approx(np.mean(np.square(differences)))
    assert float(similarity_loss(student, student)) == 0


def test_start_from_teacher_matches_least_squares() -> None:
    """A teacher that is itself linear in the trunk's columns, up to their mean and its length, is found again; and the
    head's dot products are, up to scale, those of an independent least-squares fit."""
    torch.manual_seed(0)
    network = IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=256))
    examples = [Letterbox(torch.rand(1, 3, 97, 97), (97, 50)) for _ in range(6)]
    teacher = Teacher([TrunkTeacher(deepcopy(network.trunk), {1: 1.0})], examples)
    start_from_teacher(network, teacher, examples, ridge=1e-9)
    with torch.no_grad():
        # The photographs, 50 pixels wide, fill the columns 23.5 to 72.5 of 97, that is, the cells 6 to 18 of stride 4.
        columns = [network.columns(each.image)[0, :, :, 6:19].flatten(1).mT.double() for each in examples]
        cells = 4 * (pixel_grid(25, 13) + torch.tensor([6, 0])).float()[None]
        taught = [teacher(each.image, cells)[0].double() for each in examples]
        x, t = torch.cat(columns), torch.cat(taught)
        fit = torch.linalg.lstsq(x - x.mean(dim=0), t - t.mean(dim=0), driver="gelsd").solution
        predicted = (x - x.mean(dim=0)) @ fit
        maps = [network.descriptor(network.columns(each.image))[0, :, :, 6:19] for each in examples]
        head = torch.cat([each.flatten(1).mT for each in maps]).double()
    chosen = torch.arange(0, len(x), 37)
    head *= predicted.norm() / head.norm()
    torch.testing.assert_close(
        head[chosen] @ head[chosen].mT, predicted[chosen] @ predicted[chosen].mT, atol=2e-3, rtol=2e-2
    )
