import math
from dataclasses import replace

import torch

from geomatch.correspondence import ConfidenceModel
from geomatch.matching.affine_consistency.affine import AffineConsistency
from geomatch.matching.affine_consistency.moving_least_squares import moving_least_squares
from geomatch.matching.base import MatchContext
from geomatch.matching.confidence import CueSettings, compute_cues, match_probability
from geomatch.matching.hough import HoughVoting
from tests.conftest import random_features

MEMORY = 1 << 30


def test_affine_partners_equal_a_slow_loop() -> None:
    source, target = random_features(6, 7, sigma=0.1), random_features(7, 6, seed=1, sigma=0.1)
    context = MatchContext(source, target, MEMORY)
    matcher = AffineConsistency(weight=0.5, doubt=1.0, around=0.2, tolerance=0.3, reach=0.2)
    points = HoughVoting()(context)[0].positions
    cues = compute_cues(context, points, CueSettings(), context.similarity)
    probability = match_probability(cues, source.calibration.alone) ** 2
    side = max(target.image_size)
    predicted = moving_least_squares(source.grid, points / side, probability, 0.2 * 7)
    cells, centres = source.grid.cells().tolist(), (target.grid.centres() / side).tolist()
    found = matcher.partners(context, points)
    consistencies = set()
    for i, here in enumerate(cells):
        near = [
            math.exp(-(math.dist(here, there) ** 2) / (2 * 1.4**2)) * float(p)
            for there, p in zip(cells, probability, strict=True)
        ]
        follows = [
            math.dist(one, other) < 0.3 for one, other in zip((points / side).tolist(), predicted.tolist(), strict=True)
        ]
        consistency = sum(n for n, does in zip(near, follows, strict=True) if does) / sum(near)
        consistencies.add(round(consistency, 2))
        scores = []
        for j, there in enumerate(centres):
            far = math.dist(predicted[i].tolist(), there) ** 2
            similarity = float(source.descriptors.flatten(1)[:, i] @ target.descriptors.flatten(1)[:, j])
            scores.append(similarity - 0.5 * consistency * far / (far + 0.04))
        assert int(found[i]) == scores.index(max(scores))
    assert len(consistencies) > 3


def test_affine_moves_an_outlier_to_its_neighbours_map() -> None:
    target = random_features(12, 12, sigma=0.1)
    astray = 5 * 12 + 4
    descriptors = target.descriptors.clone()
    elsewhere = descriptors[:, 9, 10]
    descriptors[:, 5, 4] = torch.nn.functional.normalize(descriptors[:, 5, 4] + 1.1 * elsewhere, dim=0)
    source = type(target)(**{**target.__dict__, "descriptors": descriptors})
    context = MatchContext(source, target, MEMORY)
    voted = HoughVoting(weight=0.0)(context)[0].positions
    assert int(target.grid.nearest(voted)[astray]) == 9 * 12 + 10
    assert int(AffineConsistency().partners(context, voted)[astray]) == astray


def test_affine_is_the_same_under_little_memory() -> None:
    source, target = random_features(6, 7, sigma=0.1), random_features(7, 6, seed=1, sigma=0.1)
    little = 8 * 4 * 42 * 42 - 1
    assert MatchContext(source, target, little).stored_similarity.stored is None
    assert MatchContext(source, target, little + 1).stored_similarity.stored is not None
    streamed, stored = MatchContext(source, target, little), MatchContext(source, target, MEMORY)
    forward, backward = HoughVoting()(stored)
    partners = AffineConsistency().partners
    torch.testing.assert_close(partners(streamed, forward.positions), partners(stored, forward.positions))
    torch.testing.assert_close(
        partners(streamed.reversed, backward.positions), partners(stored.reversed, backward.positions)
    )


def test_affine_uses_the_features_own_calibration() -> None:
    """Other constants weigh the matches around a cell otherwise, so cells go elsewhere."""
    source, target = random_features(9, 9, sigma=0.1), random_features(9, 9, seed=1, sigma=0.1)
    points = HoughVoting()(MatchContext(source, target, MEMORY))[0].positions
    weights = replace(source.calibration.alone, temperature=1.0, peakedness=40.0)
    other = replace(source, calibration=ConfidenceModel(weights))
    matcher = AffineConsistency(doubt=0.5)
    found = [matcher.partners(MatchContext(each, target, MEMORY), points) for each in (source, other)]
    assert not torch.equal(*found)
