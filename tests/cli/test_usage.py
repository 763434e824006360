"""One style for every error, hints for names that are nearly right, and help that fits a screen."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from geomatch.cli import console
from geomatch.cli.commands.at import COLUMNS
from geomatch.errors import GeomatchWarning, InputError, unknown_name
from geomatch.io.tables import Layout, parse_table
from geomatch.registry import DATASETS, FEATURES, MATCHERS, PROTOCOLS
from geomatch.training.trainer import Progress
from tests.cli.command import geomatch, own_process
from tests.stub import build_stub, picture


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with two pictures."""
    picture(60, 80).save(tmp_path / "a.png")
    picture(64, 72, left=8, top=4).save(tmp_path / "b.png")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("match a.png b.png --presets fast", "no such option: --presets (did you mean --preset"),
        ("match a.png b.png --preset Fast", "unknown value of --preset 'Fast' (did you mean 'fast'?): the known ones"),
        ("match a.png b.png --format FLO", "unknown value of --format 'FLO' (did you mean 'flo'?)"),
        ("match a.png b.png --min-confidence 3", "invalid value for '--min-confidence'"),
        ("mach a.png b.png", "no such command 'mach' (did you mean 'match'?)"),
        ("extract", "missing argument 'IMAGE...'; see geomatch extract --help"),
        ("train introspection", "missing option '--data'; see geomatch train introspection --help"),
        ("at a.png b.png --point", "option '--point' requires an argument"),
        ("match a.png", "give two images"),
        ("view a.png b.png --matcher Hough", "unknown matcher 'Hough' (did you mean 'hough'?)"),
        (
            "view a.png b.png --features Introspection",
            "unknown features 'Introspection' (did you mean 'introspection'?)",
        ),
        ("view a.png b.png --matcher nn --set Window=1", "no parameter 'Window' (did you mean 'window'?)"),
        ("eval --dataset SPair-71k", "unknown dataset 'SPair-71k' (did you mean 'spair-71k'?)"),
        ("eval --compare a.json a.json", "a.json: not the output of 'geomatch eval --json': it lacks 'pair_list'"),
    ],
)
def test_usage_errors_are_one_line_in_one_style(words: str, said: str, pair: Path) -> None:
    (pair / "a.json").write_text('{"images": []}')
    done = geomatch(*words.split(), cwd=pair)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("geomatch: error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.parametrize("registry", [FEATURES, MATCHERS, DATASETS, PROTOCOLS], ids=lambda each: each.kind)
def test_registry_suggests_a_name_in_another_case(registry: Any) -> None:
    for name in registry.entries:
        for spelt in {name.upper(), name.title()} - {name}:
            with pytest.raises(InputError, match=re.escape(f"'{spelt}' (did you mean '{name}'?)")):
                registry.canonical(spelt)


def test_unknown_name_without_a_similar_one() -> None:
    assert unknown_name("class", "zebra", ["cat", "dog"]) == "unknown class 'zebra': the known ones are cat, dog"


@pytest.mark.parametrize("words", ["", "train", "show"])
def test_nothing_given_prints_help(words: str, tmp_path: Path) -> None:
    done = geomatch(*words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage: geomatch" in done.stdout
    assert done.stderr == ""


def test_help_of_match_is_short_and_grouped(tmp_path: Path) -> None:
    text = geomatch("match", "--help", cwd=tmp_path, env={"COLUMNS": "80"}).stdout
    assert text.count("\n") < 96
    assert "list[" not in text
    panels = [text.index(f" {name} ") for name in ("Output", "Matching", "Performance", "Many pairs")]
    assert panels == sorted(panels)
    matching = text[panels[1] : panels[2]]
    assert 0 < matching.index("--preset") < matching.index("--features") < matching.index("--matcher")


@pytest.mark.parametrize("point", ["12x85", "64;24", "12", "1,2,3", "a,b", "", "12.85"])
def test_point_in_another_form(point: str, pair: Path) -> None:
    done = geomatch("at", "a.png", "b.png", "--point", point, cwd=pair)
    assert done.returncode == 2
    assert f"--point {point}: write it as X,Y, two numbers in pixels with a comma" in done.stderr


def test_at_reads_what_it_printed(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomatch.cli.options.PipelineOptions.build", build_stub)
    (pair / "points.csv").write_text("name,x,y\nnose,12.5,20\ntail,40,30.25\n")
    first = geomatch("at", "a.png", "b.png", "--points", "points.csv", cwd=pair)
    (pair / "points.jsonl").write_text(first.stdout)
    again = geomatch("at", "a.png", "b.png", "--points", "points.jsonl", cwd=pair)
    records = [[json.loads(line) for line in done.stdout.splitlines()] for done in (first, again)]
    assert [each["name"] for each in records[0]] == ["nose", "tail"]
    assert records[0] == records[1]


@pytest.mark.parametrize("line", ['{"x": 1}', "{", '{"x": 1, "y": 2}\n[1, 2]', '{"x": 1, "y": null}'])
def test_json_lines_of_something_else(line: str) -> None:
    with pytest.raises(InputError, match=r"points, line [12]"):
        [row.position("y") for row in parse_table(line, "points", Layout(COLUMNS))]


def test_against_an_image_that_cannot_be_read_stops_at_once(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomatch.cli.options.PipelineOptions.build", lambda _: pytest.fail("it was loaded"))
    (pair / "broken.png").write_bytes(b"broken")
    for name, said in (("nope.png", "nope.png: no such file"), ("broken.png", "broken.png: is text, not an image")):
        done = geomatch("match", "--against", name, "a.png", "b.png", "-o", "out", cwd=pair)
        assert done.returncode == 2
        assert said in done.stderr
        assert not (pair / "out").exists()


@pytest.mark.parametrize(
    "words", ["match --against a.png - -0 -o out", "extract - -0 -o out", "show confidence - -0", "show responses - -0"]
)
def test_names_on_stdin_may_end_in_nul(words: str, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not there is named whole, so that the list was split at NUL alone."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no\nsuch.png\0b.png\0")))
    monkeypatch.setattr("geomatch.cli.options.PipelineOptions.build", build_stub)
    done = geomatch(*words.split(), cwd=pair)
    assert done.returncode in (1, 2)
    assert r"no\nsuch.png: no such file" in done.stdout + done.stderr


def test_training_bar_at_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar, the steps and the time left show; numbers are cut; the end says what was made."""
    drawn = io.StringIO()
    screen = Console(file=drawn, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "stderr_console", lambda **_: screen)
    report = dict.fromkeys(("loss", "sigma", "similarity", "recall"), 0.1234)
    said = r"w\.safetensors: training, 3,000 steps, loss 0\.123  sigma 0\.123  similarity 0\.123  recall 0\.123; 0:00:0"

    def train() -> None:
        with console.training_bar(Path("w.safetensors"), quiet=False) as show:
            for step in range(1000, 4000, 1000):
                show("training", Progress(step, 8000, report, 12.34, {}))
                time.sleep(0.02)

    with pytest.warns(GeomatchWarning, match=said):
        train()
    last = drawn.getvalue()[drawn.getvalue().rindex("training") :].splitlines()[0]
    assert "3000/8000" in last
    assert "━" in last
    assert ":" in last
    assert "12.3 images/s" in last


def test_quiet_training_bar_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with console.training_bar(Path("w.safetensors"), quiet=True) as show:
        show("training", Progress(1, 2, {}, 1.0, {}))
    assert capsys.readouterr() == ("", "")


def test_datasets_does_not_break_addresses(tmp_path: Path) -> None:
    lines = geomatch("datasets", cwd=tmp_path, env={"COLUMNS": "60"}).stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("spair-71k: not at "))
    assert line.endswith("; https://cvlab.postech.ac.kr/research/SPair-71k/")


def test_interrupt_while_importing_is_one_line() -> None:
    """Ctrl-C before the command line is read; the import of typer stands for any other."""
    script = (
        "import builtins, sys\n"
        "real = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'typer':\n"
        "        raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "from geomatch.__main__ import main\n"
        "main()\n"
    )
    process = own_process()
    done = subprocess.run(
        [sys.executable, "-c", script, "doctor"], env=process["env"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "geomatch: interrupted\n")
