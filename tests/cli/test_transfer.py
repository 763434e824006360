"""`geomatch transfer` and `geomatch at` as typed, on pictures whose colours say where they are: see `tests.stub`."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geomatch.pipeline import Pipeline
from tests.cli.command import assert_refused, geomatch
from tests.stub import picture, stub_pipeline

NOSE, TAIL = (30, 40), (120, 80)


@pytest.fixture(autouse=True)
def _colours_for_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "build", lambda **_: stub_pipeline())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reference, a view moved by (12, 8), one with a blank in its name that sees the nose alone, and no image."""
    picture(120, 160).save(tmp_path / "ref.png")
    picture(112, 148, left=12, top=8).save(tmp_path / "moved.png")
    picture(64, 64).save(tmp_path / "nose only.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    category = {"id": 5, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 5,
        "keypoints": [*NOSE, 2, *TAIL, 2],
        "segmentation": [[20, 30, 60, 30, 60, 70, 20, 70]],
        "bbox": [20, 30, 40, 40],
    }
    image = {"id": 1, "file_name": "ref.png", "width": 160, "height": 120}
    document = {"images": [image], "categories": [category], "annotations": [annotation]}
    (tmp_path / "ref.json").write_text(json.dumps(document))
    (tmp_path / "ref.csv").write_text("name,x,y\nnose,30,40\ntail,120,80\n")
    mask = np.zeros((120, 160), np.uint8)
    mask[30:70, 20:60] = 7
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def typed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """What stdin holds."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_image_is_a_line_with_every_point_and_how_sure_it_is(folder: Path) -> None:
    done = geomatch("transfer", "ref.png", "moved.png", "nose only.png", "--keypoints", "ref.json", cwd=folder)
    assert done.returncode == 0
    assert done.stderr.startswith("geomatch: note: 2 images, ")
    moved, nose = lines(done.stdout)
    assert [(item["object"], item["label"], item["name"], item["visibility"]) for item in moved["items"]] == [
        (1, "cat", "nose", 2),
        (1, "cat", "tail", 2),
    ]
    found = [(item["x"], item["y"]) for item in moved["items"]]
    np.testing.assert_allclose(found, np.array([NOSE, TAIL]) - (12, 8), atol=1)
    assert all(0 < item["confidence"] <= 1 for item in moved["items"])
    assert nose["items"][0]["name"] == "nose"
    assert [item["visibility"] for item in nose["items"][1:]] in ([], [1])
    assert sorted(path.name for path in folder.iterdir()) == [
        "broken.png", "mask.png", "moved.png", "nose only.png", "ref.csv", "ref.json", "ref.png",
    ]  # fmt: skip


@pytest.mark.parametrize(("ends", "options"), [(b"\n", []), (b"\r\n", []), (b"\0", ["-0"])])
def test_names_come_down_a_pipe_whatever_is_in_them(
    ends: bytes, options: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, ends.join([b"moved.png", b"nose only.png", b""]))
    done = geomatch("transfer", "ref.png", "-", "--keypoints", "ref.csv", *options, cwd=folder)
    assert [line["image"] for line in lines(done.stdout)] == ["moved.png", "nose only.png"]


def test_a_broken_image_is_a_line_and_all_others_are_done(folder: Path) -> None:
    names = "moved.png", "broken.png", "none.png", "ref.png"
    done = geomatch("transfer", "ref.png", *names, "--keypoints", "ref.json", "-o", "out.json", cwd=folder)
    assert done.returncode == 1
    assert done.stderr.startswith("geomatch: error: 4 images, 2 failed, ")
    records = lines(done.stdout)
    assert [record["image"] for record in records] == list(names)
    assert ["error" in record for record in records] == [False, True, True, False]
    assert "none.png: no such file" in records[2]["error"]
    document = json.loads((folder / "out.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["moved.png", "ref.png"]
    np.testing.assert_allclose(document["annotations"][1]["keypoints"], [*NOSE, 2, *TAIL, 2], atol=1)


def test_where_no_image_can_be_used_nothing_is_written(folder: Path) -> None:
    done = geomatch("transfer", "ref.png", "broken.png", "--keypoints", "ref.json", "-o", "out.json", cwd=folder)
    assert done.returncode == 1
    assert not (folder / "out.json").exists()


def test_masks_are_written_as_they_were_read_one_file_an_image(folder: Path) -> None:
    (folder / "other").mkdir()
    picture(120, 160).save(folder / "other" / "ref.png")
    done = geomatch("transfer", "ref.png", "ref.png", "other/ref.png", "--mask", "mask.png", "-o", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [record["output"] for record in lines(done.stdout)] == ["out/ref.png", "out/ref-2.png"]
    same = np.asarray(Image.open(folder / "out" / "ref.png"))
    mask = np.asarray(Image.open(folder / "mask.png"))
    assert set(np.unique(same)) == {0, 7}
    assert (same != mask).sum() < 4 * 41  # all within a pixel of the edge
    assert lines(done.stdout)[0]["items"][0]["label"] == "7"


def test_photographs_are_never_written_over(folder: Path) -> None:
    before = (folder / "moved.png").read_bytes()
    done = geomatch("transfer", "ref.png", "moved.png", "--mask", "mask.png", "-o", ".", "--overwrite", cwd=folder)
    assert done.returncode == 1
    assert "is the image itself" in lines(done.stdout)[0]["error"]
    assert (folder / "moved.png").read_bytes() == before


@pytest.mark.parametrize(
    ("marked", "format", "written"),
    [
        (("--boxes", "ref.json"), "csv", "out"),
        (("--keypoints", "ref.csv"), "coco", "out"),
        (("--mask", "ref.json"), "png", "out/moved.png"),
        (("--mask", "mask.png"), "labelme", "out/moved.json"),
    ],
)
def test_another_format_is_written_where_that_is_asked_for(
    marked: tuple[str, str], format: str, written: str, folder: Path
) -> None:
    done = geomatch("transfer", "ref.png", "moved.png", *marked, "-o", "out", "--format", format, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[0]["output"] == written
    assert (folder / written).stat().st_size > 0


def test_what_is_not_sure_enough_is_left_out(folder: Path) -> None:
    arguments = "transfer", "ref.png", "moved.png", "--keypoints", "ref.json"
    anyhow = lines(geomatch(*arguments, cwd=folder).stdout)[0]["items"]
    between = (anyhow[0]["confidence"] + anyhow[1]["confidence"]) / 2
    sure = lines(geomatch(*arguments, "--min-confidence", str(between), cwd=folder).stdout)[0]["items"]
    assert sure == [item for item in anyhow if item["confidence"] >= between]
    assert len(sure) == 1


def test_pictures_to_review_are_sorted_by_confidence_and_shown_on_a_page(folder: Path) -> None:
    names = "moved.png", "ref.png", "nose only.png"
    done = geomatch("transfer", "ref.png", *names, "--keypoints", "ref.json", "--review", "see", cwd=folder)
    records = sorted(lines(done.stdout), key=lambda record: record["confidence"])
    pictures = sorted(path.name for path in (folder / "see").iterdir() if path.suffix == ".jpg")
    assert [f"see/{name}" for name in pictures] == [record["review"] for record in records]
    page = (folder / "see" / "index.html").read_text()
    places = [page.index(f'src="{name}"') for name in pictures]
    assert places == sorted(places)
    shown = Image.open(folder / "see" / pictures[0])
    assert shown.width > 2 * shown.height / 2


def test_quiet_says_nothing_but_writes(folder: Path) -> None:
    done = geomatch("transfer", "ref.png", "moved.png", "--boxes", "ref.json", "-o", "out.json", "-q", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    np.testing.assert_allclose(
        json.loads((folder / "out.json").read_text())["annotations"][0]["bbox"], [8, 22, 40, 40], atol=2
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--keypoints", "none.json"], ["none.json: no such file"]),
        (["--keypoints", "ref.png"], ["format png holds no keypoints"]),
        (["--mask", "ref.csv"], ["format csv holds no masks"]),
        (["--mask", "other.png"], ["64x64 pixels, the image it should annotate 160x120"]),
        (["--keypoints", "far.csv"], ["'nose' (300, 40) lies outside ref.png, which is 160x120 pixels"]),
        (["--keypoints", "ref.json", "--boxes", "ref.json"], ["give one of --keypoints"]),
        ([], ["give one of --keypoints FILE, --mask FILE and --boxes FILE"]),
        (["--boxes", "ref.json", "--format", "csv"], ["give -o, too"]),
        (["--boxes", "ref.json", "--format", "png", "-o", "out"], ["format png holds no boxes"]),
        (["--boxes", "ref.json", "--format", "xml", "-o", "out"], ["xml", "labelme"]),
        (["--boxes", "ref.json", "-o", "ref.json"], ["ref.json: exists already", "--overwrite"]),
        (["--boxes", "ref.json", "-o", "no/such/out.json"], ["no/such: no such folder"]),
        (["--boxes", "ref.json", "--review", "ref.json"], ["ref.json: is a file"]),
        (["--boxes", "ref.json", "--min-confidence", "2"], ["min-confidence"]),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(arguments: list[str], said: list[str], folder: Path) -> None:
    Image.new("L", (64, 64)).save(folder / "other.png")
    (folder / "far.csv").write_text("name,x,y\nnose,300,40\n")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    done = geomatch("transfer", "ref.png", "moved.png", *arguments, cwd=folder)
    assert_refused(done, *said, folder=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_document_that_does_not_know_the_reference_is_refused(folder: Path) -> None:
    done = geomatch("transfer", "moved.png", "ref.png", "--keypoints", "ref.json", cwd=folder)
    assert_refused(done, "ref.json: knows no image of the name moved.png", folder=folder)


def test_an_empty_list_of_images_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, b"\n")
    done = geomatch("transfer", "ref.png", "-", "--keypoints", "ref.json", cwd=folder)
    assert_refused(done, "stdin: names no images", folder=folder)


def test_points_are_sent_one_line_each_in_the_order_given(folder: Path) -> None:
    done = geomatch("at", "ref.png", "moved.png", "--point", "120,80", "--point", "30.5, 40", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = lines(done.stdout)
    assert (first["x"], first["y"], second["x"], second["y"]) == (120, 80, 30.5, 40)
    np.testing.assert_allclose((first["to_x"], first["to_y"]), (108, 72), atol=1)
    np.testing.assert_allclose((second["to_x"], second["to_y"]), (18.5, 32), atol=1)
    assert (first["valid"], second["valid"]) == (True, True)
    assert 0 < first["confidence"] <= 1


@pytest.mark.parametrize("content", ["30,40\n120,80\n", "y,name,x\n40,nose,30\n80,tail,120\n", "30\t40\n\n120\t80"])
def test_points_come_down_a_pipe_and_keep_their_other_columns(
    content: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, content.encode())
    records = lines(geomatch("at", "ref.png", "moved.png", "--points", "-", cwd=folder).stdout)
    assert [(record["x"], record["y"]) for record in records] == [NOSE, TAIL]
    assert [record.get("name") for record in records] == (["nose", "tail"] if "name" in content else [None, None])


def test_what_at_prints_can_be_given_to_it_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = lines(geomatch("at", "ref.png", "moved.png", "--points", "ref.csv", cwd=folder).stdout)
    typed(monkeypatch, "".join(f"{record['to_x']},{record['to_y']}\n" for record in sent).encode())
    back = lines(geomatch("at", "moved.png", "ref.png", "--points", "-", cwd=folder).stdout)
    np.testing.assert_allclose([(record["to_x"], record["to_y"]) for record in back], [NOSE, TAIL], atol=1.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no points; give --point X,Y"),
        (
            ["--point", "160,3"],
            "--point 160,3, line 1: the point (160, 3) lies outside ref.png, which is 160x120 pixels",
        ),
        (["--point", "-1,3"], "the point (-1, 3) lies outside"),
        (["--point", "3"], "--point 3"),
        (["--point", "x,y"], "no points"),
        (["--point", "3,nan"], "--point 3,nan"),
        (["--points", "none.csv"], "none.csv: no such file"),
        (["--points", "bad.csv"], "bad.csv, line 3, column 'y'"),
        (["--points", "far.csv"], "far.csv, line 2: the point (3, 500) lies outside"),
    ],
)
def test_points_that_are_none_or_lie_outside_are_named(arguments: list[str], said: str, folder: Path) -> None:
    (folder / "bad.csv").write_text("x,y\n1,2\n3,four\n")
    (folder / "far.csv").write_text("1,2\n3,500\n")
    assert_refused(geomatch("at", "ref.png", "moved.png", *arguments, cwd=folder), said, folder=folder)
