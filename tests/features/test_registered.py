"""Being registered is being tested: the contract that every feature in the registry must obey."""

from functools import cache

import pytest
import torch

from geomatch.correspondence import ConfidenceModel
from geomatch.features.base import FeatureExtractor
from geomatch.features.load import load_features
from geomatch.registry import FEATURES
from tests.features.test_extractors import photograph

SIZES = [(61, 97), (97, 61), (33, 33)]

each_feature = pytest.mark.parametrize("name", FEATURES.entries)


@cache
def extractor_of(name: str) -> FeatureExtractor:
    return load_features(name, working_size=96, device=torch.device("cpu"))


@each_feature
@pytest.mark.parametrize("size", SIZES)
def test_registered_feature_obeys_the_contract(name: str, size: tuple[int, int]) -> None:
    extractor = extractor_of(name)
    assert extractor.working_size == 96
    found = extractor(photograph(*size))
    assert found.image_size == size
    assert found.calibration == extractor.calibration

    assert found.descriptors.dtype == torch.float32
    assert found.descriptors.shape[1:] == found.grid.shape
    torch.testing.assert_close(found.descriptors.norm(dim=0), torch.ones(found.grid.shape))

    centres = found.grid.centres()
    assert (centres >= -0.5).all()
    assert (centres <= torch.tensor(size[::-1]) - 0.5).all()

    sigma = found.inverse_confidence
    if sigma is not None:
        assert sigma.dtype == torch.float32
        assert sigma.shape == found.grid.shape
        assert (sigma > 0).all()
        assert sigma.isfinite().all()


@each_feature
def test_registered_feature_puts_its_calibration_on_maps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = ConfidenceModel(prior=-1.25)
    monkeypatch.setattr(extractor_of(name), "calibration", calibration)
    assert extractor_of(name)(photograph(33, 33)).calibration == calibration


@each_feature
def test_registered_feature_repeats_its_bytes(name: str) -> None:
    image = photograph(61, 97)
    first, again = extractor_of(name)(image), extractor_of(name)(image)
    assert torch.equal(first.descriptors, again.descriptors)


@each_feature
def test_registered_feature_has_the_name_it_was_asked_by(name: str) -> None:
    assert extractor_of(name).name.partition(":")[0] == name
