"""`anchornet:auto`: each pair is matched by the anchors of its class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.datasets.benchmarks.pf_willow import CLASSES
from geomatch.datasets.pairs import AnnotatedPair, ImageFile, PairDataset
from geomatch.datasets.pascal_ilsvrc import VOC_CLASSES, voc_class
from geomatch.errors import InputError
from geomatch.evaluation.protocols import find_protocols
from geomatch.evaluation.runner import run
from geomatch.options import PresetSettings
from geomatch.pipeline import Pipeline


@pytest.fixture
def dataset(tmp_path: Path, teapots: Path) -> PairDataset:
    """The same two pictures as a pair of cats, a pair of dogs, and a pair from dog to cat."""
    images = []
    for name in ("a.png", "b.png"):
        Image.open(teapots / name).convert("RGB").resize((96, 72)).save(tmp_path / name)
        images.append(ImageFile(tmp_path / name, name))
    points = np.random.default_rng(0).random((20, 2)) * 70
    pairs = [AnnotatedPair(*images, name, points, points) for name in ("cat", "dog", "dog-to-cat")]
    return PairDataset(
        "animal-parts", "test", [replace(pair, source_box=(0, 0, 9, 9), target_box=(0, 0, 9, 9)) for pair in pairs]
    )


def make_pipeline(features: str, weights: Path, matcher: str = "nn", cache: Path | None = None) -> Pipeline:
    preset = PresetSettings(working_size=96, cells=0)
    return Pipeline(features=features, matcher=matcher, weights=weights, preset=preset, device="cpu", cache=cache)


def predictions(dataset: PairDataset, *pipelines: Pipeline, cache: Path | None = None) -> list[np.ndarray]:
    outcomes = run(dataset, pipelines, find_protocols("animal-parts", ["geomatch"]), cache=cache)
    return [np.stack(list(outcome.forward)) for outcome in outcomes]


def test_auto_takes_the_bank_of_the_class_of_each_pair(dataset: PairDataset, anchor_weights: Path) -> None:
    (cat,), (dog,) = (
        predictions(dataset, make_pipeline(f"anchornet:{name}", anchor_weights)) for name in ("cat", "dog")
    )
    (auto,) = predictions(dataset, make_pipeline("anchornet:auto", anchor_weights))
    assert not np.array_equal(cat[0], dog[0])
    assert np.array_equal(auto, np.stack((cat[0], dog[1], dog[2])))


def test_auto_under_several_matchers_and_caches(dataset: PairDataset, anchor_weights: Path, tmp_path: Path) -> None:
    """Boxes are pooled from the bank's responses; stored predictions and features keep classes apart."""
    first = make_pipeline("anchornet:auto", anchor_weights, "pf-nam", cache=tmp_path / "features")
    pipelines = first, first.with_matcher("nn")
    new = predictions(dataset, *pipelines, cache=tmp_path / "predictions")
    again = predictions(dataset, *pipelines, cache=tmp_path / "predictions")
    assert all(map(np.array_equal, new, again))
    (alone,) = predictions(
        dataset, make_pipeline("anchornet:auto", anchor_weights, "pf-nam", cache=tmp_path / "features")
    )
    assert np.array_equal(new[0], alone)
    assert not np.array_equal(new[0][0], new[0][1])


def test_auto_refuses_a_class_without_anchors_before_work(dataset: PairDataset, anchor_weights: Path) -> None:
    pairs = [*dataset.pairs[:1], replace(dataset.pairs[0], category="horse")]
    with pytest.raises(InputError, match=r"no anchors of 'horse'.*the classes are cat, dog, teapot"):
        predictions(replace(dataset, pairs=pairs), make_pipeline("anchornet:auto", anchor_weights))


def test_auto_refuses_an_image_of_unknown_class(anchor_weights: Path) -> None:
    pipeline = make_pipeline("anchornet:auto", anchor_weights)
    with pytest.raises(InputError, match="anchornet:auto takes the class of each pair from a benchmark"):
        pipeline.extract(torch.zeros(3, 32, 32, dtype=torch.uint8))
    assert make_pipeline("anchornet:cat", anchor_weights).for_class("dog").extractor.name == "anchornet:cat"


def test_voc_class_of_every_class_of_willow() -> None:
    assert {voc_class(name) for name in CLASSES} == {"car", "bird", "motorbike", "bottle"}
    assert [voc_class(name) for name in VOC_CLASSES] == list(VOC_CLASSES)
    assert voc_class("bicycle-to-motorbike") == "bicycle"
