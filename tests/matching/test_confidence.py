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
from geomatch.matching.confidence import CueSettings, MatchCues, compute_cues, match_probability
from tests.conftest import random_features

SHARE = st.floats(0, 1)
SIGMA = st.floats(0.05, 2)


def cues_of(*witnesses: float) -> MatchCues:
    """In the order of `MatchCues`."""
    return MatchCues(*(torch.tensor(value, dtype=torch.float64) for value in witnesses))


def test_with_no_other_witness_confidence_is_the_posterior_of_the_paper_s_likelihood() -> None:
    score, sigma, unheard = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.2, 0.3, 0.4]), torch.rand(3)
    same, different = torch.exp(score / sigma), torch.exp((1 - score) / sigma)  # exp((1 - loss) / sigma)
    paper = ConfidenceModel(
        temperature=1, inverse_sigma_weight=0, peakedness_weight=0, agreement_weight=0, hubness_weight=0, prior=0
    )
    torch.testing.assert_close(
        match_probability(MatchCues(score, sigma, unheard, unheard, unheard), paper), same / (same + different)
    )


def test_the_log_odds_of_a_hand_worked_match() -> None:
    """(2 * .9 - 1) / (2 * .2) + .1 / .2 + 3 * .5 + 2 * .25 - .5 * 2 - 3 = 2 + .5 + 1.5 + .5 - 1 - 3 = .5"""
    posterior = ConfidenceModel(
        temperature=2, inverse_sigma_weight=0.1, peakedness_weight=3, agreement_weight=2, hubness_weight=0.5, prior=-3
    )
    assert float(match_probability(cues_of(0.9, 0.2, 0.5, 0.25, 2.0), posterior)) == pytest.approx(
        1 / (1 + math.exp(-0.5))
    )


@given(
    st.tuples(SHARE, SIGMA, SHARE, SHARE, st.floats(-3, 3)),
    st.sampled_from([field.name for field in fields(MatchCues)]),
    SHARE,
)
def test_every_witness_speaks_for_what_it_stands_for(witnesses: tuple[float, ...], witness: str, more: float) -> None:
    """Confidence never falls with score, concentration and agreement, nor rises with sigma and crowding, and is a
    probability."""
    before = cues_of(*witnesses)
    after = replace(before, **{witness: getattr(before, witness) + more})
    against = witness in ("sigma", "hubness")
    low, high = (
        float(match_probability(each, ConfidenceModel())) for each in ((after, before) if against else (before, after))
    )
    assert 0 <= low <= high <= 1


def slow_evidence(
    source: FeatureMap,
    target: FeatureMap,
    partners: list[int],
    landing: np.ndarray,
    how: CueSettings,
    radii: tuple[int, int],
) -> np.ndarray:
    """(5, N), one cell after the other; ``radii``: how many cells are near in source and target."""
    a, b = (f.descriptors.flatten(1).mT.double().numpy() for f in (source, target))
    (hs, ws), (ht, wt) = source.grid.shape, target.grid.shape
    score = np.array([max(0.0, float(a[i] @ b[j])) for i, j in enumerate(partners)])
    moved = landing / max(target.image_size) - source.grid.centres().double().numpy() / max(source.image_size)
    found = np.zeros((5, len(partners)))
    for i, j in enumerate(partners):
        sigmas = [f.inverse_confidence for f in (source, target)]
        assert sigmas[0] is not None
        assert sigmas[1] is not None
        weights = np.exp(b @ a[i] / how.temperature)
        near = [k for k in range(ht * wt) if max(abs(k // wt - j // wt), abs(k % wt - j % wt)) <= radii[1]]
        around = [k for k in range(hs * ws) if max(abs(k // ws - i // ws), abs(k % ws - i % ws)) <= radii[0]]
        alike = [math.exp(-float(np.linalg.norm(moved[k] - moved[i])) / how.tolerance) for k in around]
        found[:, i] = (
            score[i],
            (float(sigmas[0].flatten()[i]) + float(sigmas[1].flatten()[j])) / 2,
            weights[near].sum() / weights.sum(),
            np.average(alike, weights=np.maximum(score[around], 1e-3) ** 3),
            math.log(sum(k in near for k in partners) / (len(near) * len(partners) / (ht * wt))),
        )
    return found


@pytest.mark.parametrize("max_bytes", [12 * 117, 1 << 30])
def test_evidence_agrees_with_a_slow_loop_whatever_the_memory(max_bytes: int) -> None:
    random = np.random.default_rng(0)
    source, target = random_features(6, 8, cell=9), random_features(9, 13, cell=11, seed=1)
    source, target = (
        replace(f, inverse_confidence=torch.from_numpy(random.uniform(0.1, 0.5, f.grid.shape)).float())
        for f in (source, target)
    )
    partners = random.integers(0, 117, 48)
    partners[:2] = 0, 116  # corners
    landing = target.grid.centres()[partners].numpy() + random.uniform(-5, 5, (48, 2))
    how = CueSettings(temperature=0.3, reach=0.16, tolerance=0.2)
    found = compute_cues(source, target, torch.from_numpy(landing).float(), how, max_bytes)
    expected = slow_evidence(source, target, partners.tolist(), landing, how, radii=(1, 2))
    np.testing.assert_allclose(found.stacked().numpy(), expected, atol=1e-5)


def test_a_bound_too_small_for_a_row_of_scores_names_the_option() -> None:
    features = random_features(9, 9)
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        compute_cues(features, features, features.grid.centres(), CueSettings(), 100)


def test_a_cell_whose_like_is_elsewhere_too_is_concentrated_by_half() -> None:
    """Two far cells of the target look just like the source cell, all others not at all."""
    descriptors = torch.zeros(3, 1, 20)
    descriptors[2] = 1
    descriptors[:, 0, 4] = descriptors[:, 0, 15] = torch.tensor([1.0, 0, 0])
    target = FeatureMap(descriptors, (10, 200), Grid.over((10, 200), 1, 20))
    source = FeatureMap(torch.tensor([1.0, 0, 0])[:, None, None], (10, 10), Grid.over((10, 10), 1, 1))
    found = compute_cues(source, target, torch.tensor([[44.5, 4.5]]), CueSettings(), 1 << 20)
    assert float(found.peakedness) == pytest.approx(0.5, abs=1e-3)
    assert float(found.score) == pytest.approx(1)


def test_agreement_is_full_where_all_cells_move_alike_and_small_where_each_goes_its_own_way() -> None:
    features = replace(random_features(8, 8), descriptors=torch.full((4, 8, 8), 0.5))  # so that all weigh the same
    shift = torch.tensor([13.0, -4.0])
    together = compute_cues(features, features, features.grid.centres() + shift, CueSettings(), 1 << 20)
    torch.testing.assert_close(together.neighbour_agreement, torch.ones(64))
    scattered = torch.from_numpy(np.random.default_rng(0).uniform(0, 79, (64, 2))).float()
    assert compute_cues(features, features, scattered, CueSettings(), 1 << 20).neighbour_agreement.max() < 0.5


def test_features_that_know_no_sigma_get_a_fixed_one() -> None:
    known, unknown = random_features(4, 4, sigma=0.3), random_features(4, 4)
    known, unknown = (replace(each, calibration=ConfidenceModel(fixed_sigma=0.11)) for each in (known, unknown))
    for source, target, sigma in ((known, known, 0.3), (known, unknown, 0.11), (unknown, known, 0.11)):
        found = compute_cues(source, target, target.grid.centres(), CueSettings(), 1 << 20)
        torch.testing.assert_close(found.sigma, torch.full((16,), sigma))
