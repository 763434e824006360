"""`geomatch suggest` as typed, on views of one picture whose colours say where they are: see `tests.stub`."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from geomatch.cli.options import PipelineOptions
from tests.cli.command import assert_refused, geomatch
from tests.stub import picture, stub_pipeline
from tests.transfer.references.test_reference_transfer import write_references


@pytest.fixture(autouse=True)
def _colours_for_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PipelineOptions, "build", lambda _: stub_pipeline())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four views that are annotated, one that is not, and three that differ from all of these and little otherwise."""
    write_references(tmp_path)
    for place in range(3):
        picture(64, 64, left=90 + 2 * place, top=50).save(tmp_path / f"far {place}.png")
    return tmp_path


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_suggest_lists_reasons_and_draws_a_contact_sheet(folder: Path) -> None:
    done = geomatch("suggest", ".", "--count", "3", "--json", "-o", "sheet.png", "-q", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    records = lines(done.stdout)
    assert [record["rank"] for record in records] == [1, 2, 3]
    assert records[0]["reason"] == "the most typical of all"
    assert records[0]["stands_for"] == 8
    groups = [record["image"].startswith("far") for record in records[:2]]
    assert sorted(groups) == [False, True]  # one of either group first
    assert [record["gain"] for record in records] == sorted((record["gain"] for record in records), reverse=True)
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > sheet.height


def test_suggest_beside_references_names_what_they_lack(folder: Path) -> None:
    done = geomatch("suggest", ".", "--keypoints", "refs.json", "--count", "2", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1.png and 3 more: annotated already, so left out" in done.stderr
    first, second = lines(done.stdout)
    assert first["image"].startswith("far")
    assert first["nearest"] in {f"{number}.png" for number in range(1, 5)}
    assert first["reason"] == "nearest to 2 others"
    assert second["gain"] < first["gain"]


def test_suggest_finds_references_among_the_images_named(folder: Path) -> None:
    marks = folder / "marks"
    marks.mkdir()
    (folder / "refs.json").rename(marks / "refs.json")
    done = geomatch("suggest", "..", "--keypoints", "refs.json", "--count", "1", "--json", cwd=marks)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[0]["image"].startswith("../far")


def test_suggest_table_names_images_and_goes_on_after_a_broken_one(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    done = geomatch("suggest", "target.png", "broken.png", "far 1.png", "--count", "9", cwd=folder)
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert "1 of 3 images cannot be used and are left out" in done.stderr
    assert "the most typical of all" in done.stdout
    assert "far 1.png" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.png"], "none of the images can be used"),
        (["target.png", "--from", "."], "--from says where the images of --keypoints are"),
        (["1.png", "2.png", "3.png", "4.png", "--keypoints", "refs.json"], "is one that is annotated already"),
        (["target.png", "--keypoints", "gone.json"], "gone.json: no such file"),
        (["target.png", "-o", "sheet.jpg"], "sheet.jpg"),
    ],
)
def test_suggest_refuses_what_it_cannot_use(arguments: list[str], said: str, folder: Path) -> None:
    assert_refused(geomatch("suggest", *arguments, cwd=folder), said, folder=folder)
