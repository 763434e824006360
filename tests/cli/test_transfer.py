"""`geomatch transfer` and `geomatch at` as typed, on pictures whose colours say where they are: see `tests.stub`."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from geomatch.annotations import Instance, named_keypoints
from geomatch.cli.options import PipelineOptions
from geomatch.io.images import load_image
from geomatch.transfer.transfer import transfer_keypoints
from tests.cli.command import assert_refused, geomatch
from tests.stub import picture, stub_pipeline
from tests.transfer.test_transfer import points_of

NOSE, TAIL = (30, 40), (120, 80)


@pytest.fixture(autouse=True)
def _colours_for_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PipelineOptions, "build", lambda _: stub_pipeline())


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


def test_transfer_prints_a_line_per_image(folder: Path) -> None:
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
def test_transfer_reads_names_from_stdin(
    ends: bytes, options: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, ends.join([b"moved.png", b"nose only.png", b""]))
    done = geomatch("transfer", "ref.png", "-", "--keypoints", "ref.csv", *options, cwd=folder)
    assert [line["image"] for line in lines(done.stdout)] == ["moved.png", "nose only.png"]


def test_transfer_goes_on_after_a_broken_image(folder: Path) -> None:
    names = "moved.png", "broken.png", "none.png", "ref.png"
    done = geomatch("transfer", "ref.png", *names, "--keypoints", "ref.json", "-o", "out.json", cwd=folder)
    assert done.returncode == 1
    failed = [line.removeprefix("geomatch: error: ") for line in done.stderr.splitlines()]
    assert [line.partition(":")[0] for line in failed[:2]] == ["broken.png", "none.png"]
    assert failed[2].startswith("4 images, 2 failed, ")
    records = lines(done.stdout)
    assert [record["image"] for record in records] == list(names)
    assert ["error" in record for record in records] == [False, True, True, False]
    assert "none.png: no such file" in records[2]["error"]
    document = json.loads((folder / "out.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["moved.png", "ref.png"]
    np.testing.assert_allclose(document["annotations"][1]["keypoints"], [*NOSE, 2, *TAIL, 2], atol=1)


def test_transfer_writes_nothing_without_usable_images(folder: Path) -> None:
    done = geomatch("transfer", "ref.png", "broken.png", "--keypoints", "ref.json", "-o", "out.json", cwd=folder)
    assert done.returncode == 1
    assert not (folder / "out.json").exists()


def test_transfer_writes_a_label_image_per_image(folder: Path) -> None:
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


def test_transfer_never_overwrites_photographs(folder: Path) -> None:
    before = (folder / "moved.png").read_bytes()
    done = geomatch("transfer", "ref.png", "moved.png", "--mask", "mask.png", "-o", ".", "--overwrite", cwd=folder)
    assert done.returncode == 1
    assert "is the image itself" in lines(done.stdout)[0]["error"]
    assert (folder / "moved.png").read_bytes() == before


@pytest.mark.parametrize(
    ("marked", "format", "written"),
    [
        (("--boxes", "ref.json"), "csv", "out.csv"),
        (("--keypoints", "ref.csv"), "coco", "out.json"),
        (("--mask", "ref.json"), "png", "out/moved.png"),
        (("--mask", "mask.png"), "labelme", "out/moved.json"),
    ],
)
def test_transfer_writes_other_formats(marked: tuple[str, str], format: str, written: str, folder: Path) -> None:
    output = written.partition("/")[0]
    done = geomatch("transfer", "ref.png", "moved.png", *marked, "-o", output, "--format", format, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[0]["output"] == written
    assert (folder / written).stat().st_size > 0


def test_transfer_leaves_out_low_confidence(folder: Path) -> None:
    arguments = "transfer", "ref.png", "moved.png", "--keypoints", "ref.json"
    anyhow = lines(geomatch(*arguments, cwd=folder).stdout)[0]["items"]
    between = (anyhow[0]["confidence"] + anyhow[1]["confidence"]) / 2
    sure = lines(geomatch(*arguments, "--min-confidence", str(between), cwd=folder).stdout)[0]["items"]
    assert sure == [item for item in anyhow if item["confidence"] >= between]
    assert len(sure) == 1


def test_transfer_review_is_sorted_by_confidence(folder: Path) -> None:
    names = "moved.png", "ref.png", "nose only.png"
    done = geomatch("transfer", "ref.png", *names, "--keypoints", "ref.json", "--review", "see", cwd=folder)
    records = sorted(lines(done.stdout), key=lambda record: record["confidence"])
    pictures = sorted(path.name for path in (folder / "see").iterdir() if path.suffix == ".jpg")
    assert [f"see/{name}" for name in pictures] == [record["review"] for record in records]
    page = (folder / "see" / "index.html").read_text()
    places = [page.index(f'"picture":"photographs/{quote(Path(name).stem[6:])}.jpg"') for name in pictures]
    assert places == sorted(places)
    shown = Image.open(folder / "see" / pictures[0])
    assert shown.width > 2 * shown.height / 2


def many(folder: Path, count: int) -> list[str]:
    """Views of the picture, no two alike, and each of another size."""
    names = [f"view {number}.png" for number in range(count)]
    for number, name in enumerate(names):
        picture(80 + number % 7 * 8, 100 + number % 5 * 8, left=number % 11, top=number % 3).save(folder / name)
    return names


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden files, too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_transfer_in_parallel_equals_one_by_one(folder: Path) -> None:
    names = many(folder, 40)
    done = geomatch("transfer", "ref.png", *names, "--keypoints", "ref.csv", "-o", "out.csv", cwd=folder)
    pipeline, marks = (
        stub_pipeline(),
        Instance("cat", 1, named_keypoints(["nose", "tail"], np.array([NOSE, TAIL], float))),
    )
    reference = pipeline.extract(load_image(folder / "ref.png"))
    rows = (folder / "out.csv").read_text().splitlines()[1:]
    for name, record in zip(names, lines(done.stdout), strict=True):
        assert record["image"] == name
        found = pipeline.match(reference, pipeline.extract(load_image(folder / name)))
        expected = points_of(transfer_keypoints([marks], found)[0])
        here = expected.points[expected.present].round(2).tolist()
        assert [[item["x"], item["y"]] for item in record["items"]] == here
        own = [row.split(",") for row in rows if row.startswith(f"{name},")]
        assert [[float(row[4]), float(row[5])] for row in own] == here


def test_transfer_file_names_depend_on_the_list_alone(folder: Path) -> None:
    """Also where an image fails: else it would take its file's name from another when it is mended."""
    (folder / "other").mkdir()
    (folder / "other" / "moved.png").write_bytes(b"no image")
    command = "transfer", "ref.png", "other/moved.png", "moved.png", "--mask", "mask.png", "-o", "out"
    records = lines(geomatch(*command, cwd=folder).stdout)
    assert [record.get("output") for record in records] == [None, "out/moved-2.png"]
    picture(120, 160).save(folder / "other" / "moved.png")
    resumed = geomatch(*command, "--resume", cwd=folder)
    assert [record["output"] for record in lines(resumed.stdout)] == ["out/moved.png", "out/moved-2.png"]
    assert "2 images, 1 of them kept from before" in resumed.stderr


