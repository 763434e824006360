"""The Python API in the hands of others: whatever they set in torch, whatever they pass, whatever they print."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import geomatch
from geomatch.arguments import pixels_of
from geomatch.correspondence import Correspondence, FeatureMap, MappedPoints
from geomatch.geometry.grid import Grid
from geomatch.options import PresetSettings
from geomatch.registry import FEATURES, MATCHERS
from geomatch.runtime.torch_state import standard_torch_state
from tests.stub import Embedded, picture, save_small_network, stub_pipeline, to_tensor

SMALL = PresetSettings(features="introspection", working_size=64, cells=8, matcher="hough")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


@contextmanager
def warnings_as_errors() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        yield


STATES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "gradients": torch.enable_grad,
    "inference": torch.inference_mode,
    "meta": lambda: torch.device("meta"),
    "precision": lambda: matmul_precision("medium"),
    "deterministic": deterministic,
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "warnings": warnings_as_errors,
}
"""What a caller may have set, each in the way that it is set."""


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    return to_tensor(picture(60, 80)), to_tensor(picture(64, 72, left=8, top=4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, points on it, and weights."""
    folder = tmp_path_factory.mktemp("given")
    picture(60, 80).save(folder / "a.png")
    (folder / "points.csv").write_text("image,name,x,y\na.png,nose,20,20\n")
    save_small_network(folder / "weights.safetensors")
    return folder


def everything(images: tuple[torch.Tensor, torch.Tensor], folder: Path) -> list[Any]:
    """What the API gives for two images: values, tensors, and the content of files."""
    pipeline = geomatch.Pipeline(preset=SMALL, weights=folder / "weights.safetensors", device="cpu")
    features = pipeline.extract(images[0], "on")
    found, back = pipeline.with_mirror("auto").match_both_ways(features, images[1])
    transfer = geomatch.AnnotationTransfer(folder / "a.png", keypoints=folder / "points.csv", pipeline=pipeline)
    transfer.save([transfer(images[1])], folder / "out.csv", overwrite=True)
    files = found.save(folder / "out", source=images[0], overwrite=True)
    return [
        *(features, features.upsampled(2), features.pooled(2), found, back, found.inverse()),
        *(found.map_points([[3.0, 4.0]]), found.warp(images[1])),
        *(path.read_bytes() for path in (folder / "out.csv", *files)),
    ]


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    """The tensors in a value of the API, at any depth."""
    if isinstance(value, torch.Tensor):
        yield value
    for each in getattr(value, "__dict__", {}).values():
        yield from tensors_in(each)


@pytest.fixture(scope="module")
def undisturbed(images: tuple[torch.Tensor, torch.Tensor], folder: Path) -> list[Any]:
    return everything(images, folder)


@pytest.mark.parametrize("state", STATES)
def test_torch_state_of_the_caller_has_no_influence(
    state: str, images: tuple[torch.Tensor, torch.Tensor], undisturbed: list[Any], folder: Path
) -> None:
    """Nor are results bound to it: they can be part of a computation with gradients."""
    with STATES[state]():
        before = torch.empty(0).dtype, torch.is_grad_enabled(), torch.get_float32_matmul_precision()
        here = everything(images, folder)
        assert before == (torch.empty(0).dtype, torch.is_grad_enabled(), torch.get_float32_matmul_precision())
    for value, expected in zip(here, undisturbed, strict=True):
        assert torch.equal(value, expected) if isinstance(value, torch.Tensor) else value == expected
        assert not any(each.requires_grad or each.is_inference() for each in tensors_in(value))


@pytest.mark.parametrize("matcher", MATCHERS.entries)
def test_no_matcher_depends_on_the_default_dtype(matcher: str, images: tuple[torch.Tensor, torch.Tensor]) -> None:
    if matcher.startswith(("roi-nn", "scnet")):
        pytest.importorskip("cv2")
    pipeline = stub_pipeline(features=Embedded()).with_matcher(matcher)
    undisturbed = pipeline.match(*images)
    with default_dtype(torch.float64), torch.autocast("cpu", torch.bfloat16):
        assert pipeline.match(*images) == undisturbed


