"""Whatever stands in the log of a training, it is drawn or refused."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from geomatch.training.monitoring.log import read_log
from geomatch.training.monitoring.plot import training_page
from tests.fuzzing import assert_read_or_refused, fuzzed, junk, mutations, odd_numbers

LINES: list[dict[str, object]] = [
    {"step": 0, "loss": 2.5, "likelihood": 1.25, "own": 3, "sigma": 0.5, "seconds": 0.75},
    {"step": 1, "loss": 1.5, "likelihood": 0.75, "own": 2, "sigma": 0.25, "seconds": 0.5, "unreadable": ["a.jpg"]},
    {"step": 2, "validation": 0.375},
    {"step": 2, "loss": float("nan"), "likelihood": -0.75, "own": 1, "sigma": 0.125, "seconds": 0.5},
    {"step": 3, "validation": 0.5},
]


def log_of(lines: list[object]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


LOG = log_of([*LINES])


def drawn(content: bytes) -> bool:
    def draw() -> None:
        page = training_page({"mine": read_log(path), "other": read_log(sound)}).encode().decode()
        places = re.findall(r' (?:d|c?[xy]|[xy][12])="([^"]*)"', page)
        assert places
        assert not re.search("nan|inf", " ".join(places))

    with TemporaryDirectory() as folder:
        path, sound = Path(folder) / "some.log.jsonl", Path(folder) / "sound.log.jsonl"
        path.write_bytes(content)
        sound.write_bytes(LOG)
        return assert_read_or_refused(draw, named=path.name)


def test_log_undamaged_is_drawn() -> None:
    assert drawn(LOG)


@given(mutations(LOG))
@fuzzed(60)
def test_log_damaged(content: bytes) -> None:
    drawn(content)


numbers = odd_numbers | st.floats() | st.integers() | st.sampled_from([5e-324, -1e308, 1.7e308, 2**53, 2**1023])
entries = st.dictionaries(
    st.sampled_from(["step", "loss", "own", "validation", "seconds", "unreadable"]) | st.text(max_size=3),
    numbers | junk | st.lists(st.text(max_size=3)),
    max_size=4,
)


@given(
    st.lists(st.builds(lambda step, entry: {"step": step} | entry, st.integers(0, 5) | numbers, entries), max_size=5)
)
@fuzzed(100)
def test_log_random_lines(lines: list[object]) -> None:
    drawn(log_of(lines))


@given(st.lists(junk, max_size=3), st.integers(0, 5))
@fuzzed(40)
def test_log_random_lines_between_good_ones(others: list[object], place: int) -> None:
    drawn(log_of([*LINES[:place], *others, *LINES[place:]]))