FOLDERS = [("--keypoints", "ref.json", "labelme", ".json"), ("--mask", "mask.png", "png", ".png")]


@pytest.mark.parametrize(("mark", "file", "format", "suffix"), FOLDERS)
def test_transfer_resume_does_what_is_missing(mark: str, file: str, format: str, suffix: str, folder: Path) -> None:
    names = many(folder, 6)
    command = ("transfer", "ref.png", *names, mark, file, "-o", "out", "--format", format, "--review", "look")
    first = geomatch(*command, cwd=folder)
    before = files_of(folder / "out") | files_of(folder / "look")
    (folder / "out" / f"view 2{suffix}").unlink()
    (folder / "out" / ".geomatch" / f"view 4{suffix}.json").write_bytes(b"{")
    (folder / "out" / f"view 4{suffix}").unlink()
    for place in ("out", "look"):
        (folder / place / f".geomatch-view 2{suffix}-ab12cd34").mkdir()
    ages = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
    resumed = geomatch(*command, "--resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == first.stdout
    assert "6 images, 4 of them kept from before" in resumed.stderr
    assert files_of(folder / "out") | files_of(folder / "look") == before
    assert not list((folder / "out").glob(".geomatch-*"))
    redone = {path.stem for path in (folder / "out").glob(f"*{suffix}") if path.stat().st_mtime_ns != ages.get(path)}
    assert redone == {"view 2", "view 4"}


def test_transfer_resume_keeps_corrected_and_unknown_files(folder: Path) -> None:
    names = many(folder, 4)
    command = ("transfer", "ref.png", *names, "--keypoints", "ref.json", "-o", "out", "--format", "labelme")
    geomatch(*command, cwd=folder)
    (folder / "out" / "view 0.json").write_text("corrected")
    (folder / "out" / ".geomatch" / "view 1.json.json").unlink()
    picture(90, 90).save(folder / "view 2.png")
    before = files_of(folder / "out")
    resumed = geomatch(*command, "--resume", cwd=folder)
    assert resumed.returncode == 1
    errors = [record.get("error", "") for record in lines(resumed.stdout)]
    assert [bool(error) for error in errors] == [False, True, True, False]
    assert all("not made from this image, these marks and settings" in error for error in errors[1:3])
    assert files_of(folder / "out") == before
    other = geomatch(*command, "--resume", "--min-confidence", "0.01", cwd=folder)
    assert ["error" in record for record in lines(other.stdout)] == [True] * 4
    assert files_of(folder / "out") == before
    again = geomatch(*command, "--overwrite", cwd=folder)
    assert again.returncode == 0
    assert json.loads((folder / "out" / "view 0.json").read_text())["imagePath"] == "../view 0.png"


def test_transfer_under_torchrun_does_each_image_once(folder: Path) -> None:
    names = many(folder, 11)
    command = ("transfer", "ref.png", *names, "--boxes", "ref.json", "--format", "labelme", "-o", "out")
    alone = geomatch(*command, "--review", "look", cwd=folder)
    whole, pictures = files_of(folder / "out"), set(files_of(folder / "look")) - {"index.html"}
    shutil.rmtree(folder / "out")
    shutil.rmtree(folder / "look")
    parts = [
        geomatch(*command, "--review", "look", cwd=folder, env={"RANK": str(rank), "WORLD_SIZE": "3"})
        for rank in range(3)
    ]
    assert {len(lines(part.stdout)) for part in parts} == {3, 4}
    assert "".join(part.stdout for part in parts) == alone.stdout
    assert files_of(folder / "out") == whole
    pages = {f"index-{number}-of-3.html" for number in (1, 2, 3)}
    assert set(files_of(folder / "look")) == pictures | pages
    assert "process 2 of 3: 4 images" in parts[2].stderr


def test_transfer_quiet_silences_notes_only(folder: Path) -> None:
    done = geomatch("transfer", "ref.png", "moved.png", "--boxes", "ref.json", "-o", "out.json", "-q", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["image"] == "moved.png"
    np.testing.assert_allclose(
        json.loads((folder / "out.json").read_text())["annotations"][0]["bbox"], [8, 22, 40, 40], atol=2
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--keypoints", "none.json"], ["none.json: no such file"]),
        (["--keypoints", "ref.png"], ["format png cannot hold keypoints"]),
        (["--mask", "ref.csv"], ["format csv cannot hold masks"]),
        (["--mask", "other.png"], ["64x64 pixels, the image it should annotate 160x120"]),
        (["--keypoints", "far.csv"], ["'nose' (300, 40) lies outside ref.png, which is 160x120 pixels"]),
        (["--keypoints", "ref.json", "--boxes", "ref.json"], ["give one of --keypoints"]),
        ([], ["give one of --keypoints FILE, --mask FILE and --boxes FILE"]),
        (["--boxes", "ref.json", "--format", "csv"], ["give -o, too"]),
        (["--boxes", "ref.json", "--format", "png", "-o", "out"], ["format png cannot hold boxes"]),
        (["--boxes", "ref.json", "--format", "xml", "-o", "out"], ["xml", "labelme"]),
        (["--boxes", "ref.json", "-o", "ref.json"], ["ref.json: exists already", "--overwrite"]),
        (["--boxes", "ref.json", "-o", "ref.png/out.json"], ["ref.png: is a file"]),
        (["--boxes", "ref.json", "-o", "out"], ["-o out: coco is one file", ".json", "--format labelme"]),
        (["--boxes", "ref.json", "-o", "out.txt"], ["-o out.txt", ".json"]),
        (["--boxes", "ref.json", "-o", "out.csv", "--format", "coco"], ["-o out.csv", ".json"]),
        (["--boxes", "ref.json", "-o", "out.json", "--format", "labelme"], ["out.json: the output is a folder"]),
        (["--boxes", "ref.json", "--review", "ref.json"], ["ref.json: is a file"]),
        (["--boxes", "ref.json", "--min-confidence", "2"], ["min-confidence"]),
        (["--boxes", "ref.json", "--resume"], ["--resume", "-o DIR"]),
        (["--boxes", "ref.json", "--resume", "-o", "out.json"], ["out.json: one file for all images", "labelme"]),
        (["--boxes", "ref.json", "--resume", "--overwrite", "-o", "out"], ["--resume", "one of them"]),
    ],
)
def test_transfer_refuses_bad_options_before_any_work(arguments: list[str], said: list[str], folder: Path) -> None:
    Image.new("L", (64, 64)).save(folder / "other.png")
    (folder / "far.csv").write_text("name,x,y\nnose,300,40\n")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    done = geomatch("transfer", "ref.png", "moved.png", *arguments, cwd=folder)
    assert_refused(done, *said, folder=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["moved.png", "-o", "out.json"], "2 processes cannot write one file"), (["-"], "cannot read one stdin")],
)
def test_transfer_refuses_what_processes_cannot_share(arguments: list[str], said: str, folder: Path) -> None:
    command = "transfer", "ref.png", *arguments, "--keypoints", "ref.json"
    done = geomatch(*command, cwd=folder, env={"RANK": "1", "WORLD_SIZE": "2"})
    assert_refused(done, said, folder=folder)


