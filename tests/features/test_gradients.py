"""What SIFT and HOG share."""

import sys
from pathlib import Path

import pytest
import torch

from geomatch.errors import InputError
from geomatch.features.base import FeatureExtractor
from geomatch.features.load import load_features
from geomatch.matching.proposal_flow.selective_search import selective_search
from tests.features.test_extractors import photograph

CPU = torch.device("cpu")
SIZES = {"sift": 128, "hog": 31}

both = pytest.mark.parametrize("name", SIZES)


def features(name: str, working_size: int = 128) -> FeatureExtractor:
    return load_features(name, working_size=working_size, device=CPU)


@both
@pytest.mark.parametrize("size", [(96, 96), (313, 471), (64, 640), (257, 60)])
def test_gradients_lie_evenly_on_an_image_of_any_size(name: str, size: tuple[int, int]) -> None:
    found = features(name)(photograph(*size))
    assert found.image_size == size
    assert found.descriptors.dtype == torch.float32
    assert found.descriptors.shape[0] == SIZES[name]
    torch.testing.assert_close(found.descriptors.norm(dim=0), torch.ones(found.grid.shape))
    first, last = found.grid.centres()[0] + 0.5, torch.tensor(size[::-1]) - 0.5 - found.grid.centres()[-1]
    pitch = torch.tensor(found.grid.pitch)
    assert (first > 0).all()
    assert (last > 0).all()
    assert (first < pitch).all()
    assert (last < 1.2 * pitch).all()


@both
def test_gradients_scale_with_the_image(name: str) -> None:
    small, large = features(name)(photograph(96, 128)), features(name)(photograph(192, 256))
    assert small.grid.shape == large.grid.shape
    assert large.grid.pitch == (2 * small.grid.pitch[0], 2 * small.grid.pitch[1])
    assert (small.descriptors * large.descriptors).sum(dim=0).min() > 0.97


@both
@pytest.mark.parametrize("size", [(1, 1), (300, 1), (1, 300), (50, 80)])
def test_gradients_without_texture_are_uniform(name: str, size: tuple[int, int]) -> None:
    found = features(name)(torch.full((3, *size), 77, dtype=torch.uint8))
    uniform = torch.full((SIZES[name], *found.grid.shape), SIZES[name] ** -0.5)
    torch.testing.assert_close(found.descriptors, uniform)


@both
def test_gradients_of_an_image_one_pixel_wide(name: str) -> None:
    image = torch.randint(0, 256, (3, 300, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = features(name)(image)
    torch.testing.assert_close(found.descriptors.norm(dim=0), torch.ones(found.grid.shape))


@both
def test_gradients_refuse_arguments_and_weights(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} takes no argument; '3' was given"):
        load_features(f"{name}:3", working_size=128, device=CPU)
    with pytest.raises(InputError, match=f"{name} has no weights"):
        load_features(name, working_size=128, device=CPU, weights=Path("some.safetensors"))


def test_gradients_without_opencv_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in SIZES:
        with pytest.raises(InputError, match=rf"{name} needs OpenCV: pip install 'geomatch\[baselines\]'"):
            features(name)
    with pytest.raises(InputError, match=r"selective search needs OpenCV: pip install 'geomatch\[baselines\]'"):
        selective_search(photograph(20, 30))
