"""What is written of a match of boxes."""

import json
from dataclasses import replace

import torch

from geomatch.correspondence import RegionMatches
from geomatch.matching.matcher import Matcher
from geomatch.record import flow_files
from tests.conftest import random_features


def test_matched_regions_are_written_best_first_and_those_without_a_match_are_not() -> None:
    regions = RegionMatches(
        torch.tensor([[-0.5, 1.25, 9.5, 20.123], [3.0, 4, 5, 6], [0.0, 0, 1, 1]]),
        torch.tensor([[2.0, 3, 14.5, 39.5], [7.0, 8, 9, 10], [5.0, 5, 6, 6]]),
        torch.tensor([12.345678, 0.25, 0.0]),
    )
    features = random_features(4, 5)
    plain = Matcher.named("nn")(features, features)
    assert "regions.json" not in flow_files(plain, ["flo"])
    files = flow_files(replace(plain, regions=regions), ["flo"])
    assert json.loads(files["regions.json"]) == [
        {"source": [-0.5, 1.25, 9.5, 20.12], "target": [2, 3, 14.5, 39.5], "score": 12.3457},
        {"source": [3, 4, 5, 6], "target": [7, 8, 9, 10], "score": 0.25},
    ]
