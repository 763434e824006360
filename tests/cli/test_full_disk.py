"""A disk that is full, a file that may not grow: each writer says so in one sentence, and leaves no piece of a file."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cli.piped import run_piped
from tests.cli.test_inputs import write_inputs

SCORE = "eval --dataset animal-parts --root SPair-71k --split val"
WRITERS = (
    "match a.png b.png -o out",
    "match --against a.png b.png c.png --no-pictures -o out",
    "view a.png b.png -o page.html",
    "transfer a.png b.png --keypoints marks.csv -o out.csv",
    "transfer a.png b.png --keypoints coco.json --format labelme -o out",
    "transfer a.png b.png --mask mask.png -o out --format png",
    "transfer a.png b.png --boxes boxes.csv --review look",
    "extract a.png b.png -o out",
    f"{SCORE} --csv scores.csv",
    f"{SCORE} --report report",
    "train --plot log.jsonl -o page.html",
    "convert state.pth -o state.safetensors",
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_inputs(tmp_path_factory.mktemp("full") / "inputs")
    torch.save({"weight": torch.zeros(8)}, folder / "state.pth")
    return folder


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more than ``size`` bytes into a file fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("line", WRITERS)
def test_full_disk_is_named_and_nothing_stays(line: str, given: Path) -> None:
    before = {path: path.read_bytes() for path in given.rglob("*") if path.is_file()}
    with files_of_at_most(16):
        done = run_piped(line.split(), given, {}, stub=True)
    assert done.status in (1, 2)
    assert "could not be written (File too large)" in done.stderr
    assert {path: path.read_bytes() for path in given.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("line", [each for each in WRITERS if each.endswith((".html", ".csv", ".safetensors"))])
def test_full_device_is_named(line: str, given: Path) -> None:
    words = line.split()
    done = run_piped([*words[:-1], "/dev/full"], given, {}, stub=True)
    assert done.status == 2
    assert "/dev/full: could not be written (No space left on device)" in done.stderr


def test_full_disk_of_caches_stops_no_work(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one for which no folder can be made."""
    for place in (tmp_path, Path("/dev/null")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        with files_of_at_most(16):
            done = run_piped(SCORE.split(), given, {}, stub=True)
        assert done.status == 0, done.stderr
        assert "caches no" in done.stderr
        assert "XDG_CACHE_HOME" in done.stderr
