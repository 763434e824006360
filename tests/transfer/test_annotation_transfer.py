"""Transfer from Python: the same values as the command, whatever holds the image, and files in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import geomatch
from geomatch.annotations import Keypoints, Region
from geomatch.io.annotations.files import read_annotations
from geomatch.options import AnnotationKind
from tests.stub import picture, stub_pipeline


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two parts of one picture, the second moved by (8, 4), and marks of each kind on the first."""
    picture(60, 80).save(tmp_path / "a.png")
    picture(64, 72, left=8, top=4).save(tmp_path / "b.png")
    (tmp_path / "points.csv").write_text("name,x,y\nnose,30,20\ntail,50.5,40\n")
    (tmp_path / "boxes.csv").write_text("label,left,top,right,bottom\ncat,20,12,60,50\n")
    mask = np.zeros((60, 80), np.uint8)
    mask[15:45, 20:60] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def test_keypoints_follow_the_match(folder: Path) -> None:
    transfer = geomatch.AnnotationTransfer(folder / "a.png", keypoints=folder / "points.csv", pipeline=stub_pipeline())
    found = transfer(folder / "b.png")
    mapped = transfer.pipeline.match(folder / "a.png", folder / "b.png").map_points([[30, 20], [50.5, 40]])
    (instance,) = found.instances
    assert isinstance(instance.shape, Keypoints)
    assert instance.shape.names == ("nose", "tail")
    np.testing.assert_array_equal(instance.shape.points, mapped.positions)
    np.testing.assert_array_equal(instance.shape.confidence, mapped.confidence)
    np.testing.assert_allclose(instance.shape.points, [[22, 16], [42.5, 36]], atol=2)
    assert (found.name, found.size) == (str(folder / "b.png"), (64, 72))


def test_images_of_any_type_give_the_same(folder: Path) -> None:
    transfer = geomatch.AnnotationTransfer(folder / "a.png", mask=folder / "mask.png", pipeline=stub_pipeline())
    image = Image.open(folder / "b.png")
    found = [transfer(each, name="b") for each in (str(folder / "b.png"), image, np.asarray(image))]
    masks = [each.instances[0].shape for each in found]
    assert all(isinstance(mask, Region) for mask in masks)
    assert all((mask.mask == masks[0].mask).all() for mask in masks)  # type: ignore[union-attr]
    assert found[2].name == "b"
    assert transfer(image).name == "image"


def test_files_hold_what_was_found(folder: Path) -> None:
    transfer = geomatch.AnnotationTransfer(folder / "a.png", boxes=folder / "boxes.csv", pipeline=stub_pipeline())
    found = transfer(folder / "b.png")
    transfer.save([found], folder / "found.csv")
    transfer.save([found], folder / "found.json", format="coco")
    box = json.loads((folder / "found.json").read_text())["annotations"][0]["bbox"]
    left, top, right, bottom = found.instances[0].shape  # type: ignore[misc]
    np.testing.assert_allclose(box, [left + 0.5, top + 0.5, right - left, bottom - top], atol=0.02)
    back = read_annotations(folder / "found.csv", AnnotationKind.boxes, folder / "b.png", found.size)
    np.testing.assert_allclose(back.instances[0].shape, found.instances[0].shape, atol=0.02)
    with pytest.raises(geomatch.GeomatchError, match=r"found\.csv"):
        transfer.save([found], folder / "found.csv")
    transfer.save([found], folder / "found.csv", overwrite=True)
    with pytest.raises(geomatch.GeomatchError, match="png cannot hold boxes"):
        transfer.save([found], folder / "masks", format="png")
    with pytest.raises(geomatch.GeomatchError, match=r"unknown format 'COCO' \(did you mean 'coco'\?\)"):
        transfer.save([found], folder / "other.json", format="COCO")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give one of keypoints=FILE"),
        ({"keypoints": "points.csv", "boxes": "boxes.csv"}, "give one of keypoints=FILE"),
        ({"keypoints": 3}, "keypoints is int: give the path"),
        ({"keypoints": "points.csv", "min_confidence": 3}, "min_confidence is 3"),
        ({"keypoint": "points.csv"}, r"'keypoint' \(did you mean 'keypoints'\?\)"),
        ({"mask": "nowhere.png"}, r"nowhere\.png: no such file"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: dict[str, Any], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(geomatch.GeomatchError, match=said):
        geomatch.AnnotationTransfer("a.png", **{"pipeline": stub_pipeline()} | arguments)
