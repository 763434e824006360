import numpy as np
import torch

from geomatch.correspondence import Correspondence
from geomatch.visualize.match_pictures.carried import chosen_points, draw_lines, draw_positions, position_colours

SIZE = (40, 60)


def shifted(valid: torch.Tensor) -> Correspondence:
    flow = torch.tensor([10.0, 5.0])[:, None, None].expand(2, *SIZE).contiguous()
    return Correspondence(flow, torch.full(SIZE, 0.5), valid, SIZE, (60, 90))


def test_chosen_points_are_the_most_confident_valid_of_each_part() -> None:
    confidence = np.random.default_rng(0).random(SIZE).astype(np.float32)
    valid = np.ones(SIZE, bool)
    valid[:, 30:] = False
    points = chosen_points(confidence, valid).astype(int)
    assert (points[:, 0] < 30).all()
    assert len(points) == 6 * 5  # squares of 7 pixels: six in a column, five that begin before column 30
    first = confidence[:7, :7]
    assert tuple(points[0][::-1]) == np.unravel_index(first.argmax(), first.shape)
    assert chosen_points(confidence, np.zeros(SIZE, bool)).shape == (0, 2)


def test_position_colours_differ_and_are_continuous() -> None:
    y, x = np.indices((9, 9)) / 8
    colours = position_colours(x, y)
    assert len(np.unique(colours.reshape(-1, 3).round(), axis=0)) == 81
    assert np.abs(np.diff(colours, axis=1)).max() < 70


def test_positions_are_carried_along_the_flow() -> None:
    """A black source shows the target's colour at its match, and grey where it is not valid."""
    valid = torch.ones(SIZE, dtype=torch.bool)
    valid[:, :30] = False
    black = torch.zeros(3, *SIZE, dtype=torch.uint8), torch.zeros(3, 60, 90, dtype=torch.uint8)
    picture = np.asarray(draw_positions(*black, shifted(valid))).astype(int)
    target, source = picture[16:416, 16:616], picture[16:416, 632:1232]
    at = (20, 40)  # of the source; its match is (25, 50)
    seen = source[round(at[0] * 10 + 5), round(at[1] * 10 + 5)]
    expected = target[round(25 * 400 / 60 + 3), round(50 * 400 / 60 + 3)]
    assert np.abs(seen - expected).max() <= 12
    assert np.ptp(source[205, 105]) == 0


def test_lines_join_matches_only() -> None:
    white = torch.full((3, *SIZE), 255, dtype=torch.uint8), torch.full((3, 60, 90), 255, dtype=torch.uint8)
    drawn = [
        np.asarray(draw_lines(*white, shifted(torch.full(SIZE, value, dtype=torch.bool)))) for value in (False, True)
    ]
    assert (drawn[0] == 255).all()
    assert (drawn[1] < 200).any()
