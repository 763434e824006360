import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.errors import GeomatchError
from geomatch.geometry.grid import Grid
from tests.conftest import random_features


def flat(flow: torch.Tensor | NDArray[np.floating], target_size: tuple[int, int] = (50, 50)) -> Correspondence:
    flow = torch.as_tensor(flow).float()
    size = (flow.shape[1], flow.shape[2])
    return Correspondence(flow, torch.ones(size), torch.ones(size, dtype=torch.bool), size, target_size)


def test_map_points_reads_flow_between_pixels() -> None:
    flow = torch.zeros(2, 4, 6)
    flow[0] = torch.arange(6) * 10.0
    for points in (torch.tensor([[2.5, 1.0], [0.0, 3.0]]), np.array([[2.5, 1.0], [0.0, 3.0]])):
        moved = flat(flow).map_points(points)
        np.testing.assert_allclose(moved.positions, [[27.5, 1.0], [0.0, 3.0]])
        assert (moved.positions.dtype, moved.confidence.dtype) == (np.float64, np.float64)


def test_map_points_takes_none() -> None:
    assert flat(torch.zeros(2, 4, 6)).map_points(np.zeros((0, 2))).positions.shape == (0, 2)


def test_map_points_reads_validity_at_nearest_pixel() -> None:
    found = flat(torch.zeros(2, 40, 60))
    found.confidence[:] = 0.8
    found.valid[:, 11:] = False
    found.confidence[:, 11:] = 0.4
    mapped = found.map_points(np.array([[10.25, 5.0], [10.75, 5.0], [-0.5, 39.5]]))
    assert mapped.valid.tolist() == [True, False, True]
    np.testing.assert_allclose(mapped.confidence, [0.7, 0.5, 0.8], atol=1e-6)


def test_warp_mask_reads_nearest_pixel_and_is_false_outside() -> None:
    mask = np.ones((2, 3), bool)
    mask[0, 1] = False
    x_of_match = np.array([[-0.51, -0.5, 0.49, 0.5, 1.49, 1.5, 2.49, 2.5, np.nan, np.inf]])
    flow = np.stack((x_of_match - np.arange(10), np.zeros((1, 10))))
    expected = [[False, True, True, False, False, True, True, False, False, False]]
    assert flat(flow, (2, 3)).warp_mask(mask).tolist() == expected


def test_warp_mask_equals_a_loop_over_pixels() -> None:
    masks = np.random.default_rng(2).random((3, 6, 8)) < 0.4
    flow = np.random.default_rng(3).uniform(-5, 5, (2, 7, 5)).astype(np.float32)
    looped = np.zeros((3, 7, 5), bool)
    for part, i, j in np.ndindex(looped.shape):
        distances = {
            (math.hypot(j + flow[0, i, j] - x, i + flow[1, i, j] - y), y, x)
            for y in range(-9, 15)
            for x in range(-9, 15)
        }
        _, y, x = min(distances)
        looped[part, i, j] = 0 <= y < 6 and 0 <= x < 8 and masks[part, y, x]
    assert (flat(flow, (6, 8)).warp_mask(masks) == looped).all()
    assert (flat(flow, (6, 8)).warp_mask(masks[0]) == looped[0]).all()


def test_warp_shows_target_in_source_frame() -> None:
    """A source of 3 x 5 pixels sees the target from (1.5, 2) on, halfway between two of its columns."""
    image = torch.arange(3 * 6 * 8, dtype=torch.uint8).reshape(3, 6, 8)
    flow = torch.tensor([1.5, 2.0])[:, None, None].expand(2, 3, 5)
    found = flat(flow, (6, 8))
    found.valid[1, 2] = False
    warped = found.warp(image)
    halfway = (image[:, 2:5, 1:6].float() + image[:, 2:5, 2:7].float()) / 2
    torch.testing.assert_close(warped[:3].float(), halfway, atol=0.51, rtol=0)
    assert warped.dtype == torch.uint8
    assert (warped[3] == 255).tolist() == found.valid.tolist()
    assert warped[3, 1, 2] == 0


def test_warp_in_blocks_equals_warp_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, 9, 7), dtype=torch.uint8, generator=random)
    found = flat(torch.randn(2, 11, 6, generator=random) * 3, (9, 7))
    whole = found.warp(image)
    monkeypatch.setattr("geomatch.correspondence._PIXELS_AT_ONCE", 15)
    assert torch.equal(found.warp(image), whole)


def test_correspondence_refuses_flow_of_another_size() -> None:
    with pytest.raises(GeomatchError, match="does not fit"):
        Correspondence(torch.zeros(2, 3, 3), torch.ones(3, 3), torch.ones(3, 3).bool(), (4, 4), (4, 4))


def test_feature_map_refuses_grid_of_another_size() -> None:
    with pytest.raises(GeomatchError, match="do not fit"):
        FeatureMap(torch.zeros(8, 3, 3), (30, 30), Grid.over((30, 30), 4, 4))


def test_upsampled_keeps_unit_length_and_old_centres() -> None:
    features = random_features(4, 5, sigma=0.3)
    fine = features.upsampled(3)  # with an odd factor, every old centre is a new one
    torch.testing.assert_close(fine.descriptors[:, 1::3, 1::3], features.descriptors, atol=1e-5, rtol=0)
    torch.testing.assert_close(fine.descriptors.norm(dim=0), torch.ones(12, 15))
    torch.testing.assert_close(fine.inverse_confidence, torch.full((12, 15), 0.3))


def test_pooled_averages_cells_about_their_middle() -> None:
    features = random_features(5, 7, sigma=0.2)
    pooled = features.pooled(3)
    assert pooled.grid.shape == (2, 3)
    torch.testing.assert_close(
        pooled.grid.centres()[0], features.grid.centres().reshape(5, 7, 2)[:3, :3].reshape(-1, 2).mean(dim=0)
    )
    mean = features.descriptors[:, 3:5, 6:7].mean(dim=(1, 2))
    torch.testing.assert_close(pooled.descriptors[:, 1, 2], mean / mean.norm())
    assert pooled.inverse_confidence is not None
    torch.testing.assert_close(pooled.inverse_confidence, torch.full((2, 3), 0.2))
