"""`geomatch transfer` with features that are computed, in processes of its own."""

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import geomatch, own_process
from tests.cli.test_transfer import files_of

QUICK = ("--preset", "fast")


@pytest.fixture
def photographs(teapots: Path, tmp_path: Path) -> Path:
    """A teapot whose knob and spout are marked, and eight pictures of teapots."""
    a, b = (Image.open(teapots / name).convert("RGB").resize((96, 72)) for name in ("a.png", "b.png"))
    a.save(tmp_path / "ref.png")
    (tmp_path / "marks.csv").write_text("name,x,y\nknob,48,20\nspout,20,35\n")
    for number in range(8):
        (a, b)[number % 2].rotate(3 * number).save(tmp_path / f"{number:02}.png")
    return tmp_path


def images(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[0-9]*.png"))


@pytest.mark.slow
def test_transfer_killed_and_resumed_writes_the_same_bytes(photographs: Path) -> None:
    command = ("transfer", "ref.png", *images(photographs), "--keypoints", "marks.csv", "--format", "labelme")
    command = (*command, "-o", "out", "--review", "look", *QUICK)
    calm = geomatch(*command, cwd=photographs)
    peaceful = [files_of(photographs / place) for place in ("out", "look")]
    for place in ("out", "look"):
        shutil.rmtree(photographs / place)
    process = subprocess.Popen(**own_process(*command), cwd=photographs, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=200)
    # What a kill in the middle of writing leaves behind.
    for place in ("out/.geomatch-05.json-ab12cd34", "look/.geomatch-0.512-05.jpg-ab12cd34"):
        (photographs / place).mkdir()
    assert len(list((photographs / "out").glob("*.json"))) > 0
    resumed = geomatch(*command, "--resume", cwd=photographs)
    assert (resumed.returncode, resumed.stdout) == (0, calm.stdout)
    assert [files_of(photographs / place) for place in ("out", "look")] == peaceful
    assert not list(photographs.rglob(".geomatch-*"))


def test_transfer_with_cache_finds_the_same(photographs: Path) -> None:
    def run(*more: str) -> list[dict[str, Any]]:
        command = ("transfer", "ref.png", *images(photographs)[:3], "--keypoints", "marks.csv", *QUICK)
        done = geomatch(*command, *more, cwd=photographs)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    fresh = run("--cache", "kept")
    entries = {path: path.stat().st_mtime_ns for path in (photographs / "kept").iterdir()}
    assert len(entries) == 3, "of the reference, which is the first image, too, and of the others"
    assert run("--cache", "kept") == fresh
    assert {path: path.stat().st_mtime_ns for path in (photographs / "kept").iterdir()} == entries
    matched = geomatch("match", "ref.png", "01.png", "--cache", "kept", "-o", "out", *QUICK, cwd=photographs)
    assert matched.returncode == 0
    assert len(list((photographs / "kept").iterdir())) == 3, "match keeps the same"
    for plain, kept in zip(run(), fresh, strict=True):
        places = [[(item["x"], item["y"]) for item in record["items"]] for record in (plain, kept)]
        np.testing.assert_allclose(*places, atol=0.5)  # half precision moves them by next to nothing
