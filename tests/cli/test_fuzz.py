"""Whatever its arguments are, a command ends with one sentence and a status, and leaves nothing behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from geomatch.cli.options import parse_assignments, parse_size
from geomatch.cli.usage import make_app
from geomatch.errors import InputError
from geomatch.matching.load import parse_matcher_parameters
from tests.cli.command import geomatch
from tests.datasets.test_fuzz import PICTURE
from tests.fuzzing import assert_read_or_refused, fuzzed, in_time

LATE = ["--weights", "broken.safetensors"]
"""A command reads weights last, before it computes."""
COMMANDS = {
    "match": ["match", "a.png", "b.png", "-o", "out", *LATE],
    "match --pairs": ["match", "--pairs", "pairs.csv", "-o", "out", *LATE],
    "view": ["view", "a.png", "b.png", *LATE],
    "transfer": ["transfer", "a.png", "b.png", "--keypoints", "points.csv", *LATE],
    "at": ["at", "a.png", "b.png", "--point", "3,4", *LATE],
    "extract": ["extract", "a.png", *LATE],
    "eval": ["eval", "--dataset", "spair-71k", "--root", ".", *LATE],
    "crops": ["crops", "--data", ".", "--out", "crops.csv", *LATE],
    "show confidence": ["show", "confidence", "a.png", *LATE],
    "show responses": ["show", "responses", "a.png", *LATE],
    "train introspection": ["train", "introspection", "--data", ".", "--init", LATE[1], "--out", "w.safetensors"],
    "train anchornet": ["train", "anchornet", "--data", ".", "--init", LATE[1], "--out", "w.safetensors"],
    "train": ["train", "--plot", "broken.safetensors"],
    "datasets check": ["datasets", "check", "spair-71k", "--root", "."],
}
NUMBERS = ["0", "-1", "1", "0.5", "nan", "inf", "-inf", "1e400", "9" * 30, "9" * 5000, "1,2", "1TiB", "9e9g", "0.0001k"]
FILES = [
    "",
    ".",
    "..",
    "/",
    "~",
    "a.png",
    "broken.safetensors",
    "pairs.csv",
    "nowhere/a.png",
    "a.png/b.png",
    "a b.html",
]
NAMES = [
    "-",
    "--",
    "x" * 300,
    "y" * 300 + ".png",
    "\udcff.png",
    "a\nb.png",
    "ä.png",
    "hough",
    "nn",
    "fusion:",
    "introspection",
]
PAIRS = ["x=", "=x", "temperature=nan", "temperature=1e400", "window=-1", "anchornet:", "hypercolumn:9", "joined:x"]
odd_values = st.sampled_from([*NUMBERS, *FILES, *NAMES, *PAIRS]) | st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=8
)


def options_of(words: list[str], *, real: bool = False) -> list[str]:
    """The options of a command, or only those that are real numbers."""
    command = typer.main.get_command(make_app())
    for word in words:
        if hasattr(command, "commands"):
            command = command.commands.get(word, command)
    options = [each for each in command.params if not real or each.type_descriptor.annotation in (float, float | None)]
    return [name for each in options for name in each.opts if name.startswith("--") and name != "--help"]


OPTIONS = {name: options_of(words[:2]) for name, words in COMMANDS.items()}
REAL = [(name, option) for name, words in COMMANDS.items() for option in options_of(words[:2], real=True)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("typed")
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(PICTURE)
    (folder / "points.csv").write_text("x,y\n3,4\n")
    (folder / "pairs.csv").write_text("a.png,b.png\n")
    (folder / "broken.safetensors").write_bytes(b"broken")
    return folder


def test_every_fuzzed_command_has_options() -> None:
    assert all(OPTIONS.values())
    assert ("match", "--min-confidence") in REAL
    assert ("train introspection", "--checkpoint-every") in REAL


@pytest.mark.parametrize(("name", "option"), REAL)
def test_nan_option_is_refused(name: str, option: str, workplace: Path) -> None:
    done = geomatch(*COMMANDS[name], option, "nan", cwd=workplace)
    assert done.returncode == 2
    assert "should be" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("name", COMMANDS)
@given(data=st.data())
@fuzzed(4)
def test_odd_option_values_are_refused(name: str, data: st.DataObject, workplace: Path) -> None:
    given_ = st.tuples(st.sampled_from(OPTIONS[name]), odd_values).map(list) | odd_values.map(lambda value: [value])
    words = [*COMMANDS[name], *(word for words in data.draw(st.lists(given_, max_size=3)) for word in words)]
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    with in_time():
        done = geomatch(*words, cwd=workplace, env={"GEOMATCH_WEIGHTS": str(workplace)})
    assert done.returncode in (1, 2), done.stdout
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*")} == before


@given(st.text(max_size=12) | st.from_regex(r"\s*\d+(\.\d+)?\s*[kmgtKMGT]?(i?[bB])?\s*", fullmatch=True) | odd_values)
@fuzzed(80)
def test_odd_sizes_and_parameters_are_read_or_refused(text: str) -> None:
    text = " ".join(text.split())  # unprintable characters are escaped when printed
    size: list[int] = []
    if assert_read_or_refused(lambda: size.append(parse_size(text))):
        assert size[0] > 0
    assert_read_or_refused(lambda: parse_matcher_parameters("dsp", parse_assignments([text])))


@pytest.mark.parametrize("size", ["0.1", "0", "9" * 400, "0.0001k"])
def test_size_out_of_range_is_refused(size: str) -> None:
    with pytest.raises(InputError, match="not a size"):
        parse_size(size)


def test_too_long_file_name_is_reported(workplace: Path) -> None:
    done = geomatch("show", "responses", "a.png", "-o", "x" * 300 + ".png", cwd=workplace)
    assert done.returncode == 2
    assert done.stderr.endswith(".png: File name too long\n")


def test_extract_leaves_no_folder_when_weights_fail(workplace: Path) -> None:
    done = geomatch("extract", "a.png", "-o", "new", *LATE, cwd=workplace)
    assert done.returncode == 2
    assert not (workplace / "new").exists()


def test_names_with_line_breaks_are_printed_on_one_line(workplace: Path) -> None:
    done = geomatch("show", "confidence", "a\n\x1b[31mb.png", "-o", "c.html", cwd=workplace)
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr
