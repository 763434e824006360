import torch

from geomatch.geometry.homography import apply_homography, square_corners
from geomatch.training.letterbox import inside, whole_view


def test_a_whole_view_shows_the_longer_side_from_edge_to_edge_and_centres_the_other() -> None:
    homography = whole_view((60, 100), 50)
    outer = apply_homography(
        homography, square_corners(50) + torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    )
    expected = torch.tensor([[-0.5, -20.5], [99.5, -20.5], [99.5, 79.5], [-0.5, 79.5]], dtype=torch.float64)
    torch.testing.assert_close(outer, expected)


def test_a_pixel_reaches_half_a_pixel_beyond_its_centre() -> None:
    points = torch.tensor([[-0.5, 0], [-0.6, 0], [9.5, 4.5], [9.6, 4], [9, 4.6], [3, 3]])
    assert inside(points, (5, 10)).tolist() == [True, False, True, False, False, True]
