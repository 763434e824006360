import torch

from geomatch.geometry.homography import apply_homography, square_corners
from geomatch.training.letterbox import inside, letterbox_homography


def test_letterbox_homography_edges() -> None:
    homography = letterbox_homography((60, 100), 50)
    outer = apply_homography(
        homography, square_corners(50) + torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    )
    expected = torch.tensor([[-0.5, -20.5], [99.5, -20.5], [99.5, 79.5], [-0.5, 79.5]], dtype=torch.float64)
    torch.testing.assert_close(outer, expected)


def test_inside_includes_half_a_pixel() -> None:
    points = torch.tensor([[-0.5, 0], [-0.6, 0], [9.5, 4.5], [9.6, 4], [9, 4.6], [3, 3]])
    assert inside(points, (5, 10)).tolist() == [True, False, True, False, False, True]