@pytest.mark.parametrize(
    "features", [name for name in FEATURES.entries if name not in ("introspection", "hypercolumn", "timm")]
)
def test_no_features_depend_on_the_default_dtype(
    features: str, images: tuple[torch.Tensor, torch.Tensor], keypoint_weights: Path, scnet_weights: Path
) -> None:
    weights = {"keypoints": keypoint_weights, "scnet": scnet_weights}.get(features)

    def extracted() -> geomatch.FeatureMap:
        return geomatch.Pipeline(features=features, preset=SMALL, device="cpu", weights=weights).extract(images[0])

    undisturbed = extracted()
    with default_dtype(torch.float64), torch.autocast("cpu", torch.bfloat16):
        assert extracted() == undisturbed


def test_pipeline_leaves_random_numbers_of_the_caller_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    geomatch.Pipeline(preset=SMALL, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_torch_state_is_restored_by_the_last_thread() -> None:
    """A thread that ends does not take the dtype from one that still computes."""
    with default_dtype(torch.float64):
        inner = standard_torch_state()
        inner.__enter__()

        def other() -> None:
            with standard_torch_state():
                assert torch.ones(1).dtype == torch.float32

        thread = Thread(target=other)
        thread.start()
        thread.join()
        assert torch.ones(1).dtype == torch.float32
        inner.__exit__(None, None, None)
        assert torch.ones(1).dtype == torch.float64


def truncated() -> Image.Image:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(content, "PNG")
    return Image.open(io.BytesIO(content.getvalue()[:3000]))


def closed(folder: Path) -> Image.Image:
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    image = Image.open(folder / "a.png")
    image.close()
    return image


def test_pixels_of_damaged_or_closed_picture(tmp_path: Path) -> None:
    for image in (truncated(), closed(tmp_path)):
        with pytest.raises(geomatch.GeomatchError, match=r"PngImageFile of size \(64, 64\) cannot be read .*damaged"):
            pixels_of(image)


@pytest.fixture(scope="module")
def found(images: tuple[torch.Tensor, torch.Tensor]) -> geomatch.Match:
    return stub_pipeline().match(*images)


@pytest.mark.parametrize(
    "points",
    [
        [[1, 2], [3.5, 4]],
        ((1, 2), (3.5, 4)),
        np.array([[1, 2], [3.5, 4]])[::-1][::-1],
        torch.tensor([[1, 2], [3.5, 4]]),
    ],
)
def test_map_points_takes_any_sequence_of_pairs(points: Any, found: geomatch.Match) -> None:
    assert found.map_points(points) == found.map_points(np.array([[1.0, 2.0], [3.5, 4.0]]))
    assert len(found.map_points([]).valid) == 0


@pytest.mark.parametrize(
    "points", [(1, 2), "ab", None, [[1, 2, 3]], [[1], [2, 3]], {"x": 1}, np.zeros((2, 2, 2)), [["x", "y"]]]
)
def test_map_points_refuses_all_else(points: Any, found: geomatch.Match) -> None:
    with pytest.raises(geomatch.GeomatchError, match="points"):
        found.map_points(points)


def test_map_points_outside_is_not_valid(found: geomatch.Match) -> None:
    mapped = found.map_points([[-0.6, 3], [3, 59.6], [np.nan, 3], [1e30, 3], [40, 30]])
    assert mapped.valid.tolist() == [False, False, False, False, bool(found.valid[30, 40])]
    assert mapped.confidence[2] == 0
    assert np.isnan(mapped.positions[2, 0])


@pytest.mark.parametrize("mask", [[[True]], "mask", None, np.zeros((5, 5)), np.zeros(3)])
def test_warp_mask_refuses_another_size(mask: Any, found: geomatch.Match) -> None:
    with pytest.raises(geomatch.GeomatchError, match="mask"):
        found.warp_mask(mask)


def test_warp_mask_takes_any_mask(found: geomatch.Match) -> None:
    mask = np.zeros(found.target_size, np.uint8)
    mask[10:30, 10:40] = 200
    for same in (mask, mask > 0, torch.from_numpy(mask), (mask > 0).tolist()):
        assert (found.warp_mask(same) == found.warp_mask(mask > 0)).all()


def test_features_of_another_pipeline_are_refused(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    pipeline = stub_pipeline()
    features = pipeline.extract(images[0])
    other = geomatch.Pipeline(features="sift", preset=SMALL, device="cpu", matcher="nn")
    for pair in ((features, images[1]), (images[1], features)):
        with pytest.raises(
            geomatch.GeomatchError, match="features are colours at 0 pixels, and this pipeline's are sift at 64"
        ):
            other.match(*pair)
    wider = replace(features, descriptors=features.descriptors.repeat(2, 1, 1), origin="")
    with pytest.raises(geomatch.GeomatchError, match="features of 8 and 4 channels cannot be matched"):
        pipeline.match(wider, features)
    elsewhere = replace(features, descriptors=features.descriptors.to("meta"))
    with pytest.raises(geomatch.GeomatchError, match="features on the devices meta and cpu cannot be matched"):
        pipeline.match(elsewhere, features)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"foo": 1}, "unknown keyword argument of Pipeline 'foo': the known ones are features, matcher"),
        ({"presets": "fast"}, r"'presets' \(did you mean 'preset'\?\)"),
        ({"preset": "Fast"}, r"unknown preset 'Fast' \(did you mean 'fast'\?\)"),
        ({"matcher": "NN"}, r"unknown matcher 'NN' \(did you mean 'nn'\?\)"),
        ({"features": "Sift"}, r"unknown features 'Sift' \(did you mean 'sift'\?\)"),
        ({"features": 3}, "features is int: give a name or a FeatureExtractor"),
        ({"matcher": 3}, "matcher is int: give a name or a Matcher"),
        ({"parameters": ["window"]}, "parameters is list: give a dictionary"),
        ({"max_memory": "2GiB"}, "max_memory is '2GiB': give a positive whole number"),
        ({"min_confidence": "high"}, "min_confidence is high: it must be between 0 and 1"),
        ({"weights": 3}, "weights is int: give the path"),
        ({"cache": 3}, "cache is int: give the path"),
        ({"preset": ["fast"]}, "unknown preset"),
        ({"device": torch.device("cuda", 77)}, "device cuda:77: this machine has no such device"),
    ],
)
def test_pipeline_names_the_argument_at_fault(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(geomatch.GeomatchError, match=said):
        geomatch.Pipeline(**{"preset": SMALL, "device": "cpu"} | arguments)


def test_match_refuses_unknown_keywords() -> None:
    with pytest.raises(geomatch.GeomatchError, match="unknown keyword argument of match 'foo'"):
        geomatch.match("a.png", "b.png", foo=1)  # type: ignore[call-arg]


def test_results_are_equal_if_their_content_is(
    images: tuple[torch.Tensor, torch.Tensor], found: geomatch.Match
) -> None:
    again = stub_pipeline().match(*images)
    assert found == again
    assert hash(found) == hash(again)
    assert pickle.loads(pickle.dumps(found)) == found
    assert found != replace(found, valid=~found.valid)
    assert found != replace(found, confidence=found.confidence.double())
    assert found != 3
    nan = MappedPoints(np.array([[np.nan, 1.0]]), np.zeros(1), np.zeros(1, bool))
    assert nan == pickle.loads(pickle.dumps(nan))
    features = FeatureMap(torch.ones(1, 2, 3), (20, 30), Grid.over((20, 30), 2, 3))
    assert features == replace(features) != replace(features, inverse_confidence=torch.ones(2, 3))


def test_repr_is_one_short_line(images: tuple[torch.Tensor, torch.Tensor], found: geomatch.Match) -> None:
    pipeline = stub_pipeline()
    for value in (found, pipeline.extract(images[0]), found.map_points([[1, 2]]), pipeline):
        assert len(repr(value)) < 260
        assert "\n" not in repr(value)
    assert (
        repr(found.map_points([[1, 2]]))
        == "MappedPoints(positions=float64[1, 2], confidence=float64[1], valid=bool[1])"
    )
    assert "flow=float32[2, 60, 80]" in repr(found)
    assert repr(pipeline) == "Pipeline(features='colours', matcher='nn', preset='custom', device='cpu')"


def affine(
    matrix: np.ndarray, shift: tuple[float, float], source: tuple[int, int], target: tuple[int, int]
) -> Correspondence:
    start = np.stack(np.indices(source)[::-1]).astype(float)
    flow = np.einsum("ij,jhw->ihw", matrix, start) + np.array(shift)[:, None, None] - start
    return Correspondence(
        torch.from_numpy(flow).float(), torch.full(source, 0.7), torch.ones(source).bool(), source, target
    )


@pytest.mark.parametrize(
    ("matrix", "shift", "target"),
    [
        ([[2.0, 0.3], [-0.2, 1.7]], (5, 9), (60, 80)),
        ([[0.4, 0.1], [-0.1, 0.5]], (5, 9), (30, 30)),
        ([[0.0, -1.0], [1.0, 0.0]], (29, 0), (40, 30)),
        ([[1.0, 0.0], [0.0, 1.0]], (0, 0), (30, 40)),
    ],
)
def test_inverse_of_affine_flow(matrix: list[list[float]], shift: tuple[float, float], target: tuple[int, int]) -> None:
    """Against the inverse matrix, at every target pixel that the source reaches; no other is valid."""
    found = affine(np.array(matrix), shift, (30, 40), target)
    back = found.inverse()
    pixels = np.stack(np.indices(target)[::-1]).astype(float)
    truth = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), pixels - np.array(shift)[:, None, None])
    reached = ((truth >= 0) & (truth <= np.array([[[39]], [[29]]]))).all(axis=0)
    np.testing.assert_allclose((back.flow.numpy() + pixels)[:, reached], truth[:, reached], atol=1e-3)
    assert back.valid.numpy()[reached].all()
    far = ((truth < -4) | (truth > np.array([[[43]], [[33]]]))).any(axis=0)  # 4 here are at least 1.5 there
    assert not back.valid.numpy()[far].any()
    np.testing.assert_allclose(back.confidence.numpy()[reached], 0.7, atol=1e-6)
    assert (back.source_size, back.target_size) == (target, (30, 40))


