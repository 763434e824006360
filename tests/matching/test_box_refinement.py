import math

import numpy as np
import torch

from geomatch.matching.proposal_flow.box_refinement import refined_boxes


def problem() -> tuple[torch.Tensor, ...]:
    """Boxes (17, 4), what each of them looks like, the partners of 9 others, and which boxes are near these."""
    random = np.random.default_rng(0)
    corner, size = random.uniform(0, 60, (17, 2)), random.uniform(10, 40, (17, 2))
    boxes = torch.from_numpy(np.hstack((corner, corner + size))).float()
    looks = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(17, 6))).float(), dim=1)
    partners = torch.from_numpy(random.integers(0, 17, 9))
    return boxes, looks, partners, torch.from_numpy(random.random((9, 17)) < 0.4)


def test_refined_boxes_equal_a_slow_loop() -> None:
    boxes, looks, partners, near = problem()
    seen, own = torch.from_numpy(np.random.default_rng(1).uniform(0, 1, (9, 17))).float(), looks @ looks.mT
    found = refined_boxes(boxes, partners, near, seen, own, 0.2)
    for row, partner in enumerate(partners.tolist()):
        around = sorted({partner, *near[row].nonzero()[:, 0].tolist()})
        means = []
        for similarities in (seen[row], own[partner]):
            weights = [math.exp(similarities[k] / 0.2) for k in around]
            sides = boxes[around].double().numpy()
            form = np.hstack((sides[:, :2] + sides[:, 2:], 2 * np.log(sides[:, 2:] - sides[:, :2])))
            means.append(np.average(form / 2, axis=0, weights=weights))
        change = means[0] - means[1]
        left, top, right, bottom = boxes[partner].tolist()
        centre = (left + right) / 2 + change[0], (top + bottom) / 2 + change[1]
        half = (right - left) / 2 * math.exp(change[2]), (bottom - top) / 2 * math.exp(change[3])
        expected = centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]
        np.testing.assert_allclose(found[row], expected, atol=1e-3)


def test_refined_boxes_leave_equal_partners_in_place() -> None:
    boxes, looks, partners, near = problem()
    own = looks @ looks.mT
    torch.testing.assert_close(refined_boxes(boxes, partners, near, own[partners], own, 0.1), boxes[partners])


def test_refined_box_is_half_way_between_equal_candidates() -> None:
    """Partner and neighbour have nothing in common, so that the cold softmax leaves the partner to itself."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 2, 14, 42]])
    found = refined_boxes(
        boxes, torch.tensor([0]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([[0.7, 0.7]]), torch.eye(2), 0.01
    )
    torch.testing.assert_close(found, torch.tensor([[2.0, 3.5, 12, 23.5]]))


def test_refined_boxes_keep_positive_sides() -> None:
    boxes, looks, partners, near = problem()
    seen, own = torch.from_numpy(np.random.default_rng(2).uniform(-1, 1, (9, 17))).float(), looks @ looks.mT
    torch.testing.assert_close(refined_boxes(boxes, partners, near & False, seen, own, 0.1), boxes[partners])
    moved = refined_boxes(boxes, partners, near, seen, own, 1e-3)
    assert (moved[:, 2:] > moved[:, :2]).all()
