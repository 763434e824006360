from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from geomatch.datasets.benchmarks.known_warps import LONGER_SIDE, VIEW_SIDE, WARPS, WarpFamily
from geomatch.datasets.pairs import AnnotatedPair, PairErrors
from geomatch.errors import InputError


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two smooth pictures, one larger than the benchmark takes and in a folder of its own."""
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (300, 400)), ("sub/b.png", (700, 900))):
        picture = gaussian_filter(rng.random((*size, 3)), (12, 12, 0))
        picture = (255 * (picture - picture.min()) / np.ptp(picture)).astype(np.uint8)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / name)
    return tmp_path


def load(root: Path) -> list[AnnotatedPair]:
    return WARPS.load(root, "test", PairErrors())


def test_load_gives_two_pairs_of_bounded_size(photographs: Path) -> None:
    pairs = load(photographs)
    assert [pair.category for pair in pairs] == [*WarpFamily, *WarpFamily]
    assert pairs[0].source.load().shape == (3, 300, 400)
    assert max(pairs[2].source.load().shape) == LONGER_SIDE
    assert pairs[2].target.load().shape == (3, VIEW_SIDE, VIEW_SIDE)


def test_keypoints_show_same_colour(photographs: Path) -> None:
    for pair in load(photographs):
        seen = [
            np.stack(
                [map_coordinates(channel, points.T[::-1], order=1) for channel in image.load().numpy().astype(float)]
            )
            for image, points in ((pair.source, pair.source_points), (pair.target, pair.target_points))
        ]
        assert len(pair.source_points) > 50
        assert np.abs(seen[0] - seen[1]).max() < 3


def test_spline_bends_and_homography_does_not(photographs: Path) -> None:
    """Four points decide a homography; it then explains all others, but not those of the spline."""
    for pair, straight in zip(load(photographs), (True, False) * 2, strict=True):
        homogeneous = np.c_[pair.target_points, np.ones(len(pair.target_points))]
        (x, y), (u, v, w) = pair.source_points.T, homogeneous.T
        zero = np.zeros_like(x)
        rows = np.stack((u, v, w, zero, zero, zero, -x * u, -x * v, -x), 1)
        rows = np.concatenate((rows, np.stack((zero, zero, zero, u, v, w, -y * u, -y * v, -y), 1)))
        scale = np.abs(rows).max(axis=0).clip(1)
        mapped = homogeneous @ (np.linalg.svd(rows / scale)[2][-1] / scale).reshape(3, 3).T
        error = np.abs(mapped[:, :2] / mapped[:, 2:] - pair.source_points).max()
        assert (error < 0.01) == straight


def test_view_depends_on_image_name_alone(photographs: Path) -> None:
    before = load(photographs)[0]
    (photographs / "sub" / "b.png").unlink()
    after = load(photographs)[0]
    assert torch.equal(before.target.load(), after.target.load())
    assert (before.source_points == after.source_points).all()


def test_load_names_empty_folder_and_damaged_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photographs in"):
        load(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.png: damaged or not an image"):
        load(tmp_path)
