"""`geomatch match` of many pairs as a user meets it: lists, streams, exit status, and what a second run does."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.io.flow import decode_flo
from tests.cli.command import assert_refused, geomatch, own_process

QUICK = ("--preset", "fast", "--no-pictures")


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
def test_a_list_in_any_format_gives_a_line_and_a_folder_a_pair_in_its_order(
    name: str, content: str, photographs: Path
) -> None:
    (photographs / name).write_bytes(content.encode())
    done = geomatch("match", "--pairs", name, "-o", "out", *QUICK, cwd=photographs)
    assert done.returncode == 0, done.stderr
    assert sides(lines(done)) == PAIRS
    for record in lines(done):
        folder = photographs / str(record["output"])
        assert json.loads((folder / "match.json").read_text()) == record
        assert sorted(path.name for path in folder.iterdir()) == ["flow.flo", "match.json"]
    assert "3 pairs" in done.stderr


def test_a_list_comes_through_a_pipe(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x.png\ta pot.png\n")))
    done = geomatch("match", "--pairs", "-", "-o", "out", *QUICK, cwd=photographs)
    assert sides(lines(done)) == [("x.png", "a pot.png")]


def test_one_is_matched_against_many_that_a_pipe_names(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"left/pot.png\nright/pot.png\n")))
    done = geomatch("match", "--against", "x.png", "a pot.png", "-", "-o", "out", *QUICK, cwd=photographs)
    assert sides(lines(done)) == [("x.png", name) for name in ("a pot.png", "left/pot.png", "right/pot.png")]


def test_all_pairs_of_a_folder_are_those_of_two_different_images_both_ways(photographs: Path) -> None:
    (photographs / "notes.txt").write_text("no image")
    done = geomatch("match", "--all-pairs", ".", "-o", "out", *QUICK, cwd=photographs)
    names = ["a pot.png", "pot, blue.png", "x.png", "y.png"]
    assert sides(lines(done)) == [(a, b) for a in names for b in names if a != b]


def test_images_of_one_name_in_different_folders_do_not_share_a_result(photographs: Path) -> None:
    pairs = [("x.png", "left/pot.png"), ("x.png", "right/pot.png"), ("x.png", "left/pot.png")]
    (photographs / "list.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    done = geomatch("match", "--pairs", "list.tsv", "-o", "out", *QUICK, cwd=photographs)
    assert [record["output"] for record in lines(done)] == ["out/x--pot", "out/x--pot-2", "out/x--pot-3"]
    flows = [(photographs / str(record["output"]) / "flow.flo").read_bytes() for record in lines(done)]
    assert flows[0] == flows[2] != flows[1]


def test_a_batch_finds_what_single_matches_find(photographs: Path) -> None:
    many = geomatch("match", "--all-pairs", ".", "-o", "out", "--preset", "fast", cwd=photographs)
    one = geomatch("match", "x.png", "a pot.png", "-o", "one", "--preset", "fast", cwd=photographs)
    assert (many.returncode, one.returncode) == (0, 0)
    alone, among = files_of(photographs / "one"), files_of(photographs / "out" / "x--a pot")
    records = [json.loads(each.pop("match.json")) for each in (alone, among)]
    assert alone == among
    assert set(records[0]) - set(records[1]) == {"seconds"}
    assert records[0]["files"] == records[1]["files"]


def test_broken_images_cost_their_own_pairs_alone(photographs: Path) -> None:
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


def test_a_name_too_long_for_any_file_fails_like_a_missing_file(photographs: Path) -> None:
    entries = [json.dumps({"source": name, "target": "x.png"}) for name in ["x" * 300 + ".png", "y.png"]]
    (photographs / "list.jsonl").write_text("\n".join(entries))
    done = geomatch("match", "--pairs", "list.jsonl", "-o", "out", *QUICK, cwd=photographs)
    assert done.returncode == 1
    assert ["error" in record for record in lines(done)] == [True, False]


@pytest.mark.parametrize("name", ["\ud800.png", "a\0b.png"])
def test_a_list_with_a_name_that_no_file_can_have_is_refused_with_its_line(photographs: Path, name: str) -> None:
    entries = [json.dumps({"source": each, "target": "x.png"}) for each in ("y.png", name)]
    (photographs / "list.jsonl").write_text("\n".join(entries))
    done = geomatch("match", "--pairs", "list.jsonl", "-o", "out", *QUICK, cwd=photographs)
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 2: no file can be named" in done.stderr


def test_what_failed_can_be_given_again_as_it_was_printed(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (photographs / "x.png").read_bytes()
    (photographs / "x.png").write_bytes(b"")
    done = geomatch("match", "--against", "y.png", "x.png", "a pot.png", "-o", "out", *QUICK, cwd=photographs)
    again = "\n".join(line for line in done.stdout.splitlines() if '"error"' in line)
    (photographs / "x.png").write_bytes(good)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(again.encode())))
    redone = geomatch("match", "--pairs", "-", "-o", "out", *QUICK, cwd=photographs)
    assert redone.returncode == 0, redone.stderr
    assert sides(lines(redone)) == [("y.png", "x.png")]


def test_resuming_does_what_is_missing_damaged_or_changed_and_leaves_the_rest(photographs: Path) -> None:
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


def test_a_batch_killed_and_resumed_leaves_the_bytes_of_one_left_in_peace(photographs: Path) -> None:
    command = ("match", "--all-pairs", ".", "-o", "out", *QUICK)
    geomatch(*command, cwd=photographs)
    peaceful = files_of(photographs / "out")
    shutil.rmtree(photographs / "out")
    process = subprocess.Popen(**own_process(*command), cwd=photographs, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    # What a kill in the middle of writing leaves behind.
    (photographs / "out" / ".geomatch-y--x-ab12cd34").mkdir()
    assert geomatch(*command, "--resume", cwd=photographs).returncode == 0
    assert files_of(photographs / "out") == peaceful
    assert not list((photographs / "out").glob(".geomatch-*"))


def test_features_kept_on_disk_do_not_change_what_is_found(photographs: Path) -> None:
    def run(out: str, *more: str) -> dict[str, bytes]:
        done = geomatch("match", "--all-pairs", ".", "-o", out, *QUICK, *more, cwd=photographs)
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


def test_processes_of_torchrun_do_each_pair_once_between_them(photographs: Path) -> None:
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


def test_a_flow_goes_to_stdout_alone(photographs: Path) -> None:
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
        (["--against", "x.png", "y.png", "-o", "no/such"], ["no/such", "folder above it"]),
        (["--against", "x.png", "y.png", "-o", "y.png"], ["y.png", "cannot be made"]),
        (["--against", "x.png", "y.png", "-o", "out", "--resume", "--overwrite"], ["--resume", "one of them"]),
        (["--all-pairs", "left", "-o", "out"], ["left", "holds 1"]),
        (["--all-pairs", "none", "-o", "out"], ["none", "cannot be read"]),
        (["--pairs", "none.tsv", "-o", "out"], ["none.tsv", "cannot be read"]),
        (["--pairs", "empty", "-o", "out"], ["empty", "holds no pairs"]),
        (["--pairs", "one", "-o", "out"], ["one, line 2", "1 column instead of 2"]),
        (["--pairs", "bad.jsonl", "-o", "out"], ["bad.jsonl, line 1", '"source"']),
        (["x.png", "y.png", "--resume"], ["--resume", "--overwrite"]),
        (["x.png", "y.png", "-o", "-", "--format", "flo", "--format", "npy"], ["one --format"]),
        (["x.png", "y.png", "--cache", "no/such"], ["no/such", "features"]),
    ],
)
def test_choices_that_make_no_sense_are_refused_in_a_sentence(
    arguments: list[str], said: list[str], photographs: Path
) -> None:
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


def test_results_that_are_there_are_not_overwritten_unasked(photographs: Path) -> None:
    command = ("match", "--against", "x.png", "y.png", "-o", "out", *QUICK)
    assert geomatch(*command, cwd=photographs).returncode == 0
    refused = geomatch(*command, cwd=photographs)
    assert refused.returncode == 2
    assert "x--y" in refused.stderr
    assert "--resume" in refused.stderr
    assert geomatch(*command, "--overwrite", cwd=photographs).returncode == 0


def test_resumed_with_another_format_a_folder_holds_only_what_its_record_names(photographs: Path) -> None:
    command = ("match", "--against", "x.png", "y.png", "-o", "out", *QUICK)
    assert geomatch(*command, "--format", "npz", cwd=photographs).returncode == 0
    (photographs / "out" / "x--y" / "notes.txt").write_text("mine")
    done = geomatch(*command, "--format", "npy", "--resume", cwd=photographs)
    assert list(json.loads(done.stdout)["files"]) == ["flow.npy"]
    assert {path.name for path in (photographs / "out" / "x--y").iterdir()} == {"flow.npy", "match.json", "notes.txt"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_named_before_any_work(photographs: Path) -> None:
    (photographs / "locked").mkdir(mode=0o555)
    done = geomatch("match", "--against", "x.png", "y.png", "-o", "locked", *QUICK, cwd=photographs)
    assert (done.returncode, done.stdout) == (2, "")
    assert "locked" in done.stderr


def test_extracted_features_are_those_of_the_library(photographs: Path) -> None:
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
        assert json.loads(str(archive["about"]))["features"] == "introspection"
    np.testing.assert_allclose(centre, expected.grid.centres()[expected.grid.width + 2], rtol=1e-5)
    back = decode_features_npz((photographs / "features" / "pot-2.npz").read_bytes())
    assert back.grid == expected.grid


def test_extraction_goes_on_after_a_broken_image_and_writes_safetensors_of_half_precision(photographs: Path) -> None:
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
