"""`geomatch transfer` without REF: from all images that the file of annotations has."""

import json
from pathlib import Path
from typing import Any

import pytest

from geomatch.cli.options import PipelineOptions
from tests.cli.command import assert_refused, geomatch
from tests.stub import picture, stub_pipeline
from tests.transfer.references.test_reference_transfer import write_references


@pytest.fixture(autouse=True)
def _colours_for_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PipelineOptions, "build", lambda _: stub_pipeline())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_references(tmp_path)
    return tmp_path


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_all_annotated_images_are_references(folder: Path) -> None:
    done = geomatch(
        "transfer", ".", "--keypoints", "refs.json", "--references", "3", "-o", "found.json", "--review", "look",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1.png and 3 more: annotated already, so left out" in done.stderr
    (record,) = lines(done.stdout)
    assert record["image"] == "target.png"
    assert len(record["references"]) == 3
    assert [item["name"] for item in record["items"]] == ["nose", "tail", "paw", "ear"]
    assert all(0 < item["confidence"] <= 1 for item in record["items"])
    written = json.loads((folder / "found.json").read_text())
    assert [category["id"] for category in written["categories"]] == [1, 2]
    assert len(list((folder / "look").glob("*.jpg"))) == 1
    assert "nose" in (folder / "look" / "index.html").read_text()


def test_one_reference_gives_the_same_bytes_as_ref(folder: Path) -> None:
    command = "transfer", "target.png", "--keypoints", "refs.json"
    alone = geomatch(*command, "--from", "1.png", cwd=folder)
    named = geomatch(command[0], "1.png", *command[1:], cwd=folder)
    assert (alone.returncode, alone.stdout) == (0, named.stdout)


def test_resume_keeps_what_the_same_references_gave(folder: Path) -> None:
    command = "transfer", "target.png", "--keypoints", "refs.json", "-o", "out", "--format", "labelme", "--resume"
    first = geomatch(*command, cwd=folder)
    again = geomatch(*command, cwd=folder)
    assert "1 of them kept from before" in again.stderr
    assert again.stdout == first.stdout
    other = geomatch(*command, "--references", "2", cwd=folder)
    assert other.returncode == 1
    assert "was not made from this image, these marks and settings" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["1.png", "2.png", "--keypoints", "refs.json", "--references", "2"], "every image to transfer to is one"),
        (["target.png", "--keypoints", "refs.json", "--from", "target.png"], "annotates no image named target.png"),
        (["target.png", "--keypoints", "gone.json"], "gone.json: no such file"),
        (["target.png", "--mask", "refs.json", "--mask-threshold", "9"], "are for the label image of one REF"),
        (["target.png", "--keypoints", "none.json"], "none.json: marks no keypoints on any image"),
    ],
)
def test_references_that_cannot_be_used_are_refused(arguments: list[str], said: str, folder: Path) -> None:
    document = json.loads((folder / "refs.json").read_text())
    (folder / "none.json").write_text(json.dumps(document | {"annotations": []}))
    assert_refused(geomatch("transfer", *arguments, "-o", "out.json", cwd=folder), said, folder=folder)
    assert not (folder / "out.json").exists()


def test_rounds_resume_to_the_same_bytes(folder: Path) -> None:
    for name, left in (("second", 20), ("third", 24)):
        picture(96, 128, left=left, top=10).save(folder / f"{name}.png")
    images = "target.png", "second.png", "third.png"
    command = "transfer", *images, "--keypoints", "refs.json", "--rounds", "3", "--format", "labelme"
    first = geomatch(*command, "-o", "out", "--review", "look", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert "of 3 images are references in the last round" in first.stderr
    before = {path: path.read_bytes() for path in (folder / "out").rglob("*.json")}
    assert len([path for path in before if path.parent.name == "rounds"]) == 6
    (folder / "out" / "third.json").unlink()
    again = geomatch(*command, "-o", "out", "--review", "look", "--resume", cwd=folder)
    assert "2 of them kept from before" in again.stderr
    assert again.stdout == first.stdout
    assert {path: path.read_bytes() for path in before} == before
    once = *command[:6], "--references", "20", "--format", "labelme"
    other = geomatch(*once, "-o", "out", "--resume", cwd=folder)
    assert "was not made from this image, these marks and settings" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["target.png", "--mask", "refs.json"], "--rounds is for the keypoints of several annotated images"),
        (["target.png", "--keypoints", "refs.json", "--from", "1.png"], "--rounds is for the keypoints of several"),
    ],
)
def test_rounds_without_keypoints_of_several_are_refused(arguments: list[str], said: str, folder: Path) -> None:
    done = geomatch("transfer", *arguments, "--rounds", "2", "-o", "out.json", cwd=folder)
    assert_refused(done, said, folder=folder)


def test_rounds_of_several_processes_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = geomatch("transfer", "target.png", "--keypoints", "refs.json", "--rounds", "2", cwd=folder)
    assert_refused(done, "run it as one process", folder=folder)
