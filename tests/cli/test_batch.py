"""`geomatch match` of many pairs as a user meets it: lists, streams, exit status, and what a second run does."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from geomatch.cli.options import PipelineOptions
from geomatch.io.flow import decode_flo
from tests.cli.command import assert_refused, geomatch, own_process
from tests.stub import build_stub

QUICK = ("--preset", "fast", "--no-pictures")


@pytest.fixture
def shipped_weights() -> None:
    """Asked for by the tests that need the network itself."""


@pytest.fixture(autouse=True)
def _stub_pipeline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "shipped_weights" not in request.fixturenames:
        monkeypatch.setattr(PipelineOptions, "build", build_stub)


@pytest.fixture
def photographs(teapots: Path, tmp_path: Path) -> Path:
    """Six small pictures, two of the same name in different folders, one with a space and one with a comma."""
    a, b = (Image.open(teapots / name).convert("RGB").resize((96, 72)) for name in ("a.png", "b.png"))
    names = {
        "left/pot.png": a,
        "right/pot.png": b,
        "a pot.png": b,
        "pot, blue.png": a.rotate(9),
        "x.png": a,
        "y.png": b.rotate(5),
    }
    for name, picture in names.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / name)
    return tmp_path


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def sides(records: Iterable[dict[str, object]]) -> list[tuple[str, str]]:
    """Source and target of each record, as they were named."""
    named = []
    for record in records:
        both = [record[side] for side in ("source", "target")]
        source, target = (each["path"] if isinstance(each, dict) else str(each) for each in both)
        named.append((source, target))
    return named


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden things, too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_gallery_shows_every_pair_of_a_list(photographs: Path) -> None:
    (photographs / "list.tsv").write_text("a pot.png\tx.png\npot, blue.png\tmissing.png\nx.png\ty.png\n")
    asked = ("match", "--pairs", "list.tsv", "-o", "out", "--gallery", "pages/all.html")
    done = geomatch(*asked, cwd=photographs)
    assert done.returncode == 1
    page = (photographs / "pages" / "all.html").read_text()
    assert page.count("<article") == 3
    assert "missing.png: no such file" in page
    links = re.findall(r'(?:href|src)="(\.\./[^"]*)"', page)
    assert len(links) == 2 * (len(list((photographs / "out" / "x--y").iterdir())) + 2)
    for link in links:
        assert (photographs / "pages" / unquote(link)).is_file(), link
    again = geomatch(*asked, "--resume", cwd=photographs)
    assert again.stdout == done.stdout
    assert (photographs / "pages" / "all.html").read_text() == page
    refused = geomatch(*asked, cwd=photographs)
    assert refused.returncode == 2
    assert "all.html: exists already" in refused.stderr


def test_gallery_of_pairs_without_pictures_has_links(photographs: Path) -> None:
    asked = ("--all-pairs", "left", "--no-pictures", "-o", "out", "--gallery", "out/index.html")
    shutil.copy(photographs / "x.png", photographs / "left")
    done = geomatch("match", *asked, cwd=photographs)
    assert done.returncode == 0, done.stderr
    page = (photographs / "out" / "index.html").read_text()
    assert "<img" not in page
    assert 'href="pot--x/flow.flo"' in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x.png", "y.png", "--gallery", "all.html"), "--gallery shows many pairs"),
        (("--against", "x.png", "y.png", "-o", "out", "--gallery", "-"), "give the name of a file"),
        (("--against", "x.png", "y.png", "-o", "out", "--gallery", "all.png"), "ends in .html or .htm"),
    ],
)
def test_gallery_refuses_what_it_cannot_be(arguments: tuple[str, ...], said: str, photographs: Path) -> None:
    done = geomatch("match", *arguments, cwd=photographs)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (photographs / "out").exists()


PAIRS = [("a pot.png", "x.png"), ("left/pot.png", "right/pot.png"), ("pot, blue.png", "a pot.png")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.tsv", "".join(f"{a}\t{b}\n" for a, b in PAIRS)),
        ("list", "".join(f"{a}\t{b}\r\n" for a, b in PAIRS)),
        ("list.csv", "".join(f'"{a}","{b}"\n' for a, b in PAIRS)),
        ("list", "id,target,source\n" + "".join(f'7,"{b}","{a}"\n' for a, b in PAIRS)),
        ("list.jsonl", "\n".join(json.dumps({"target": b, "source": a, "note": 1}) for a, b in PAIRS)),
        ("list.txt", "".join(json.dumps({"source": a, "target": b}) + "\n\n" for a, b in PAIRS)),
    ],
)
def test_batch_list_formats(name: str, content: str, photographs: Path) -> None:
    (photographs / name).write_bytes(content.encode())
    done = geomatch("match", "--pairs", name, "-o", "out", *QUICK, cwd=photographs)
    assert done.returncode == 0, done.stderr
    assert sides(lines(done)) == PAIRS
    for record in lines(done):
        folder = photographs / str(record["output"])
        assert json.loads((folder / "match.json").read_text()) == record
        assert sorted(path.name for path in folder.iterdir()) == ["flow.flo", "match.json"]
    assert "3 pairs" in done.stderr


def test_batch_list_through_pipe(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x.png\ta pot.png\n")))
    done = geomatch("match", "--pairs", "-", "-o", "out", *QUICK, cwd=photographs)
    assert sides(lines(done)) == [("x.png", "a pot.png")]


def test_batch_against_names_from_pipe(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"left/pot.png\nright/pot.png\n")))
    done = geomatch("match", "--against", "x.png", "a pot.png", "-", "-o", "out", *QUICK, cwd=photographs)
    assert sides(lines(done)) == [("x.png", name) for name in ("a pot.png", "left/pot.png", "right/pot.png")]


def test_batch_all_pairs_of_folder(photographs: Path) -> None:
    (photographs / "notes.txt").write_text("no image")
    done = geomatch("match", "--all-pairs", ".", "-o", "out", *QUICK, cwd=photographs)
    names = ["a pot.png", "pot, blue.png", "x.png", "y.png"]
    assert sides(lines(done)) == [(a, b) for a in names for b in names if a != b]


def test_batch_same_name_in_two_folders(photographs: Path) -> None:
    pairs = [("x.png", "left/pot.png"), ("x.png", "right/pot.png"), ("x.png", "left/pot.png")]
    (photographs / "list.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    done = geomatch("match", "--pairs", "list.tsv", "-o", "out", *QUICK, cwd=photographs)
    assert [record["output"] for record in lines(done)] == ["out/x--pot", "out/x--pot-2", "out/x--pot-3"]
    flows = [(photographs / str(record["output"]) / "flow.flo").read_bytes() for record in lines(done)]
    assert flows[0] == flows[2] != flows[1]


def test_batch_equals_single_matches(photographs: Path) -> None:
    many = geomatch("match", "--all-pairs", ".", "-o", "out", "--preset", "fast", cwd=photographs)
    one = geomatch("match", "x.png", "a pot.png", "-o", "one", "--preset", "fast", cwd=photographs)
    assert (many.returncode, one.returncode) == (0, 0)
    alone, among = files_of(photographs / "one"), files_of(photographs / "out" / "x--a pot")
    records = [json.loads(each.pop("match.json")) for each in (alone, among)]
    assert alone == among
    assert set(records[0]) - set(records[1]) == {"seconds"}
    assert records[0]["files"] == records[1]["files"]


def test_batch_broken_image_fails_its_own_pairs(photographs: Path) -> None:
    (photographs / "broken.png").write_bytes((photographs / "x.png").read_bytes()[:500])
    pairs = [("x.png", "y.png")] * 10 + [("broken.png", "x.png"), ("y.png", "none.png")] + [("y.png", "x.png")] * 10
    (photographs / "list.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    done = geomatch("match", "--pairs", "list.tsv", "-o", "out", *QUICK, cwd=photographs)
    assert done.returncode == 1
    assert sides(lines(done)) == pairs
    failed = [record for record in lines(done) if "error" in record]
    assert [set(record) for record in failed] == [{"source", "target", "error"}] * 2
    assert "damaged" in str(failed[0]["error"])
    assert "none.png: no such file" in str(failed[1]["error"])
    assert "22 pairs, 2 failed" in done.stderr
    assert len(list((photographs / "out").iterdir())) == 20


def test_batch_name_too_long_fails_its_pair(photographs: Path) -> None:
    entries = [json.dumps({"source": name, "target": "x.png"}) for name in ["x" * 300 + ".png", "y.png"]]
    (photographs / "list.jsonl").write_text("\n".join(entries))
    done = geomatch("match", "--pairs", "list.jsonl", "-o", "out", *QUICK, cwd=photographs)
    assert done.returncode == 1
    assert ["error" in record for record in lines(done)] == [True, False]


@pytest.mark.parametrize("name", ["\ud800.png", "a\0b.png"])
def test_batch_impossible_file_name_is_refused_with_line(photographs: Path, name: str) -> None:
    entries = [json.dumps({"source": each, "target": "x.png"}) for each in ("y.png", name)]
    (photographs / "list.jsonl").write_text("\n".join(entries))
    done = geomatch("match", "--pairs", "list.jsonl", "-o", "out", *QUICK, cwd=photographs)
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 2: no file can be named" in done.stderr


def test_batch_printed_failures_can_be_given_again(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (photographs / "x.png").read_bytes()
    (photographs / "x.png").write_bytes(b"")
    done = geomatch("match", "--against", "y.png", "x.png", "a pot.png", "-o", "out", *QUICK, cwd=photographs)
    again = "\n".join(line for line in done.stdout.splitlines() if '"error"' in line)
    (photographs / "x.png").write_bytes(good)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(again.encode())))
    redone = geomatch("match", "--pairs", "-", "-o", "out", *QUICK, cwd=photographs)
    assert redone.returncode == 0, redone.stderr
    assert sides(lines(redone)) == [("y.png", "x.png")]


def test_batch_resume_redoes_missing_damaged_and_changed(photographs: Path) -> None:
    command = ("match", "--all-pairs", ".", "-o", "out", *QUICK)
    first = geomatch(*command, cwd=photographs)
    before, out = files_of(photographs / "out"), photographs / "out"
    shutil.rmtree(out / "x--y")
    (out / "y--x" / "flow.flo").write_bytes(before["y--x/flow.flo"][:-1])
    (out / "x--a pot" / "match.json").write_text("{")
    ages = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    resumed = geomatch(*command, "--resume", cwd=photographs)
    assert resumed.returncode == 0, resumed.stderr
    assert files_of(out) == before
    assert resumed.stdout == first.stdout
    redone = {path.parent.name for path in out.rglob("*.flo") if path.stat().st_mtime_ns != ages.get(path)}
    assert redone == {"x--y", "y--x", "x--a pot"}
    assert "12 pairs, 9 of them kept from before" in resumed.stderr

    Image.open(photographs / "y.png").rotate(180).save(photographs / "x.png")
    changed = geomatch(*command, "--resume", cwd=photographs)
    assert "6 of them kept" in changed.stderr, "the six without x.png"
    other = geomatch(*command, "--resume", "--min-confidence", "0.1", cwd=photographs)
    assert "kept" not in other.stderr


@pytest.mark.usefixtures("shipped_weights")
def test_batch_killed_and_resumed_gives_same_bytes(photographs: Path) -> None:
    command = (
        "match",
        "--against",
        "x.png",
        "y.png",
        "a pot.png",
        "pot, blue.png",
        "left/pot.png",
        "-o",
        "out",
        *QUICK,
    )
    geomatch(*command, cwd=photographs)
    peaceful = files_of(photographs / "out")
    shutil.rmtree(photographs / "out")
    process = subprocess.Popen(**own_process(*command), cwd=photographs, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=200)
    # What a kill in the middle of writing leaves behind.
    (photographs / "out" / ".geomatch-x--y-ab12cd34").mkdir()
    assert geomatch(*command, "--resume", cwd=photographs).returncode == 0
    assert files_of(photographs / "out") == peaceful
    assert not list((photographs / "out").glob(".geomatch-*"))


@pytest.mark.usefixtures("shipped_weights")
def test_batch_feature_cache_keeps_results(photographs: Path) -> None:
    def run(out: str, *more: str) -> dict[str, bytes]:
        names = ("x.png", "y.png", "a pot.png", "pot, blue.png")
        done = geomatch("match", "--against", *names, "-o", out, *QUICK, *more, cwd=photographs)
        assert done.returncode == 0, done.stderr
        return {name: content for name, content in files_of(photographs / out).items() if name.endswith(".flo")}

    fresh = run("fresh", "--cache", "kept")
    entries = sorted((photographs / "kept").iterdir())
    assert len(entries) == 4
    entries[0].write_bytes(entries[0].read_bytes()[:-9])
    content = bytearray(entries[1].read_bytes())
    content[len(content) // 2] ^= 1
    entries[1].write_bytes(content)
    written = [entry.stat().st_mtime_ns for entry in entries]
    assert run("again", "--cache", "kept") == fresh
    redone = [entry.stat().st_mtime_ns != before for entry, before in zip(entries, written, strict=True)]
    assert redone == [True, True, False, False]
    plain = {name: decode_flo(content).flow for name, content in run("plain").items()}
    for name, flow in plain.items():
        moved = np.abs(decode_flo(fresh[name]).flow - flow)
        assert 0 < np.median(moved) < 0.01, "half precision moves most matches by next to nothing"


@pytest.mark.slow
@pytest.mark.usefixtures("shipped_weights")
def test_batch_two_living_runs_share_a_feature_cache(photographs: Path) -> None:
    names = ("x.png", "y.png", "a pot.png", "pot, blue.png")
    runs = {
        out: subprocess.Popen(
            **own_process("match", "--against", *names, "-o", out, "--cache", "kept", *QUICK),
            cwd=photographs,
            stdout=subprocess.PIPE,
        )
        for out in ("one", "other")
    }
    for process in runs.values():
        process.communicate(timeout=200)
        assert process.returncode == 0
    one, other = (files_of(photographs / out) for out in runs)
    assert {name: content for name, content in one.items() if name.endswith(".flo")} == {
        name: content for name, content in other.items() if name.endswith(".flo")
    }
    assert len(list((photographs / "kept").iterdir())) == 4, "an entry for each image and nothing left over"


def test_batch_torchrun_processes_share_pairs(photographs: Path) -> None:
    command = ("match", "--all-pairs", ".", *QUICK)
    alone = geomatch(*command, "-o", "out", cwd=photographs)
    whole = files_of(photographs / "out")
    shutil.rmtree(photographs / "out")
    parts = [
        geomatch(*command, "-o", "out", cwd=photographs, env={"RANK": str(rank), "WORLD_SIZE": "5"})
        for rank in range(5)
    ]
    assert {len(lines(part)) for part in parts} == {2, 3}
    assert "".join(part.stdout for part in parts) == alone.stdout
    assert files_of(photographs / "out") == whole
    assert "process 4 of 5" in parts[4].stderr
    piped = geomatch("match", "--pairs", "-", "-o", "more", cwd=photographs, env={"RANK": "0", "WORLD_SIZE": "2"})
    assert (piped.returncode, piped.stdout) == (2, "")
    assert "one stdin" in piped.stderr


@pytest.mark.usefixtures("shipped_weights")
def test_batch_flow_to_stdout(photographs: Path) -> None:
    command = own_process("match", "x.png", "y.png", "-o", "-", "--format", "npy", "--preset", "fast")
    done = subprocess.run(**(command | {"text": False}), cwd=photographs, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    kept = geomatch("match", "x.png", "y.png", "-o", "out", "--format", "npy", *QUICK, cwd=photographs)
    assert kept.returncode == 0
    assert done.stdout == (photographs / "out" / "flow.npy").read_bytes()
    assert {path.name for path in photographs.iterdir() if path.is_dir()} == {"left", "right", "out"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.png"], ["SOURCE and TARGET", "--pairs"]),
        ([], ["SOURCE and TARGET", "--pairs"]),
        (["x.png", "y.png", "a pot.png"], ["SOURCE and TARGET"]),
        (["--pairs", "list", "--all-pairs", ".", "-o", "out"], ["--pairs and --all-pairs", "one of them"]),
        (["--pairs", "list", "x.png", "-o", "out"], ["leave out x.png"]),
        (["--against", "x.png", "-o", "out"], ["--against x.png", "name the images"]),
        (["--against", "x.png", "y.png"], ["folder", "-o"]),
        (["--against", "x.png", "y.png", "-o", "-"], ["-o -", "one pair"]),
        (["--against", "x.png", "y.png", "-o", "y.png/out"], ["y.png: is a file"]),
        (["--against", "x.png", "y.png", "-o", "y.png"], ["y.png: is a file", "give a folder"]),
        (["--against", "x.png", "y.png", "-o", "out", "--resume", "--overwrite"], ["--resume", "one of them"]),
        (["--all-pairs", "left", "-o", "out"], ["left", "holds 1"]),
        (["--all-pairs", "none", "-o", "out"], ["none", "cannot be read"]),
        (["--pairs", "none.tsv", "-o", "out"], ["none.tsv", "none.tsv: no such file"]),
        (["--pairs", "empty", "-o", "out"], ["empty", "holds no pairs"]),
        (["--pairs", "one", "-o", "out"], ["one, line 2", "1 column instead of 2"]),
        (["--pairs", "bad.jsonl", "-o", "out"], ["bad.jsonl, line 1", '"source"']),
        (["x.png", "y.png", "--resume"], ["--resume", "--overwrite"]),
        (["x.png", "y.png", "-o", "-", "--format", "flo", "--format", "npy"], ["one --format"]),
        (["x.png", "y.png", "--cache", "x.png"], ["x.png", "features"]),
    ],
)
def test_batch_contradicting_options_are_refused(arguments: list[str], said: list[str], photographs: Path) -> None:
    for name, content in {
        "list": "x.png\ty.png\n",
        "empty": "\n\n",
        "one": "a\tb\na\n",
        "bad.jsonl": '["a"]\n',
    }.items():
        (photographs / name).write_text(content)
    done = geomatch("match", *arguments, cwd=photographs)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    for text in said:
        assert text in done.stderr
    assert not (photographs / "out").exists() or not list((photographs / "out").iterdir())


def test_batch_existing_results_need_overwrite(photographs: Path) -> None:
    command = ("match", "--against", "x.png", "y.png", "-o", "out", *QUICK)
    assert geomatch(*command, cwd=photographs).returncode == 0
    refused = geomatch(*command, cwd=photographs)
    assert refused.returncode == 2
    assert "x--y" in refused.stderr
    assert "--resume" in refused.stderr
    assert geomatch(*command, "--overwrite", cwd=photographs).returncode == 0


def test_batch_resume_with_other_format(photographs: Path) -> None:
    command = ("match", "--against", "x.png", "y.png", "-o", "out", *QUICK)
    assert geomatch(*command, "--format", "npz", cwd=photographs).returncode == 0
    (photographs / "out" / "x--y" / "notes.txt").write_text("mine")
    done = geomatch(*command, "--format", "npy", "--resume", cwd=photographs)
    assert list(json.loads(done.stdout)["files"]) == ["flow.npy"]
    assert {path.name for path in (photographs / "out" / "x--y").iterdir()} == {"flow.npy", "match.json", "notes.txt"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_batch_unwritable_folder_is_named(photographs: Path) -> None:
    (photographs / "locked").mkdir(mode=0o555)
    done = geomatch("match", "--against", "x.png", "y.png", "-o", "locked", *QUICK, cwd=photographs)
    assert (done.returncode, done.stdout) == (2, "")
    assert "locked" in done.stderr


@pytest.mark.usefixtures("shipped_weights")
def test_extract_equals_library(photographs: Path) -> None:
    from geomatch.io.features import decode_features_npz
    from geomatch.io.images import load_image
    from geomatch.options import Preset
    from geomatch.pipeline import Pipeline

    done = geomatch("extract", "left/pot.png", "right/pot.png", "--preset", "fast", cwd=photographs)
    assert done.returncode == 0, done.stderr
    assert [record["output"] for record in lines(done)] == ["features/pot.npz", "features/pot-2.npz"]
    expected = Pipeline(preset=Preset.fast).extract(load_image(photographs / "right/pot.png"))
    with np.load(photographs / "features" / "pot-2.npz") as archive:
        np.testing.assert_array_equal(archive["descriptors"], expected.descriptors)
        assert expected.inverse_confidence is not None
        np.testing.assert_array_equal(archive["inverse_confidence"], expected.inverse_confidence)
        assert archive["image_size"].tolist() == [72, 96]
        centre = archive["origin"] + archive["pitch"] * (2, 1)
        assert json.loads(str(archive["about"]))["features"] == "distilled"
    np.testing.assert_allclose(centre, expected.grid.centres()[expected.grid.width + 2], rtol=1e-5)
    back = decode_features_npz((photographs / "features" / "pot-2.npz").read_bytes())
    assert back.grid == expected.grid


@pytest.mark.usefixtures("shipped_weights")
@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_extract_resumes_with_what_is_whole_and_of_the_same_settings(format: str, photographs: Path) -> None:
    command = ("extract", "x.png", "y.png", "left/pot.png", "--preset", "fast", "--format", format, "-o", "out")
    first = geomatch(*command, cwd=photographs)
    assert first.returncode == 0, first.stderr
    files = {path: path.read_bytes() for path in sorted((photographs / "out").iterdir())}
    damaged, missing, kept = files
    damaged.write_bytes(files[damaged][:-100])
    missing.unlink()
    inode = kept.stat().st_ino
    second = geomatch(*command, "--resume", cwd=photographs)
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "3 images, 1 of them kept from before" in second.stderr
    assert {path: path.read_bytes() for path in files} == files
    assert kept.stat().st_ino == inode

    (photographs / "x.png").write_bytes((photographs / "y.png").read_bytes())
    assert "2 of them kept" in geomatch(*command, "--resume", cwd=photographs).stderr
    assert "kept" not in geomatch(*command, "--resume", "--half", cwd=photographs).stderr
    assert_refused(
        geomatch(*command, "--resume", "--overwrite", cwd=photographs), "--resume", folder=photographs / "out"
    )


@pytest.mark.parametrize("command", [("match", "--against", "x.png"), ("extract",)])
def test_folder_among_images_is_its_images(command: tuple[str, ...], photographs: Path) -> None:
    (photographs / "empty").mkdir()
    refused = geomatch(*command, "empty", "-o", "made", *QUICK[:2], cwd=photographs)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "geomatch: error: empty: holds no images\n"
    assert not (photographs / "made").exists()
    done = geomatch(*command, "y.png", "left", "right", "-o", "made", *QUICK[:2], cwd=photographs)
    assert done.returncode == 0, done.stderr
    names = [record["image"] if command == ("extract",) else record["target"]["path"] for record in lines(done)]
    assert names == ["y.png", "left/pot.png", "right/pot.png"]


def test_list_of_which_nothing_can_be_matched_leaves_no_folder(photographs: Path) -> None:
    done = geomatch("match", "--against", "x.png", "none.png", "-o", "made", *QUICK, cwd=photographs)
    assert done.returncode == 1
    assert not (photographs / "made").exists()


@pytest.mark.usefixtures("shipped_weights")
def test_extract_broken_image_and_half_safetensors(photographs: Path) -> None:
    from safetensors.numpy import load

    (photographs / "broken.png").write_bytes(b"\x89PNG")
    command = ("extract", "broken.png", "x.png", "--format", "safetensors", "--half", "--preset", "fast", "-o", "out")
    done = geomatch(*command, cwd=photographs)
    assert done.returncode == 1
    assert ["error" in record for record in lines(done)] == [True, False]
    arrays = load((photographs / "out" / "x.safetensors").read_bytes())
    assert set(arrays) == {"descriptors", "inverse_confidence", "image_size", "origin", "pitch"}
    assert arrays["descriptors"].dtype == np.float16
    refused = geomatch(*command, cwd=photographs)
    assert_refused(refused, "x.safetensors", "--overwrite", folder=photographs / "out")


def test_batch_neighbours_matches_each_image_with_the_most_similar(photographs: Path) -> None:
    (photographs / "broken.png").write_text("not an image")
    done = geomatch("match", "--all-pairs", ".", "--neighbours", "1", "-o", "out", *QUICK, cwd=photographs)
    assert done.returncode == 1
    assert "5 pairs, 1 failed" in done.stderr
    found = dict(sides(lines(done)))
    views = {"x.png", "pot, blue.png"}, {"y.png", "a pot.png"}
    assert {source: target for source, target in found.items() if source != "broken.png"} == {
        source: other for pair in views for source, other in zip(sorted(pair), sorted(pair, reverse=True), strict=True)
    }
    geomatch("match", "x.png", "pot, blue.png", "-o", "alone", *QUICK, cwd=photographs)
    alone, among = ((photographs / folder / "flow.flo").read_bytes() for folder in ("alone", "out/x--pot, blue"))
    assert alone == among


@pytest.mark.parametrize(
    "arguments", [("a.png", "b.png"), ("--pairs", "list"), ("--against", "a.png", "b.png"), ("--all-pairs", ".", "a")]
)
def test_batch_neighbours_need_a_folder(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = geomatch("match", *arguments, "--neighbours", "3", "-o", "out", cwd=tmp_path)
    assert_refused(done, "--neighbours chooses among the pairs of --all-pairs DIR", folder=tmp_path)


def test_batch_writes_the_pictures_asked_for(photographs: Path) -> None:
    command = ("match", "--against", "x.png", "y.png", "-o", "out")
    names = {"match.json", "flow.flo"}
    for options, pictures in (
        (["--picture", "warped", "--png-level", "0"], {"warped.png"}),
        (["--picture", "overview", "--picture", "confidence", "--resume"], {"overview.png", "confidence.png"}),
        (["--no-pictures", "--resume"], set()),
    ):
        done = geomatch(*command, *options, cwd=photographs)
        assert done.returncode == 0, done.stderr
        assert {path.name for path in (photographs / "out" / "x--y").iterdir()} == names | pictures
    refused = geomatch(*command, "--picture", "warped", "--no-pictures", cwd=photographs)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--picture and --no-pictures: give one of them" in refused.stderr


def test_batch_pictures_differ_by_level_in_size_alone(photographs: Path) -> None:
    for level in ("0", "9"):
        done = geomatch("match", "x.png", "y.png", "-o", level, "--png-level", level, cwd=photographs)
        assert done.returncode == 0, done.stderr
    for name in ("warped.png", "confidence.png", "overview.png"):
        files = [photographs / level / name for level in ("0", "9")]
        assert files[0].stat().st_size > files[1].stat().st_size
        with Image.open(files[0]) as large, Image.open(files[1]) as small:
            assert (np.asarray(large) == np.asarray(small)).all()
