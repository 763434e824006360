import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.transfer.suggest import suggest


def directions(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)), dim=1)


def literal_choice(images: Tensor, count: int, annotated: Tensor) -> list[tuple[int, float]]:
    """The sum of the docstring, image by image."""
    chosen: list[tuple[int, float]] = []
    for _ in range(count):
        gains = []
        for candidate in range(len(images)):
            gain = 0.0
            for image in images:
                known = [*annotated, *(images[place] for place, _ in chosen)]
                before = max((float(image @ each) for each in known), default=-1.0)
                gain += max(0.0, float(image @ images[candidate]) - before)
            gains.append(-1.0 if candidate in [place for place, _ in chosen] else gain)
        chosen.append((int(np.argmax(gains)), max(gains)))
    return chosen


@pytest.mark.parametrize("annotated", [0, 3])
def test_suggest_equals_the_literal_sum(annotated: int) -> None:
    images, known = directions(12, 0), directions(3, 1)[:annotated]
    expected = literal_choice(images, 5, known)
    found = suggest(images, 5, known)
    assert [each.place for each in found] == [place for place, _ in expected]
    np.testing.assert_allclose([each.gain for each in found], [gain for _, gain in expected], atol=1e-5)


def groups() -> Tensor:
    """Three images within 20 degrees, two that are equal, and one: at right angles to each other."""
    turn = torch.tensor([-10.0, 0, 10]).deg2rad()
    near = torch.stack((turn.cos(), turn.sin(), 0 * turn, 0 * turn), dim=1)
    return torch.cat((near, torch.eye(4)[[2, 2, 3]]))


def test_suggest_from_nothing_takes_the_middle_of_the_largest_group() -> None:
    first, second, third = suggest(groups(), 3)
    assert (first.place, first.nearest, first.stands_for) == (1, None, 6)
    assert (second.place, second.nearest, second.stands_for) == (3, 1, 2)
    assert (third.place, third.stands_for) == (5, 1)


def test_suggest_leaves_out_what_is_like_the_annotated() -> None:
    known = groups()[1:2]
    one, two = suggest(groups(), 2, known)
    assert (one.place, one.nearest) == (3, 6)  # the first of those annotated
    assert two.place == 5


def test_suggest_gives_every_image_once_and_the_first_of_equals() -> None:
    assert [each.place for each in suggest(torch.ones(3, 1), 9)] == [0, 1, 2]
