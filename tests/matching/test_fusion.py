import math
from dataclasses import replace

import pytest
import torch

from geomatch.correspondence import ConfidenceModel
from geomatch.errors import InputError
from geomatch.matching.base import MatchContext
from geomatch.matching.confidence import CueSettings, compute_cues, match_probability
from geomatch.matching.fusion import MEMBERS, Fusion
from geomatch.matching.load import load_matcher
from tests.conftest import random_features

MEMORY = 1 << 30


def test_fusion_of_one_matcher_is_that_matcher() -> None:
    source, target = random_features(8, 9, sigma=0.1), random_features(7, 6, seed=1, sigma=0.1)
    for found, alone in zip(
        Fusion(of="hough")(MatchContext(source, target, MEMORY)),
        MEMBERS["hough"](MatchContext(source, target, MEMORY)),
        strict=True,
    ):
        torch.testing.assert_close(found.positions, alone.positions, atol=1e-4, rtol=0)


@pytest.mark.parametrize("trust", [0.0, 2.0])
def test_fusion_equals_a_slow_loop(trust: float) -> None:
    source, target = random_features(6, 7, sigma=0.1), random_features(7, 6, seed=1, sigma=0.1)
    context = MatchContext(source, target, MEMORY)
    names = ("nn", "hough", "dsp")
    answers = [MEMBERS[name](context)[0].at(source.grid.centres()) for name in names]
    probability = [
        match_probability(compute_cues(context, each, CueSettings(), context.similarity), source.calibration.alone)
        for each in answers
    ]
    near = 0.1 * max(target.image_size)
    agreements = []
    for answer in answers:
        agreeing = [
            p for p, one, other in zip(probability[0], answers[0], answer, strict=True) if math.dist(one, other) <= near
        ]
        agreements.append(float(sum(agreeing) / probability[0].sum()))
    assert agreements[0] == pytest.approx(1)
    found = Fusion(of=",".join(names), around=1, trust=trust, doubt=0.5)(MatchContext(source, target, MEMORY))[0]
    chosen = []
    for y in range(6):
        for x in range(7):
            near_cells = [
                v * 7 + u for v in range(max(0, y - 1), min(6, y + 2)) for u in range(max(0, x - 1), min(7, x + 2))
            ]
            means = [float(torch.logit(each)[near_cells].mean()) for each in probability]
            means = [
                means[0],
                *(mean + trust * (agreement - 0.5) for mean, agreement in zip(means[1:], agreements[1:], strict=True)),
            ]
            best = means.index(max(means))
            chosen.append(best)
            torch.testing.assert_close(found.positions[y * 7 + x], answers[best][y * 7 + x])
    assert len(set(chosen)) > 1  # else nothing was fused


def test_fusion_refuses_unknown_matchers() -> None:
    with pytest.raises(InputError, match="no matcher 'pf'"):
        load_matcher("fusion", {"of": "hough,pf"})


def test_fusion_uses_the_features_own_calibration() -> None:
    """With constants under which peakedness decides, other cells follow the second method."""
    source, target = random_features(9, 9, sigma=0.1), random_features(9, 9, seed=1, sigma=0.1)
    weights = replace(source.calibration.alone, agreement=0.01, peakedness=40.0)
    other = replace(source, calibration=ConfidenceModel(weights))
    method = Fusion(of="nn,hough", around=0, trust=0)
    ours, theirs = (method(MatchContext(each, target, MEMORY))[0].positions for each in (source, other))
    assert not torch.equal(ours, theirs)
