import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomatch.correspondence import ConfidenceModel, CueWeights, FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.geometry.grid import Grid
from geomatch.matching.base import MatchContext, TargetPoints
from geomatch.matching.confidence import (
    CellMatches,
    CueSettings,
    MatchCues,
    PairCues,
    compute_cues,
    compute_pair_cues,
    confidence_both_ways,
    match_probability,
    matches_both_ways,
    probability_in_pair,
)
from tests.conftest import random_features

SHARE = st.floats(0, 1)
SIGMA = st.floats(0.05, 2)
ALONE = ConfidenceModel().alone


def cues_of(*values: float) -> MatchCues:
    """In the order of `MatchCues`."""
    return MatchCues(*(torch.tensor(value, dtype=torch.float64) for value in values))


def cues_between(source: FeatureMap, target: FeatureMap, points: torch.Tensor, max_bytes: int = 1 << 20) -> MatchCues:
    context = MatchContext(source, target, max_bytes)
    return compute_cues(context, points, CueSettings(), context.similarity)


def test_match_probability_includes_the_papers_posterior() -> None:
    score, sigma, ignored = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.2, 0.3, 0.4]), torch.rand(3)
    same, different = torch.exp(score / sigma), torch.exp((1 - score) / sigma)  # exp((1 - loss) / sigma)
    paper = CueWeights(temperature=1, inverse_sigma=0, peakedness=0, agreement=0, hubness=0, prior=0)
    torch.testing.assert_close(
        match_probability(MatchCues(score, sigma, ignored, ignored, ignored), paper), same / (same + different)
    )


def test_match_probability_worked_by_hand() -> None:
    """(2 * .9 - 1) / (2 * .2) + .1 / .2 + 3 * .5 + 2 * .25 - .5 * 2 - 3 = 2 + .5 + 1.5 + .5 - 1 - 3 = .5"""
    weights = CueWeights(temperature=2, inverse_sigma=0.1, peakedness=3, agreement=2, hubness=0.5, prior=-3)
    found = float(match_probability(cues_of(0.9, 0.2, 0.5, 0.25, 2.0), weights))
    assert found == pytest.approx(1 / (1 + math.exp(-0.5)))


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
    low, high = (float(match_probability(each, ALONE)) for each in ((after, before) if against else (before, after)))
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


PAIRWISE = ConfidenceModel(in_pair=CueWeights(12.0, 0.2, 3.0, 2.0, 0.5, -8.0), consistency=3.0, extent=9.0, cells=0.5)
NEUTRAL = ConfidenceModel(in_pair=ALONE, consistency=0.0, extent=0.0)


def matched_pair(model: ConfidenceModel) -> tuple[MatchContext, TargetPoints, TargetPoints]:
    """Two images of different size whose cells match at random places."""
    random = np.random.default_rng(0)
    source, target = (
        replace(random_features(height, width, cell=9, seed=seed, sigma=0.2), calibration=model)
        for height, width, seed in ((6, 8, 0), (7, 5, 1))
    )

    def points(start: FeatureMap, end: FeatureMap) -> TargetPoints:
        cells = random.integers(0, end.grid.height * end.grid.width, start.grid.height * start.grid.width)
        return TargetPoints(start.grid, end.grid.centres()[cells] + 0.3)

    return MatchContext(source, target), points(source, target), points(target, source)


def slow_pair_cues(matches: CellMatches, model: ConfidenceModel, tolerance: float) -> tuple[float, float]:
    """Consistency and extent of one direction, one cell after the other."""
    total = consistent = 0.0
    sums, squares = [0.0, 0.0], [0.0, 0.0]
    for p, error, position in zip(
        match_probability(matches.cues, model.alone).tolist(),
        matches.cycle_error.tolist(),
        matches.positions.tolist(),
        strict=True,
    ):
        total += p
        consistent += p if error <= tolerance else 0
        sums = [each + p * at for each, at in zip(sums, position, strict=True)]
        squares = [each + p * at * at for each, at in zip(squares, position, strict=True)]
    variances = [two / total - (one / total) ** 2 for one, two in zip(sums, squares, strict=True)]
    return consistent / total, math.sqrt(max(variances))


def test_compute_pair_cues_equals_a_slow_loop() -> None:
    settings = CueSettings(cycle_tolerance=0.4)
    both_ways = matches_both_ways(*matched_pair(PAIRWISE), settings)
    found = compute_pair_cues(both_ways, PAIRWISE.alone, settings)
    there, back = (slow_pair_cues(each, PAIRWISE, 0.4) for each in both_ways)
    assert 0 < there[0] < 1
    assert float(found.consistency) == pytest.approx((there[0] + back[0]) / 2, rel=1e-4)
    assert float(found.extent) == pytest.approx((there[1] + back[1]) / 2, rel=1e-4)