def test_inverse_where_nothing_arrives() -> None:
    found = affine(np.eye(2), (500, 500), (20, 20), (20, 20))
    back = found.inverse()
    assert not back.valid.any()
    assert back.flow.isfinite().all()


def test_match_knows_its_images(
    images: tuple[torch.Tensor, torch.Tensor], found: geomatch.Match, tmp_path: Path
) -> None:
    assert torch.equal(found.warp(), found.warp(images[1]))
    assert found.overview().size == found.overview(*images).size
    assert torch.equal(found.inverse().warp(), found.inverse().warp(images[0]))
    names = ["confidence.png", "flow.flo", "overview.png", "warped.png"]
    assert [each.name for each in found.save(tmp_path / "out")] == names
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == names
    with pytest.raises(geomatch.GeomatchError, match="out"):
        found.save(tmp_path / "out")
    found.save(tmp_path / "out", overwrite=True, formats="npz")
    with pytest.raises(geomatch.GeomatchError, match=r"unknown format 'FLO' \(did you mean 'flo'\?\)"):
        found.save(tmp_path / "other", formats=["FLO"])


def test_match_of_features_asks_for_its_images(images: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    pipeline = stub_pipeline()
    found = pipeline.match(*map(pipeline.extract, images))
    for ask in (found.warp, found.overview):
        with pytest.raises(geomatch.GeomatchError, match=r"the (source|target) of this match is not known"):
            ask()
    assert [each.name for each in found.save(tmp_path / "out")] == ["confidence.png", "flow.flo"]
    assert torch.equal(found.warp(to_array(images[1])), found.warp(images[1]))
    with pytest.raises(geomatch.GeomatchError, match="the image is 80x60 pixels, the target of this match 72x64"):
        found.warp(images[0])


def to_array(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flow": np.zeros((2, 4, 6))}, "flow must be a tensor, not ndarray"),
        ({"confidence": torch.ones(4, 5)}, r"confidence \(4, 5\) does not fit a source of \(4, 6\)"),
        ({"valid": None}, "valid must be a tensor, not NoneType"),
        ({"source_size": (4, 7)}, r"flow \(2, 4, 6\) does not fit"),
    ],
)
def test_correspondence_checks_its_parts(changes: dict[str, Any], said: str) -> None:
    parts = {"flow": torch.zeros(2, 4, 6), "confidence": torch.ones(4, 6), "valid": torch.ones(4, 6).bool()}
    with pytest.raises(geomatch.GeomatchError, match=said):
        Correspondence(**{**parts, "source_size": (4, 6), "target_size": (4, 6), **changes})


def test_feature_map_checks_its_parts() -> None:
    for descriptors, grid in ((np.ones((1, 2, 3)), Grid.over((20, 30), 2, 3)), (torch.ones(1, 2, 3), None)):
        with pytest.raises(geomatch.GeomatchError, match="descriptors must be a tensor"):
            FeatureMap(descriptors, (20, 30), grid)  # type: ignore[arg-type]
