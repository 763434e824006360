import math
from dataclasses import replace

import torch

from geomatch.correspondence import ConfidenceModel
from geomatch.matching.affine_consistency.affine import AffineConsistency
from geomatch.matching.affine_consistency.moving_least_squares import moving_least_squares
from geomatch.matching.confidence import CueSettings, compute_cues, match_probability
from geomatch.matching.context import MatchContext
from geomatch.matching.hough import HoughVoting
from geomatch.matching.similarity import Similarity
from tests.conftest import random_features

MEMORY = 1 << 30


def test_each_cell_goes_where_similarity_less_the_toll_of_leaving_its_map_is_highest() -> None:
    source, target = random_features(6, 7, sigma=0.1), random_features(7, 6, seed=1, sigma=0.1)
    method = AffineConsistency(weight=0.5, doubt=1.0, around=0.2, tolerance=0.3, reach=0.2)
    landing = HoughVoting()(MatchContext(source, target, MEMORY))[0].positions
    likely = match_probability(compute_cues(source, target, landing, CueSettings(), MEMORY), source.calibration) ** 2
    side = max(target.image_size)
    taken = moving_least_squares(source.grid, landing / side, likely, 0.2 * 7)
    cells, centres = source.grid.cells().tolist(), (target.grid.centres() / side).tolist()
    found = method.partners(source, target, landing, Similarity.of(source, target), MEMORY)
    coherences = set()
    for i, here in enumerate(cells):
        near = [
            math.exp(-(math.dist(here, there) ** 2) / (2 * 1.4**2)) * float(p)
            for there, p in zip(cells, likely, strict=True)
        ]
        follows = [
            math.dist(one, other) < 0.3 for one, other in zip((landing / side).tolist(), taken.tolist(), strict=True)
        ]
        coherence = sum(n for n, does in zip(near, follows, strict=True) if does) / sum(near)
        coherences.add(round(coherence, 2))
        scores = []
        for j, there in enumerate(centres):
            far = math.dist(taken[i].tolist(), there) ** 2
            similarity = float(source.descriptors.flatten(1)[:, i] @ target.descriptors.flatten(1)[:, j])
            scores.append(similarity - 0.5 * coherence * far / (far + 0.04))
        assert int(found[i]) == scores.index(max(scores))
    assert len(coherences) > 3


def test_a_cell_that_looks_like_another_place_goes_with_those_around_it() -> None:
    target = random_features(12, 12, sigma=0.1)
    astray = 5 * 12 + 4
    descriptors = target.descriptors.clone()
    elsewhere = descriptors[:, 9, 10]
    descriptors[:, 5, 4] = torch.nn.functional.normalize(descriptors[:, 5, 4] + 1.1 * elsewhere, dim=0)
    source = type(target)(**{**target.__dict__, "descriptors": descriptors})
    voted = HoughVoting(weight=0.0)(MatchContext(source, target, MEMORY))[0].positions
    assert int(target.grid.nearest(voted)[astray]) == 9 * 12 + 10
    placed = AffineConsistency().partners(source, target, voted, Similarity.of(source, target), MEMORY)
    assert int(placed[astray]) == astray


def test_little_memory_changes_nothing() -> None:
    source, target = random_features(6, 7, sigma=0.1), random_features(7, 6, seed=1, sigma=0.1)
    little = 8 * 4 * 42 * 42 - 1
    assert Similarity.of(source, target).kept(little).whole is None
    assert Similarity.of(source, target).kept(little + 1).whole is not None
    landing = HoughVoting()(MatchContext(source, target, MEMORY))[0].positions
    compared = Similarity.of(source, target)
    torch.testing.assert_close(
        AffineConsistency().partners(source, target, landing, compared, little),
        AffineConsistency().partners(source, target, landing, compared.kept(MEMORY).back.back, MEMORY),
    )


def test_coherence_judges_by_the_features_own_calibration() -> None:
    """Other constants weigh the matches around a cell otherwise, so cells go elsewhere."""
    source, target = random_features(9, 9, sigma=0.1), random_features(9, 9, seed=1, sigma=0.1)
    landing = HoughVoting()(MatchContext(source, target, MEMORY))[0].positions
    other = replace(source, calibration=ConfidenceModel(temperature=1.0, peakedness_weight=40.0))
    compared = Similarity.of(source, target)
    method = AffineConsistency(doubt=0.5)
    taken = [method.partners(each, target, landing, compared, MEMORY) for each in (source, other)]
    assert not torch.equal(*taken)
