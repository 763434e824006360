"""Relations of boxes."""

import numpy as np
import torch

from geomatch.geometry.boxes import box_iou
from geomatch.matching.proposal_flow.regions import Regions
from tests.matching.box_problems import SIZES, random_boxes


def test_has_similar_aspect_within_a_given_factor() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 29, 10], [0, 0, 31, 10], [0, 0, 10, 29]])
    regions = Regions.of(boxes, (100, 100))
    assert regions.has_similar_aspect(regions, 3.0)[0].tolist() == [True, True, False, True]


def test_has_similar_aspect_within_a_factor_of_two() -> None:
    square, wide, wider = [0.0, 0, 40, 40], [0.0, 0, 40, 24], [0.0, 0, 40, 20]
    regions = Regions.of(torch.tensor([square, wide, wider]), (100, 100))
    assert regions.has_similar_aspect(regions).tolist() == [
        [True, True, False],
        [True, True, True],
        [False, True, True],
    ]


def test_intersection_over_union_equals_the_metric() -> None:
    boxes = random_boxes(14, SIZES[0], 0)
    first, second = (each.reshape(-1, 4) for each in np.broadcast_arrays(boxes[:, None], boxes))
    found = Regions.of(torch.from_numpy(boxes), SIZES[0]).intersection_over_union()
    np.testing.assert_allclose(found.flatten(), box_iou(first, second), atol=1e-5)
