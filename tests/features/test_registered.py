"""Being registered is being tested: the contract that every feature in the registry must obey."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geomatch.correspondence import ConfidenceModel
from geomatch.features.backbones.timm import TimmTrunk
from geomatch.features.base import FeatureExtractor
from geomatch.features.load import load_features
from geomatch.registry import FEATURES
from tests.features.test_extractors import photograph

SIZES = [(61, 97), (97, 61), (33, 33)]


@pytest.fixture(scope="module", params=FEATURES.entries)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def extractor(
    name: str, keypoint_weights: Path, scnet_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> FeatureExtractor:
    weights = {"keypoints": keypoint_weights, "scnet": scnet_weights}.get(name)  # none are shipped
    if name == "timm":
        if find_spec("timm") is None:
            pytest.skip("timm is not installed")
        name, weights = "timm:test_vit@2", tmp_path_factory.mktemp("timm") / "w.safetensors"
        save_file(TimmTrunk("test_vit").reader.network.state_dict(), weights)
    return load_features(name, working_size=96, device=torch.device("cpu"), weights=weights)


@pytest.mark.parametrize("size", SIZES)
def test_registered_feature_obeys_the_contract(extractor: FeatureExtractor, size: tuple[int, int]) -> None:
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


def test_registered_feature_puts_its_calibration_on_maps(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = ConfidenceModel(extent=1.25)
    monkeypatch.setattr(extractor, "calibration", calibration)
    assert extractor(photograph(33, 33)).calibration == calibration


def test_registered_feature_repeats_its_bytes(extractor: FeatureExtractor) -> None:
    image = photograph(61, 97)
    first, again = extractor(image), extractor(image)
    assert torch.equal(first.descriptors, again.descriptors)


def test_registered_feature_extracts_a_batch_as_each_alone(extractor: FeatureExtractor) -> None:
    """Of several sizes, in any order; networks read images of one canvas size together."""
    images = [photograph(61, 97), photograph(97, 61), photograph(61, 97).flip(-1), photograph(122, 194)]
    for found, image in zip(extractor.extract_batch(images), images, strict=True):
        alone = extractor(image)
        torch.testing.assert_close(found.descriptors, alone.descriptors, rtol=1e-4, atol=1e-5)
        assert (found.grid, found.image_size, type(found)) == (alone.grid, alone.image_size, type(alone))
        for own, other in ((found.inverse_confidence, alone.inverse_confidence), (found.fine, alone.fine)):
            assert (own is None) == (other is None)
        if found.inverse_confidence is not None:
            torch.testing.assert_close(found.inverse_confidence, alone.inverse_confidence, rtol=1e-4, atol=1e-5)


def test_registered_feature_has_the_name_it_was_asked_by(name: str, extractor: FeatureExtractor) -> None:
    assert extractor.name.partition(":")[0] == name
