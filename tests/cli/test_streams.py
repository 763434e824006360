"""Whatever stdin, stdout and stderr are, every command writes the same files: a matrix over commands and streams."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.io.flow import FlowField, encode_flo
from tests.cli.command import own_process
from tests.cli.forked import Cell, run_cells
from tests.conftest import ROOT
from tests.datasets.layouts import write_spair
from tests.stub import save_small_network

CAT = "猫.png"
COMMANDS = {
    "match": ["match", CAT, "b.png", "-o", "out"],
    "pairs": ["match", "--pairs", "list.tsv", "-o", "out", "--no-pictures"],
    "view": ["view", CAT, "b.png", "-o", "page.html"],
    "transfer": ["transfer", "b.png", CAT, "--keypoints", "marks.csv", "-o", "out.csv", "--review", "look"],
    "at": ["at", CAT, "b.png", "--point", "20,20"],
    "extract": ["extract", CAT, "b.png", "-o", "out"],
    "eval": ["eval", "--dataset", "animal-parts", "--root", "SPair-71k", "--split", "val", "--csv", "scores.csv"],
    "eval --json": ["eval", "--dataset", "animal-parts", "--root", "SPair-71k", "--split", "val", "--json"],
    "datasets": ["datasets"],
    "check": ["datasets", "check", "animal-parts", "--root", "SPair-71k", "--split", "val"],
    "suggest": ["suggest", CAT, "b.png", "--count", "1", "-o", "sheet.png"],
    "warp": ["warp", "flow.flo", "b.png", "-o", "warped.png"],
    "morph": ["morph", CAT, "b.png", "-o", "morph.gif", "--frames", "3"],
    "average": ["average", CAT, "b.png", "-o", "mean.png"],
    "convert": ["convert", "weights.safetensors", "-o", "converted.safetensors"],
    "plot": ["train", "--plot", f"{CAT}.log.jsonl", "-o", "page.html"],
    "version": ["--version"],
    "help": ["match", "--help"],
}
NETWORK = ["--weights", "weights.safetensors", "--device", "cpu"]
WEIGHTS = {
    "crops": ["crops", "--data", "photographs", "--out", "crops.csv", "--json", *NETWORK],
    "show": ["show", "confidence", CAT, "--preset", "fast", "-o", "sheet.png", *NETWORK],
}
TRAINING = ["train", "introspection", "--data", "photographs", "--init", "weights.safetensors", "--classes", "all"]
SMALL = ["--device", "cpu", "--set", "points=20", "--set", "similarity_cells=20"]
SILENT = {"train": [*TRAINING, "--out", "mine.safetensors", "--steps", "1", "--batch", "1", "--size", "64", *SMALL]}
"""Commands that print nothing to stdout, and so lose nothing with it."""

TO_STDOUT = {
    "view": "page.html",
    "transfer": "out.csv",
    "plot": "page.html",
    "show": "sheet.png",
    "average": "mean.png",
}
PLAIN = Cell("", ())
STREAMS = {
    "plain": PLAIN,
    "all closed": replace(PLAIN, stdin="closed", stdout="closed", stderr="closed"),
    "stdout full": replace(PLAIN, stdin="closed", stdout="full"),
    "cp1252": replace(PLAIN, stderr="full", encoding="cp1252"),
}
MORE_STREAMS = {
    "stdin closed": replace(PLAIN, stdin="closed"),
    "stdout closed": replace(PLAIN, stdout="closed"),
    "stderr closed": replace(PLAIN, stderr="closed"),
    "stdout unread": replace(PLAIN, stdout="unread"),
    "ascii": replace(PLAIN, encoding="ascii"),
}


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    files: dict[str, bytes]
    stdout: bytes
    stderr: str


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Done]:
    place = tmp_path_factory.mktemp("matrix")
    inputs = write_inputs(place / "inputs")
    commands = COMMANDS | WEIGHTS | SILENT
    wanted = [(command, state) for state in STREAMS for command in commands]
    cells = {}
    more = [*(("pairs", state) for state in MORE_STREAMS), *((command, "-o -") for command in TO_STDOUT)]
    for command, state in [*wanted, *more]:
        folder = str(shutil.copytree(inputs, place / f"{len(cells)}"))
        streams, arguments = (STREAMS | MORE_STREAMS).get(state, PLAIN), commands[command]
        if state == "-o -":
            arguments = ["-" if word == TO_STDOUT[command] else word for word in arguments]
        cells[command, state] = replace(streams, folder=folder, arguments=arguments, stub=command in COMMANDS)
    statuses = run_cells(list(cells.values()), place)
    return {key: collect(cell, inputs, status) for (key, cell), status in zip(cells.items(), statuses, strict=True)}


def write_inputs(folder: Path) -> Path:
    write_spair(folder / "SPair-71k")
    (folder / "photographs" / "cat").mkdir(parents=True)
    picture = Image.open(ROOT / "examples" / "teapots" / "a.png").convert("RGB").resize((64, 48))
    for name in (CAT, "b.png", "photographs/cat/a.png"):
        picture.save(folder / name)
    (folder / "list.tsv").write_text(f"{CAT}\tb.png\nb.png\t{CAT}\n", encoding="utf-8")
    (folder / "marks.csv").write_text("image,name,x,y\nb.png,nose,20,20\n")
    save_small_network(folder / "weights.safetensors")
    (folder / "flow.flo").write_bytes(encode_flo(FlowField(np.ones((2, 48, 64), np.float32), np.ones((48, 64), bool))))
    (folder / f"{CAT}.log.jsonl").write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "loss": 0.5}\n')
    return folder


def collect(cell: Cell, inputs: Path, status: int) -> Done:
    folder = Path(cell.folder)
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (inputs / path.relative_to(folder)).exists()
    }
    for name in ("out/match.json", "mine.safetensors.log.jsonl"):  # they have the times
        if name in files:
            files[name] = json.dumps(json.loads(files[name]) | {"seconds": {}}).encode()
    files.pop("mine.safetensors.checkpoint", None)  # the same
    printed = [Path(f"{folder}.{name}") for name in ("stdout", "stderr")]
    stdout, stderr = (path.read_bytes() if path.exists() else b"" for path in printed)
    return Done(status, files, stdout, stderr.decode(cell.encoding, "replace"))


@pytest.mark.parametrize("state", STREAMS | MORE_STREAMS)
def test_streams_change_no_file_and_no_status(state: str, matrix: dict[tuple[str, str], Done]) -> None:
    """Only where something printed is lost on a stdout that is there, the status is 1, and a full one is named."""
    assert matrix["transfer", "plain"].files.keys() >= {"out.csv", "look/index.html"}
    for command in [command for command, named in matrix if named == state]:
        done, plain = matrix[command, state], matrix[command, "plain"]
        assert plain.status == 0, (command, plain.stderr)
        lost = state in ("stdout full", "stdout unread") and command not in SILENT
        assert done.status == (1 if lost else 0), (command, done.stderr)
        assert done.files == plain.files, command
        assert "Traceback" not in done.stderr, command
        assert ("stdout: could not be written (No space left on device)" in done.stderr) == (
            lost and state == "stdout full"
        )


@pytest.mark.parametrize(("command", "file"), TO_STDOUT.items())
def test_streams_dash_sends_the_file_alone_to_stdout(
    command: str, file: str, matrix: dict[tuple[str, str], Done]
) -> None:
    done, plain = matrix[command, "-o -"], matrix[command, "plain"]
    assert done.status == 0, done.stderr
    assert done.stdout == plain.files[file]
    assert done.files == {name: content for name, content in plain.files.items() if name != file}


@pytest.mark.parametrize(
    ("command", "state"),
    [*((command, "cp1252") for command in ("match", "pairs", "view", "transfer", "extract")), ("pairs", "ascii")],
)
def test_streams_json_lines_survive_any_encoding(command: str, state: str, matrix: dict[tuple[str, str], Done]) -> None:
    def records(done: Done, encoding: str) -> list[dict[str, object]]:
        return [json.loads(line) | {"seconds": {}} for line in done.stdout.decode(encoding).splitlines()]

    lines = records(matrix[command, state], "ascii")
    assert lines == records(matrix[command, "plain"], "utf-8")
    assert CAT in matrix[command, "plain"].stdout.decode(), "elsewhere names are readable"


def test_streams_c_locale_carries_every_name(tmp_path: Path) -> None:
    """A process of its own, since the locale decides how Python itself starts."""
    log = tmp_path / f"{CAT}.log.jsonl"
    log.write_text('{"step": 0, "loss": 1.0}\n')
    for variables in ({"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        started = own_process("train", "--plot", log)
        started["env"] |= variables
        done = subprocess.run(**started, capture_output=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        log.with_suffix(".html").unlink()


def test_streams_slow_reader_of_a_non_blocking_pipe_gets_all() -> None:
    """Another process, such as node, may have made the pipe non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    script = "from geomatch.cli.console import run_command; run_command(lambda: print('x' * 300_000) or 0)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=writer, env=environment)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123
        assert pipe.read() == b"x" * 300_000 + b"\n"
    assert process.wait() == 0