def test_matches_both_ways_measures_cycles_and_positions() -> None:
    context, forward, backward = matched_pair(NEUTRAL)
    there, back = matches_both_ways(context, forward, backward, CueSettings())
    for matches, ahead, behind, features in (
        (there, forward, backward, context.source),
        (back, backward, forward, context.target),
    ):
        side = max(features.image_size)
        torch.testing.assert_close(matches.positions * side, features.grid.centres())
        for cell, start in enumerate(features.grid.centres()):
            returned = behind.at(ahead.positions[cell : cell + 1])[0]
            assert float(matches.cycle_error[cell]) * side == pytest.approx(math.dist(returned, start), abs=1e-3)


def test_confidence_both_ways_is_symmetric() -> None:
    context, forward, backward = matched_pair(PAIRWISE)
    there, back = confidence_both_ways(context, forward, backward, CueSettings())
    swapped = MatchContext(context.target, context.source)
    back_again, there_again = confidence_both_ways(swapped, backward, forward, CueSettings())
    torch.testing.assert_close(there_again, there)
    torch.testing.assert_close(back_again, back)


def test_confidence_both_ways_takes_the_pair_into_account() -> None:
    context, forward, backward = matched_pair(PAIRWISE)
    both_ways = matches_both_ways(context, forward, backward, CueSettings())
    pair = compute_pair_cues(both_ways, PAIRWISE.alone, CueSettings())
    for found, matches in zip(confidence_both_ways(context, forward, backward, CueSettings()), both_ways, strict=True):
        of_match = torch.logit(match_probability(matches.cues, PAIRWISE.in_pair).double())
        log_odds = of_match + 3 * float(pair.consistency) + 9 * float(pair.extent) + 0.5 * math.log(0.048 * 0.035) / 2
        torch.testing.assert_close(found.double(), torch.sigmoid(log_odds), atol=1e-5, rtol=1e-4)


def test_neutral_pair_constants_leave_the_probability_of_each_match() -> None:
    context, forward, backward = matched_pair(NEUTRAL)
    both_ways = matches_both_ways(context, forward, backward, CueSettings())
    for found, matches in zip(confidence_both_ways(context, forward, backward, CueSettings()), both_ways, strict=True):
        assert torch.equal(found, match_probability(matches.cues, ALONE))


@given(st.tuples(SHARE, SIGMA, SHARE, SHARE, st.floats(-3, 3)), SHARE, st.floats(0, 0.5), SHARE)
def test_probability_in_pair_is_monotonic_in_every_cue(
    values: tuple[float, ...], consistency: float, extent: float, more: float
) -> None:
    def probability(*values: float, pair: tuple[float, float, float]) -> float:
        return float(probability_in_pair(cues_of(*values), PairCues(*map(torch.tensor, pair)), PAIRWISE))

    score, *others = values
    before = probability(*values, pair=(consistency, extent, 0))
    for after in (
        probability(score + more, *others, pair=(consistency, extent, 0)),
        probability(*values, pair=(consistency + more, extent, 0)),
        probability(*values, pair=(consistency, extent + more, 0)),
        probability(*values, pair=(consistency, extent, more)),
    ):
        assert 0 <= before <= after <= 1


def test_pair_cues_of_a_found_and_of_a_lost_object() -> None:
    """All cells return to themselves and lie evenly; or only those of one column count, and none returns."""
    grid = Grid.over((40, 40), 40, 40)
    even = MatchCues(*(torch.full((1600,), value) for value in (0.5, 0.2, 0.5, 0.5, 0.0)))
    found = CellMatches(even, torch.zeros(1600), grid.centres() / 40)
    pair = compute_pair_cues((found, found), ALONE, CueSettings())
    assert float(pair.consistency) == pytest.approx(1)
    assert float(pair.extent) == pytest.approx(12**-0.5, rel=1e-3)
    assert float(pair.cells) == pytest.approx(math.log(1.6))
    column = replace(even, score=(grid.cells()[:, 0] == 7).float(), sigma=torch.full((1600,), 0.02))
    lost = CellMatches(column, torch.full((1600,), 0.3), grid.centres() * torch.tensor([1.0, 0.5]) / 40)
    pair = compute_pair_cues((lost, lost), replace(ALONE, temperature=1, inverse_sigma=0), CueSettings())
    assert float(pair.consistency) == 0
    assert float(pair.extent) == pytest.approx(0.5 * 12**-0.5, rel=1e-3)
