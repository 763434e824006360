"""`geomatch match` as a user meets it: a process, its streams, its exit status and its files."""

import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.cli.commands.match import outcome
from geomatch.io.flow import read_flow
from tests.cli.command import assert_refused, geomatch, own_process


@pytest.fixture(scope="module")
def matched(teapots: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """The folder and the record of one match, by a process of its own."""
    folder = tmp_path_factory.mktemp("match")
    formats = ("--format", "flo", "--format", "npz", "--format", "kitti")
    command = own_process("match", teapots / "a.png", teapots / "b.png", *formats)
    done = subprocess.run(**command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "a--b", json.loads(done.stdout)


def test_match_files_fit_source_and_each_other(matched: tuple[Path, dict[str, object]], teapots: Path) -> None:
    folder, _ = matched
    size = Image.open(teapots / "a.png").size
    flo, npz, kitti = (read_flow(folder / name) for name in ("flow.flo", "flow.npz", "flow.png"))
    assert flo.flow.shape == (2, size[1], size[0])
    assert (npz.flow == flo.flow).all()
    assert (kitti.valid == npz.valid).all()
    assert np.abs(kitti.flow - flo.flow)[:, npz.valid].max() <= 1 / 128
    warped = Image.open(folder / "warped.png")
    assert warped.size == size
    assert 0 < (np.asarray(warped)[..., 3] == 255).mean() < 1
    confidence = np.asarray(Image.open(folder / "confidence.png"))
    assert confidence.dtype == np.uint16
    assert npz.confidence is not None
    np.testing.assert_allclose(confidence / 65535, npz.confidence, atol=1e-5)
    assert Image.open(folder / "overview.png").width > 3 * size[0]


def test_match_without_pictures_loads_nothing_for_them(teapots: Path, tmp_path: Path) -> None:
    script = """
import sys
from geomatch.__main__ import main

try:
    main()
finally:
    print("LOADED", sorted({"scipy", "torchvision", "rich.table"} & set(sys.modules)))
"""
    command = own_process("match", teapots / "a.png", teapots / "b.png", "--preset", "fast", "--no-pictures")
    command["args"][1:3] = "-c", script
    done = subprocess.run(**command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_match_min_confidence_limits_validity(
    matched: tuple[Path, dict[str, object]], teapots: Path, tmp_path: Path
) -> None:
    folder, record = matched
    anyhow = np.load(folder / "flow.npz")
    least = round(float(np.median(anyhow["confidence"])), 3)
    asked = ("--min-confidence", least, "--format", "npz")
    done = geomatch("match", teapots / "a.png", teapots / "b.png", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["settings"]["densification"]["min_confidence"] == least
    sure = np.load(tmp_path / "a--b" / "flow.npz")
    np.testing.assert_array_equal(sure["valid"], anyhow["valid"] & (anyhow["confidence"] >= np.float32(least)))
    assert 0 < json.loads(done.stdout)["valid_share"] < record["valid_share"]


def test_match_warp_shows_target_along_smooth_flow(
    matched: tuple[Path, dict[str, object]], teapots: Path, tmp_path: Path
) -> None:
    folder, _ = matched
    asked = ("--flow", "smooth", "--format", "npz", "--no-pictures")
    done = geomatch("match", teapots / "a.png", teapots / "b.png", *asked, cwd=tmp_path)
    assert json.loads(done.stdout)["flow"] == "smooth"
    flow = read_flow(tmp_path / "a--b" / "flow.npz")
    warped = np.asarray(Image.open(folder / "warped.png")).astype(float)
    target = np.asarray(Image.open(teapots / "b.png")).astype(float)
    assert (warped[..., 3] > 0).sum() > flow.valid.sum()
    for y, x in np.argwhere(flow.valid & (warped[..., 3] > 0))[::997]:
        to_x, to_y = x + flow.flow[0, y, x], y + flow.flow[1, y, x]
        to_x, to_y = np.clip(to_x, 0, target.shape[1] - 1), np.clip(to_y, 0, target.shape[0] - 1)
        left, top = min(int(to_x), target.shape[1] - 2), min(int(to_y), target.shape[0] - 2)
        right_share, low_share = to_x - left, to_y - top
        expected = (
            target[top, left] * (1 - right_share) * (1 - low_share)
            + target[top, left + 1] * right_share * (1 - low_share)
            + target[top + 1, left] * (1 - right_share) * low_share
            + target[top + 1, left + 1] * right_share * low_share
        )
        np.testing.assert_allclose(warped[y, x, :3], expected, atol=1)


def test_match_record_on_stdout_is_match_json(
    matched: tuple[Path, dict[str, object]],
) -> None:
    folder, record = matched
    assert json.loads((folder / "match.json").read_text()) == record
    assert set(record) >= {"source", "target", "features", "weights_sha256", "matcher", "settings", "version"}
    assert set(record) >= {"seconds", "valid_share", "mean_confidence", "preset"}
    valid = read_flow(folder / "flow.npz").valid
    assert record["valid_share"] == pytest.approx(valid.mean(), abs=1e-3)


def test_match_teapot_parts_match_where_confident(matched: tuple[Path, dict[str, object]], teapots: Path) -> None:
    """On the surface that both cameras see, against the renderer's truth. A round belly with another glaze has no
    landmarks, so it is the more confident quarter (lid, handle, spout, rims) that must be right, and known to be."""
    folder, _ = matched
    found, truth = read_flow(folder / "flow.npz"), read_flow(teapots / "truth.npz")
    assert found.confidence is not None
    error = np.hypot(*(found.flow - truth.flow))[truth.valid]
    still = np.hypot(*truth.flow)[truth.valid]
    quarters = np.array_split(np.argsort(-found.confidence[truth.valid]), 4)
    medians = [float(np.median(error[quarter])) for quarter in quarters]
    assert medians[0] < 0.5 * np.median(still[quarters[0]])
    assert medians[0] < 0.5 * medians[3]


def test_match_again_gives_same_bytes(matched: tuple[Path, dict[str, object]], teapots: Path, tmp_path: Path) -> None:
    done = geomatch("match", teapots / "a.png", teapots / "b.png", "-o", "again", "--quiet", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["output"], done.stderr) == (0, "again", "")
    for name in ("flow.flo", "warped.png", "confidence.png", "overview.png"):
        assert (tmp_path / "again" / name).read_bytes() == (matched[0] / name).read_bytes(), name


def test_match_existing_folder_needs_overwrite(teapots: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    arguments = ("match", teapots / "a.png", teapots / "b.png", "-o", "out", "--preset", "fast")
    refused = geomatch(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert geomatch(*arguments, "--overwrite", cwd=tmp_path).returncode == 0
    assert (tmp_path / "out" / "flow.flo").is_file()
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--features", "surf"], ["surf", "introspection, anchornet, combined, hypercolumn"]),
        (["--matcher", "ransac"], ["ransac", "nn, mutual, hough"]),
        (["--matcher", "hough", "--set", "window=wide"], ["window", "'wide' is not a whole number"]),
        (["--matcher", "hough", "--set", "radius=1"], ["hough has no parameter 'radius'", "weight, preference"]),
        (["--set", "blur"], ["--set blur", "NAME=VALUE"]),
        (["--preset", "quick"], ["quick", "fast"]),
        (["--format", "exr"], ["exr", "kitti"]),
        (["--max-memory", "lots"], ["--max-memory lots", "2GiB"]),
        (["--max-memory", "1KiB"], ["--max-memory", "--preset"]),
        (["--weights", "none.safetensors"], ["none.safetensors", "no such"]),
        (["-o", "flow.flo"], ["flow.flo: the output is a folder", ".flo"]),
    ],
)
def test_match_bad_options_are_named(arguments: list[str], said: list[str], teapots: Path, tmp_path: Path) -> None:
    done = geomatch("match", teapots / "a.png", teapots / "b.png", *arguments, cwd=tmp_path)
    assert_refused(done, *said, folder=tmp_path, status=1 if "1KiB" in arguments else 2)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), (b"", "is empty"), (b"just text", "not an image")]
)
def test_match_unreadable_images_are_named(content: bytes | None, said: str, teapots: Path, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    done = geomatch("match", teapots / "a.png", "bad.png", cwd=tmp_path)
    assert_refused(done, "bad.png", said, folder=tmp_path)


def test_match_missing_gpu_is_refused(teapots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = geomatch("match", teapots / "a.png", teapots / "b.png", "--device", "cuda", cwd=tmp_path)
    assert_refused(done, "--device cuda", "--device cpu", folder=tmp_path)


def test_match_animation_uses_first_frame(teapots: Path, tmp_path: Path) -> None:
    frames = [Image.open(teapots / name).convert("RGB").resize((120, 90)) for name in ("a.png", "b.png")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    done = geomatch("match", "moving.gif", teapots / "b.png", "--preset", "fast", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "first frame" in done.stderr


def test_match_summary_doubts_unrelated_images(teapots: Path, tmp_path: Path) -> None:
    Image.new("RGB", (120, 90), "grey").save(tmp_path / "grey.png")
    done = geomatch("match", "grey.png", teapots / "a.png", "--preset", "fast", "--no-pictures", cwd=tmp_path)
    said = outcome(json.loads(done.stdout))
    assert "mean confidence 0.0" in said
    assert "(low: are the objects of one kind?)" in said
    done = geomatch("match", teapots / "a.png", teapots / "b.png", "--preset", "fast", "--no-pictures", cwd=tmp_path)
    assert "(low" not in outcome(json.loads(done.stdout))


def test_match_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """It comes while the process waits for an image that a pipe does not give it."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        **own_process("match", pipe, pipe),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A test runner in the background may have been started deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    writer = opened_for_writing(pipe, process)
    said = said_when_interrupted(process)
    os.close(writer)
    assert (process.returncode, *said) == (130, "", "geomatch: interrupted\n")
    assert list(tmp_path.iterdir()) == [pipe]


def said_when_interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process prints that is interrupted as often as it takes.

    A signal that comes after Python last looked for one and before it sleeps in a read does not wake it.
    """
    for _ in range(6):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the process goes on")


def opened_for_writing(pipe: Path, reader: subprocess.Popen[str]) -> int:
    """The descriptor of a pipe as soon as the process reads from it."""
    while reader.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads yet
                raise
            time.sleep(0.01)
    raise AssertionError("the process has ended without reading")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_match_closed_stdout_exits_quietly(arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(**own_process(*arguments), stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")
