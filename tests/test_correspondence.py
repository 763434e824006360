import pytest
import torch

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.geometry.grid import Grid
from tests.conftest import random_features


def flat(flow: torch.Tensor) -> Correspondence:
    size = (flow.shape[1], flow.shape[2])
    return Correspondence(flow, torch.ones(size), torch.ones(size, dtype=torch.bool), size, (50, 50))


def test_points_between_pixels_move_by_the_flow_between_them() -> None:
    flow = torch.zeros(2, 4, 6)
    flow[0] = torch.arange(6) * 10.0
    moved = flat(flow).transfer(torch.tensor([[2.5, 1.0], [0.0, 3.0]]))
    torch.testing.assert_close(moved, torch.tensor([[27.5, 1.0], [0.0, 3.0]]))


def test_a_flow_of_another_size_than_its_source_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Correspondence(torch.zeros(2, 3, 3), torch.ones(3, 3), torch.ones(3, 3).bool(), (4, 4), (4, 4))


def test_descriptors_of_another_size_than_their_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        FeatureMap(torch.zeros(8, 3, 3), (30, 30), Grid.over((30, 30), 4, 4))


def test_upsampled_features_stay_of_unit_length_and_keep_what_was_at_the_centres() -> None:
    features = random_features(4, 5, sigma=0.3)
    fine = features.upsampled(3)  # with an odd factor, every old centre is a new one
    torch.testing.assert_close(fine.descriptors[:, 1::3, 1::3], features.descriptors, atol=1e-5, rtol=0)
    torch.testing.assert_close(fine.descriptors.norm(dim=0), torch.ones(12, 15))
    torch.testing.assert_close(fine.inverse_confidence, torch.full((12, 15), 0.3))


def test_pooled_features_are_means_of_their_cells_and_stand_in_their_middle() -> None:
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
