import re
from pathlib import Path

import numpy as np
import pytest

from geomatch.errors import InputError
from geomatch.training.monitoring.log import append, keep_before, read_log

WHOLE = '{"step": 0, "loss": 2.5, "seconds": 0.1}\n{"step": 1, "loss": 2, "seconds": 0.2, "unreadable": ["a.png"]}\n'


def test_read_log_curves(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(
        WHOLE + '{"step": 2, "validation": 0.4}\n{"step": 2, "loss": NaN, "unreadable": ["b.png", "a.png"]}\n'
    )
    found = read_log(log)
    assert list(found.curves) == ["loss", "seconds", "validation"]
    assert found.curves["seconds"] == ([0, 1], [0.1, 0.2])
    assert found.curves["validation"] == ([2], [0.4])
    assert found.curves["loss"][0] == [0, 1, 2]
    assert found.curves["loss"][1] == pytest.approx([2.5, 2.0, float("nan")], nan_ok=True)
    assert found.unreadable == ("a.png", "b.png")


@pytest.mark.parametrize("half", ["{", '{"step": 2, "lo', '{"step": 2, "loss": 1.5'])
def test_read_log_half_a_last_line(half: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(WHOLE + half)
    assert read_log(tmp_path / "log.jsonl").curves["loss"] == ([0, 1], [2.5, 2.0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no step in this log yet"),
        (b'{"step": 0, "lo', "no step in this log yet"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not the log of a training: line 1"),
        (b"no log", "not the log of a training: line 1"),
        (b'{"loss": 1}\n', "not the log of a training: line 1"),
        (WHOLE.encode() + b"[]\n", "not the log of a training: line 3"),
        (WHOLE.encode() + b'{"step": 2, "lo\n{"step": 3, "loss": 1}\n', "not the log of a training: line 3"),
    ],
)
def test_read_log_refuses_other_files(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "log.jsonl")) + ".*" + said):
        read_log(tmp_path / "log.jsonl")


def test_read_log_missing_or_folder(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "none.jsonl", "no such file")):
        with pytest.raises(InputError, match=re.escape(f"{path}: {said}")):
            read_log(path)


def test_keep_before_drops_later_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(WHOLE + '{"step": 2, "validation": 0.4}\n{"step": 2, "loss": 1}\n{"st')
    keep_before(log, 2)
    assert log.read_text() == WHOLE
    append(log, {"step": 2, "loss": 1.5})
    assert log.read_text() == WHOLE + '{"step": 2, "loss": 1.5}\n'
    keep_before(log, 0)
    assert log.read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_append_full_disk() -> None:
    with pytest.raises(InputError, match="/dev/full: could not be written"):
        append(Path("/dev/full"), {"step": 0})


def test_read_log_diverged_values_are_nan(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 0, "loss": 1.5}\n{"step": 1, "loss": Infinity}\n{"step": 2, "loss": 1' + "0" * 400 + "}\n")
    np.testing.assert_array_equal(read_log(log).curves["loss"][1], [1.5, np.nan, np.nan])


@pytest.mark.parametrize("step", ["-1", "1" + "0" * 30, "1.5", '"1"', "null"])
def test_read_log_invalid_step(step: str, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(f'{{"step": {step}, "loss": 1.5}}\n')
    with pytest.raises(InputError, match="line 1 is not a step"):
        read_log(log)
