import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.geometry.grid import Grid
from geomatch.matching.base import MatchContext
from geomatch.matching.confidence import CueSettings, MatchCues, compute_cues, match_probability
from tests.conftest import random_features

SHARE = st.floats(0, 1)
SIGMA = st.floats(0.05, 2)


def cues_of(*values: float) -> MatchCues:
    """In the order of `MatchCues`."""
    return MatchCues(*(torch.tensor(value, dtype=torch.float64) for value in values))


def cues_between(source: FeatureMap, target: FeatureMap, points: torch.Tensor, max_bytes: int = 1 << 20) -> MatchCues:
    context = MatchContext(source, target, max_bytes)
    return compute_cues(context, points, CueSettings(), context.similarity)


def test_match_probability_includes_the_papers_posterior() -> None:
    score, sigma, ignored = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.2, 0.3, 0.4]), torch.rand(3)
    same, different = torch.exp(score / sigma), torch.exp((1 - score) / sigma)  # exp((1 - loss) / sigma)
    paper = ConfidenceModel(
        temperature=1, inverse_sigma_weight=0, peakedness_weight=0, agreement_weight=0, hubness_weight=0, prior=0
    )
    torch.testing.assert_close(
        match_probability(MatchCues(score, sigma, ignored, ignored, ignored), paper), same / (same + different)
    )


def test_match_probability_worked_by_hand() -> None:
    """(2 * .9 - 1) / (2 * .2) + .1 / .2 + 3 * .5 + 2 * .25 - .5 * 2 - 3 = 2 + .5 + 1.5 + .5 - 1 - 3 = .5"""
    model = ConfidenceModel(
        temperature=2, inverse_sigma_weight=0.1, peakedness_weight=3, agreement_weight=2, hubness_weight=0.5, prior=-3
    )
    assert float(match_probability(cues_of(0.9, 0.2, 0.5, 0.25, 2.0), model)) == pytest.approx(1 / (1 + math.exp(-0.5)))


@given(
    st.tuples(SHARE, SIGMA, SHARE, SHARE, st.floats(-3, 3)),
    st.sampled_from([field.name for field in fields(MatchCues)]),
    SHARE,
)
def test_match_probability_is_monotonic_in_every_cue(values: tuple[float, ...], cue: str, more: float) -> None:
    """It never falls with score, peakedness and agreement, nor rises with sigma and hubness, and is a probability."""
    before = cues_of(*values)
    after = replace(before, **{cue: getattr(before, cue) + more})
    against = cue in ("sigma", "hubness")
    low, high = (
        float(match_probability(each, ConfidenceModel())) for each in ((after, before) if against else (before, after))
    )
    assert 0 <= low <= high <= 1


def slow_cues(
    source: FeatureMap,
    target: FeatureMap,
    partners: list[int],
    points: np.ndarray,
    settings: CueSettings,
    radii: tuple[int, int],
) -> np.ndarray:
    """(5, N), one cell after the other; ``radii``: how many cells are near in source and target."""
    a, b = (f.descriptors.flatten(1).mT.double().numpy() for f in (source, target))
    (hs, ws), (ht, wt) = source.grid.shape, target.grid.shape
    score = np.array([max(0.0, float(a[i] @ b[j])) for i, j in enumerate(partners)])
    moved = points / max(target.image_size) - source.grid.centres().double().numpy() / max(source.image_size)
    found = np.zeros((5, len(partners)))
    for i, j in enumerate(partners):
        sigmas = [f.inverse_confidence for f in (source, target)]
        assert sigmas[0] is not None
        assert sigmas[1] is not None
        weights = np.exp(b @ a[i] / settings.temperature)
        near = [k for k in range(ht * wt) if max(abs(k // wt - j // wt), abs(k % wt - j % wt)) <= radii[1]]
        around = [k for k in range(hs * ws) if max(abs(k // ws - i // ws), abs(k % ws - i % ws)) <= radii[0]]
        alike = [math.exp(-float(np.linalg.norm(moved[k] - moved[i])) / settings.tolerance) for k in around]
        found[:, i] = (
            score[i],
            (float(sigmas[0].flatten()[i]) + float(sigmas[1].flatten()[j])) / 2,
            weights[near].sum() / weights.sum(),
            np.average(alike, weights=np.maximum(score[around], 1e-3) ** 3),
            math.log(sum(k in near for k in partners) / (len(near) * len(partners) / (ht * wt))),
        )
    return found


@pytest.mark.parametrize("max_bytes", [12 * 117, 1 << 30])
def test_compute_cues_equals_a_slow_loop(max_bytes: int) -> None:
    random = np.random.default_rng(0)
    source, target = random_features(6, 8, cell=9), random_features(9, 13, cell=11, seed=1)
    source, target = (
        replace(f, inverse_confidence=torch.from_numpy(random.uniform(0.1, 0.5, f.grid.shape)).float())
        for f in (source, target)
    )
    partners = random.integers(0, 117, 48)
    partners[:2] = 0, 116  # corners
    points = target.grid.centres()[partners].numpy() + random.uniform(-5, 5, (48, 2))
    settings = CueSettings(temperature=0.3, reach=0.16, tolerance=0.2)
    context = MatchContext(source, target, max_bytes)
    found = compute_cues(context, torch.from_numpy(points).float(), settings, context.similarity)
    expected = slow_cues(source, target, partners.tolist(), points, settings, radii=(1, 2))
    np.testing.assert_allclose(found.stacked().numpy(), expected, atol=1e-5)


def test_compute_cues_without_memory_names_the_option() -> None:
    features = random_features(9, 9)
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        cues_between(features, features, features.grid.centres(), 100)


def test_peakedness_is_half_for_two_equal_cells() -> None:
    """Two far cells of the target look just like the source cell, all others not at all."""
    descriptors = torch.zeros(3, 1, 20)
    descriptors[2] = 1
    descriptors[:, 0, 4] = descriptors[:, 0, 15] = torch.tensor([1.0, 0, 0])
    target = FeatureMap(descriptors, (10, 200), Grid.over((10, 200), 1, 20))
    source = FeatureMap(torch.tensor([1.0, 0, 0])[:, None, None], (10, 10), Grid.over((10, 10), 1, 1))
    found = cues_between(source, target, torch.tensor([[44.5, 4.5]]))
    assert float(found.peakedness) == pytest.approx(0.5, abs=1e-3)
    assert float(found.score) == pytest.approx(1)


def test_neighbour_agreement_of_a_shift_and_of_chaos() -> None:
    features = replace(random_features(8, 8), descriptors=torch.full((4, 8, 8), 0.5))  # so that all weigh the same
    shift = torch.tensor([13.0, -4.0])
    together = cues_between(features, features, features.grid.centres() + shift)
    torch.testing.assert_close(together.neighbour_agreement, torch.ones(64))
    scattered = torch.from_numpy(np.random.default_rng(0).uniform(0, 79, (64, 2))).float()
    assert cues_between(features, features, scattered).neighbour_agreement.max() < 0.5


def test_compute_cues_uses_fixed_sigma_without_confidence() -> None:
    known, unknown = random_features(4, 4, sigma=0.3), random_features(4, 4)
    known, unknown = (replace(each, calibration=ConfidenceModel(fixed_sigma=0.11)) for each in (known, unknown))
    for source, target, sigma in ((known, known, 0.3), (known, unknown, 0.11), (unknown, known, 0.11)):
        found = cues_between(source, target, target.grid.centres())
        torch.testing.assert_close(found.sigma, torch.full((16,), sigma))
