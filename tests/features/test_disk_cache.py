"""Features kept on disk: equal to fresh ones, with the extractor's own calibration."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.errors import GeomatchWarning, InputError
from geomatch.features.caches.disk import CachedFeatures
from tests.stub import Colours, picture, to_tensor

IMAGE = to_tensor(picture(24, 32))


class Counting(Colours):
    """Counts its calls, and has a calibration of its own."""

    calibration = ConfidenceModel(extent=1.25)

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Tensor) -> FeatureMap:
        self.calls += 1
        return super().__call__(image)


def cached(folder: Path) -> tuple[Counting, CachedFeatures]:
    extractor = Counting()
    return extractor, CachedFeatures(extractor, folder / "cache", torch.device("cpu"))


def test_cached_features_are_extracted_once(tmp_path: Path) -> None:
    first, fresh = cached(tmp_path)
    second, read = cached(tmp_path)
    found, again = fresh(IMAGE), read(IMAGE)
    assert (first.calls, second.calls) == (1, 0)
    assert torch.equal(found.descriptors, again.descriptors)
    assert found.grid == again.grid
    torch.testing.assert_close(found.descriptors, Colours()(IMAGE).descriptors, atol=1e-3, rtol=0)


def test_cached_features_keep_the_calibration(tmp_path: Path) -> None:
    for _ in range(2):  # extracted, then read
        extractor, features = cached(tmp_path)
        assert features.calibration == extractor.calibration
        assert features(IMAGE).calibration == extractor.calibration


def test_cached_features_extract_damaged_entries_again(tmp_path: Path) -> None:
    _, features = cached(tmp_path)
    found = features(IMAGE)
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])
    extractor, features = cached(tmp_path)
    assert torch.equal(features(IMAGE).descriptors, found.descriptors)
    assert extractor.calls == 1


def test_cached_features_warn_once_if_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, _: bytes) -> None:
        raise InputError(f"{path}: no space")

    monkeypatch.setattr("geomatch.features.caches.disk.write_atomically", fail)
    extractor, features = cached(tmp_path)
    with pytest.warns(GeomatchWarning, match="no space"):
        features(IMAGE)
    features(IMAGE)  # a second warning would be an error
    assert extractor.calls == 2


def test_cached_features_need_a_place_for_their_folder(tmp_path: Path) -> None:
    (tmp_path / "no").touch()
    with pytest.raises(InputError, match="cannot keep features there"):
        CachedFeatures(Counting(), tmp_path / "no" / "such", torch.device("cpu"))
