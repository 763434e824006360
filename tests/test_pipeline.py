"""The public pipeline: images of any type in, a correspondence out, and errors that say what to do."""

import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import geomatch
from geomatch.arguments import pixels_of
from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.features.base import FeatureExtractor
from geomatch.io.images import load_image
from geomatch.pipeline import Pipeline
from tests.stub import Colours, picture, stub_pipeline


def test_import_loads_nothing_heavy() -> None:
    script = """
import sys, geomatch
assert {"match", "Pipeline", "Correspondence", "GeomatchError"} <= set(dir(geomatch))
print({"torch", "numpy", "PIL"} & set(sys.modules), [getattr(geomatch, name) is not None for name in geomatch.__all__])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[0] == "set()"
    assert "False" not in done.stdout


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'matches'"):
        geomatch.matches  # noqa: B018


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two files that show parts of one picture."""
    files = tmp_path / "a.png", tmp_path / "b.png"
    picture(60, 80).save(files[0])
    picture(64, 72, left=8, top=4).save(files[1])
    return files


def test_match_equals_a_pipeline_in_steps(pair: tuple[Path, Path]) -> None:
    whole = geomatch.match(pair[0], str(pair[1]), features=Colours(), device="cpu", matcher="nn")
    pipeline = Pipeline(features=Colours(), device="cpu", matcher="nn")
    parts = pipeline.match(*(pipeline.extract(load_image(path)) for path in pair))
    assert torch.equal(whole.flow, parts.flow)
    assert torch.equal(whole.valid, parts.valid)
    assert (whole.source_size, whole.target_size) == ((60, 80), (64, 72))


def test_match_takes_features_in_place_of_images(pair: tuple[Path, Path]) -> None:
    a, b = pair
    pipeline = stub_pipeline()
    features = pipeline.extract(a)
    assert torch.equal(pipeline.match(features, b).flow, pipeline.match(a, b).flow)
    assert torch.equal(pipeline.match(b, features).flow, pipeline.match(b, a).flow)


def test_pipeline_settings_hold_its_arguments(tmp_path: Path) -> None:
    chosen = Pipeline(
        preset="fast", device="cpu", matcher="hough", parameters={"window": 1}, max_memory=1 << 20, min_confidence=0.5
    ).settings()
    assert chosen["max_bytes"] == 1 << 20
    assert chosen["method"]["window"] == 1
    assert chosen["densification"]["min_confidence"] == 0.5
    with pytest.raises(geomatch.GeomatchError, match=r"none\.safetensors: no such weights file"):
        Pipeline(weights=str(tmp_path / "none.safetensors"))


def test_pixels_of_is_the_same_for_every_type(teapots: Path) -> None:
    path = teapots / "a.png"
    picture = Image.open(path)
    array = np.asarray(picture.convert("RGB"))
    expected = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for image in (path, str(path), picture, picture.convert("RGBA"), array, array[::-1][::-1], expected):
        assert torch.equal(pixels_of(image), expected)


def test_pixels_of_grey_array_fills_all_channels() -> None:
    grey = np.arange(32 * 20, dtype=np.uint8).reshape(32, 20)
    assert torch.equal(pixels_of(grey), torch.from_numpy(np.stack([grey] * 3)))


def test_pixels_of_picture_is_opaque_and_upright() -> None:
    seen_through = Image.new("RGBA", (20, 30), (255, 0, 0, 0))
    assert torch.equal(pixels_of(seen_through), torch.full((3, 30, 20), 255, dtype=torch.uint8))
    lying = Image.new("RGB", (20, 30))
    lying.getexif()[0x0112] = 6
    assert pixels_of(lying).shape == (3, 20, 30)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((32, 32, 3)), r"ndarray of shape \(32, 32, 3\) and dtype float64 is not an image: give a path"),
        (np.zeros((3, 32, 32), np.uint8), r"ndarray of shape \(3, 32, 32\) and dtype uint8 is not an image"),
        (
            torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
            r"Tensor of shape \(1, 3, 32, 32\) and dtype uint8 is not an image",
        ),
        (torch.zeros(3, 32, 32), r"Tensor of shape \(3, 32, 32\) and dtype float32 is not an image"),
        (torch.zeros(3, 32, 8, dtype=torch.uint8), r"Tensor of shape \(3, 32, 8\).*: 8x32 pixels is too small"),
        (np.zeros((0, 32), np.uint8), r"ndarray of shape \(0, 32\).*: 32x0 pixels is too small"),
        (Image.new("L", (400, 20)), r"Image of size \(400, 20\): 400x20 pixels is too elongated"),
        (np.broadcast_to(np.uint8(0), (20_000, 6_000)), "more than 100 million pixels"),
        (None, "NoneType is not an image"),
        (b"a.png", "bytes is not an image"),
        ("nowhere.png", r"nowhere\.png: no such file"),
    ],
)
def test_pixels_of_refuses_by_shape_and_dtype(image: object, said: str) -> None:
    with pytest.raises(geomatch.GeomatchError, match=said):
        pixels_of(image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"preset": "best"}, "unknown preset 'best': the known ones are fast, default, precise"),
        ({"device": "tpu"}, r"unknown device 'tpu' \(did you mean 'cpu'\?\): the known ones are auto, cpu, cuda, mps"),
        ({"matcher": "best"}, "unknown matcher 'best'"),
        ({"parameters": {"windows": 3}}, "has no parameter 'windows'"),
        ({"min_confidence": 50}, "min_confidence is 50: it must be between 0 and 1"),
    ],
)
def test_pipeline_refuses_unknown_arguments_by_name(choices: dict[str, Any], said: str) -> None:
    with pytest.raises(geomatch.GeomatchError, match=said):
        Pipeline(**choices)


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
def test_out_of_memory_names_the_options_that_help(error: Exception) -> None:
    pipeline = Pipeline(features=Failing(error), matcher="nn", device="cpu")
    with pytest.raises(OutOfMemoryError, match=r"--max-memory.*--preset"):
        pipeline.extract(torch.zeros(3, 32, 32, dtype=torch.uint8))


def test_other_errors_are_not_out_of_memory() -> None:
    pipeline = Pipeline(features=Failing(RuntimeError("a bug")), matcher="nn", device="cpu")
    with pytest.raises(RuntimeError, match="a bug"):
        pipeline.extract(torch.zeros(3, 32, 32, dtype=torch.uint8))


def test_settings_resolve_the_preset() -> None:
    assert Pipeline(preset="fast", device="cpu").settings()["working_size"] == 224


def test_features_carry_their_own_calibration() -> None:
    built = Pipeline(features="anchornet:cat", preset="fast", device="cpu")
    features = built.extract(torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert features.calibration == built.extractor.calibration != ConfidenceModel()
    assert Pipeline(features="introspection", device="cpu").extractor.calibration == ConfidenceModel()


def test_match_has_the_keywords_of_pipeline_besides_its_masks() -> None:
    of_match = dict(list(signature(geomatch.match).parameters.items())[2:])
    of_pipeline = dict(list(signature(Pipeline.__init__).parameters.items())[1:])
    of_pair, of_list = {"source_mask", "target_mask"}, {"batch"}
    assert of_pair <= of_match.keys()
    assert of_list <= of_pipeline.keys()
    shared = of_match.keys() - of_pair
    assert {name: of_match[name] for name in shared} == {
        name: of_pipeline[name] for name in of_pipeline.keys() - of_list
    }
