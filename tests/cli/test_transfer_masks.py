"""`geomatch transfer --target-masks`: nothing is found outside the part of an image that is searched."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geomatch as library
from geomatch.cli.options import PipelineOptions
from tests.cli.command import geomatch
from tests.stub import stub_pipeline
from tests.transfer.references.test_reference_transfer import write_references

LEFT = 64
"""Columns from here on are searched; a cell may reach beyond."""
CELL = 16


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(PipelineOptions, "build", lambda _: stub_pipeline())
    write_references(tmp_path)
    write_mask(tmp_path / "masks", "target.png")
    return tmp_path


def write_mask(folder: Path, name: str, size: tuple[int, int] = (96, 128)) -> None:
    folder.mkdir(exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[:, LEFT:] = 255
    Image.fromarray(mask).save(folder / name)


def found(folder: Path, *arguments: str) -> list[dict[str, object]]:
    done = geomatch("transfer", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["items"])


def test_keypoints_of_many_references_are_searched_in_the_mask(folder: Path) -> None:
    asked = ("target.png", "--keypoints", "refs.json", "--references", "3")
    whole, part = found(folder, *asked), found(folder, *asked, "--target-masks", "masks")
    assert min(float(str(item["x"])) for item in whole) < LEFT - CELL
    assert len(part) == len(whole)
    assert min(float(str(item["x"])) for item in part) >= LEFT - CELL


@pytest.mark.parametrize("references", [("1.png", "target.png"), ("target.png",)])
def test_masks_are_found_within_the_mask(references: tuple[str, ...], folder: Path) -> None:
    asked = (*references, "--mask", "refs.json", "--format", "png", "-o")
    whole = found(folder, *asked, "whole")
    part = found(folder, *asked, "part", "--target-masks", "masks")
    assert 0 < int(str(part[0]["area"])) < int(str(whole[0]["area"]))
    columns = np.asarray(Image.open(folder / "part" / "target.png")).nonzero()[1]
    assert columns.min() >= LEFT - CELL


def test_keypoints_of_one_reference_are_matched_with_the_mask(folder: Path) -> None:
    part = found(folder, "1.png", "target.png", "--keypoints", "refs.json", "--target-masks", "masks")
    seen = [float(str(item["x"])) for item in part if item["visibility"] == 2]
    assert seen
    assert min(seen) >= LEFT - 1


def test_resume_does_not_mix_masks(folder: Path) -> None:
    asked = ("transfer", "target.png", "--keypoints", "refs.json", "-o", "out", "--format", "labelme", "--resume")
    first = geomatch(*asked, "--target-masks", "masks", cwd=folder)
    again = geomatch(*asked, "--target-masks", "masks", cwd=folder)
    assert "1 of them kept from before" in again.stderr
    assert again.stdout == first.stdout
    write_mask(folder / "masks", "target.png", (96, 127))
    assert "was not made from this image" in geomatch(*asked, cwd=folder).stderr


def test_mask_that_does_not_fit_is_the_error_of_its_image(folder: Path) -> None:
    write_mask(folder / "masks", "target.png", (96, 127))
    done = geomatch("transfer", "target.png", "--keypoints", "refs.json", "--target-masks", "masks", cwd=folder)
    assert done.returncode == 1
    assert "is 127x96 pixels, the image it masks 128x96" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("masks", "more", "said"),
    [
        ("none", (), "none: not a folder"),
        ("refs.json", (), "refs.json: not a folder"),
        ("empty", (), "holds no mask that is named as one of the images"),
        ("masks", ("--rounds", "2"), "--rounds searches whole images"),
        ("masks", ("--zoom", "on"), "--target-masks where they say: leave one out"),
    ],
)
def test_masks_that_cannot_be_used_are_refused(masks: str, more: tuple[str, ...], said: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    asked = ("target.png", "--keypoints", "refs.json", "--target-masks", masks, *more, "-o", "out.json")
    done = geomatch("transfer", *asked, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (folder / "out.json").exists()


def test_python_transfer_takes_a_mask(folder: Path) -> None:
    transfer = library.AnnotationTransfer(keypoints=folder / "refs.json", pipeline=stub_pipeline())
    found = transfer(folder / "target.png", mask=(LEFT, 0, 64, 96))
    assert found.instances[0].shape.points[:, 0].min() >= LEFT - CELL  # type: ignore[union-attr]
