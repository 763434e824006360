import pytest
import torch

from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.features.base import FeatureExtractor
from geomatch.pipeline import Pipeline


class Failing(FeatureExtractor):
    name = "failing"
    working_size = 224

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, image: torch.Tensor) -> FeatureMap:  # noqa: ARG002
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried 9 TB"),
    ],
)
def test_running_out_of_memory_names_the_options_that_help(error: Exception) -> None:
    pipeline = Pipeline(features=Failing(error), matcher="nn", device="cpu")
    with pytest.raises(OutOfMemoryError, match=r"--max-memory.*--preset"):
        pipeline.extract(torch.zeros(3, 32, 32, dtype=torch.uint8))


def test_other_failures_are_not_taken_for_a_lack_of_memory() -> None:
    pipeline = Pipeline(features=Failing(RuntimeError("a bug")), matcher="nn", device="cpu")
    with pytest.raises(RuntimeError, match="a bug"):
        pipeline.extract(torch.zeros(3, 32, 32, dtype=torch.uint8))


def test_the_settings_say_what_the_preset_stands_for() -> None:
    assert Pipeline(preset="fast", device="cpu").settings()["working_size"] == 224


def test_each_feature_s_confidence_rests_on_constants_of_its_own() -> None:
    built = Pipeline(features="anchornet:cat", preset="fast", device="cpu")
    features = built.extract(torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert features.calibration == built.extractor.calibration != ConfidenceModel()
    assert Pipeline(device="cpu").extractor.calibration == ConfidenceModel()