def test_transfer_refuses_annotations_of_another_image(folder: Path) -> None:
    done = geomatch("transfer", "moved.png", "ref.png", "--keypoints", "ref.json", cwd=folder)
    assert_refused(done, "ref.json: has no image named moved.png", folder=folder)


def test_transfer_refuses_an_empty_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, b"\n")
    done = geomatch("transfer", "ref.png", "-", "--keypoints", "ref.json", cwd=folder)
    assert_refused(done, "stdin: names no images", folder=folder)


def test_at_prints_a_line_per_point(folder: Path) -> None:
    done = geomatch("at", "ref.png", "moved.png", "--point", "120,80", "--point", "30.5, 40", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = lines(done.stdout)
    assert (first["x"], first["y"], second["x"], second["y"]) == (120, 80, 30.5, 40)
    np.testing.assert_allclose((first["to_x"], first["to_y"]), (108, 72), atol=1)
    np.testing.assert_allclose((second["to_x"], second["to_y"]), (18.5, 32), atol=1)
    assert (first["valid"], second["valid"]) == (True, True)
    assert 0 < first["confidence"] <= 1


@pytest.mark.parametrize("content", ["30,40\n120,80\n", "y,name,x\n40,nose,30\n80,tail,120\n", "30\t40\n\n120\t80"])
def test_at_reads_stdin_and_keeps_other_columns(content: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, content.encode())
    records = lines(geomatch("at", "ref.png", "moved.png", "--points", "-", cwd=folder).stdout)
    assert [(record["x"], record["y"]) for record in records] == [NOSE, TAIL]
    assert [record.get("name") for record in records] == (["nose", "tail"] if "name" in content else [None, None])


def test_at_reads_what_it_prints(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            "--point 160,3: the point (160, 3) lies outside ref.png, which is 160x120 pixels",
        ),
        (["--point", "-1,3"], "the point (-1, 3) lies outside"),
        (["--point", "3"], "--point 3"),
        (["--point", "x,y"], "--point x,y: write it as X,Y"),
        (["--point", "3,nan"], "--point 3,nan"),
        (["--points", "none.csv"], "none.csv: no such file"),
        (["--points", "bad.csv"], "bad.csv, line 3, column 'y'"),
        (["--points", "far.csv"], "far.csv, line 2: the point (3, 500) lies outside"),
    ],
)
def test_at_names_points_that_cannot_be_used(arguments: list[str], said: str, folder: Path) -> None:
    (folder / "bad.csv").write_text("x,y\n1,2\n3,four\n")
    (folder / "far.csv").write_text("1,2\n3,500\n")
    assert_refused(geomatch("at", "ref.png", "moved.png", *arguments, cwd=folder), said, folder=folder)
