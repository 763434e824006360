"""One training at a time writes one output: with real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from geomatch.errors import InputError
from geomatch.training.claim import claimed
from tests.conftest import ROOT

HOLD = """
import sys
from pathlib import Path
from geomatch.training.claim import claimed
with claimed(Path(sys.argv[1])):
    print("claimed", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from geomatch.errors import InputError
from geomatch.training.claim import claimed
out, turns = Path(sys.argv[1]), 0
counter = out.with_name("counter")
while turns < 100:
    try:
        with claimed(out):
            value = int(counter.read_text())
            counter.write_text(str(value + 1))
            turns += 1
    except InputError:
        pass
"""


def start(script: str, out: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, str(out)], env=environment, text=True, **pipes)


def test_claim_refuses_a_second_process_until_the_first_dies(tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    first = start(HOLD, out)
    assert first.stdout is not None
    assert first.stdout.readline() == "claimed\n"
    (tmp_path / "link.safetensors").symlink_to(out)
    for path in (out, tmp_path / "link.safetensors"):
        with pytest.raises(InputError, match=r"mine\.safetensors: another training writes it now"), claimed(path):
            pass
    with claimed(tmp_path / "other.safetensors"):
        pass
    first.kill()
    first.communicate()
    assert (tmp_path / "mine.safetensors.lock").exists(), "as a killed process leaves it"
    with claimed(out):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.safetensors"]


def test_claim_is_never_held_twice(tmp_path: Path) -> None:
    """Three processes claim, change a file and release, as often as they can: no change is lost."""
    (tmp_path / "counter").write_text("0")
    for process in [start(COUNT, tmp_path / "out.safetensors") for _ in range(3)]:
        process.communicate(timeout=200)
        assert process.returncode == 0
    assert (tmp_path / "counter").read_text() == "300"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_claim_names_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"), claimed(tmp_path / "file" / "out.safetensors"):
        pass
