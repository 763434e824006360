"""Every input is read once: a FIFO, `<(...)` and `-` work wherever a file does. A matrix over commands and inputs."""

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from geomatch.cli.options import PipelineOptions
from geomatch.errors import InputError
from geomatch.features.weights import read_tensors
from geomatch.io import inputs
from geomatch.io.images import read_image
from geomatch.io.json_text import read_json
from geomatch.io.pairs import read_pairs
from geomatch.io.tables import read_table
from geomatch.runtime.feature_cache import FeatureCache
from tests.cli.command import geomatch, own_process
from tests.cli.piped import Pipe, run_piped
from tests.datasets.layouts import write_spair
from tests.stub import build_stub, picture, save_small_network


@dataclass(frozen=True)
class Command:
    """A command line; of the files that it reads, those that ``-`` can stand for, and those that only a path can,
    because there it stands for a list of names."""

    line: str
    readable: str = ""
    named: str = ""
    stub: bool = True

    @property
    def words(self) -> list[str]:
        return self.line.split()


COMMANDS = {
    "match": Command("match a.png b.png -o out", "a.png b.png"),
    "flow": Command("match a.png b.png --no-pictures --format npz -o out", "a.png b.png"),
    "pairs": Command("match --pairs list.tsv -o out", "list.tsv"),
    "against": Command("match --against a.png b.png c.png --no-pictures -o out", "a.png", "b.png c.png"),
    "view": Command("view a.png b.png -o page.html", "a.png b.png"),
    "at": Command("at a.png b.png --points points.csv", "a.png b.png points.csv"),
    "coco": Command("transfer a.png b.png c.png --keypoints coco.json -o out.json", "a.png coco.json", "b.png c.png"),
    "labelme": Command("transfer a.png b.png --keypoints labelme.json --review look", "a.png labelme.json", "b.png"),
    "csv": Command("transfer a.png b.png --keypoints marks.csv -o out.csv", "a.png marks.csv", "b.png"),
    "boxes": Command("transfer a.png b.png --boxes boxes.csv -o out.csv", "a.png boxes.csv", "b.png"),
    "mask": Command("transfer a.png b.png --mask mask.png -o out --format png", "a.png mask.png", "b.png"),
    "extract": Command("extract a.png b.png -o out", named="a.png b.png"),
    "suggest": Command("suggest a.png b.png c.png -o sheet.png --json", named="a.png b.png c.png"),
    "compare": Command("eval --compare scores.json others.json --json", "scores.json others.json"),
    "plot": Command("train --plot log.jsonl -o page.html", "log.jsonl"),
    "weights": Command(
        "at a.png b.png --point 20,20 --weights weights.safetensors --preset fast --device cpu",
        "weights.safetensors",
        stub=False,
    ),
    "eval": Command(
        "eval --dataset animal-parts --root SPair-71k --features introspection --features introspection:1+0.8 --json "
        "--fresh --preset fast --matcher nn --device cpu --weights weights.safetensors",
        "weights.safetensors",
        stub=False,
    ),
    "show": Command(
        "show confidence a.png --weights weights.safetensors --preset fast --device cpu -o sheet.png",
        "weights.safetensors",
        "a.png",
        stub=False,
    ),
    "crops": Command(
        "crops --data photographs --weights weights.safetensors --device cpu --out crops.csv --json",
        "weights.safetensors",
        stub=False,
    ),
}


def write_inputs(folder: Path) -> Path:
    folder.mkdir()
    write_spair(folder / "SPair-71k")
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        picture(96, 128, left=4 * number, top=2 * number).save(folder / name)
    (folder / "photographs" / "cat").mkdir(parents=True)
    shutil.copy(folder / "a.png", folder / "photographs" / "cat")
    mask = Image.new("L", (128, 96))
    mask.paste(1, (30, 30, 80, 70))
    mask.save(folder / "mask.png")
    point = {"label": "nose", "points": [[50.5, 40.5]], "shape_type": "point", "group_id": None}
    labelme = {"shapes": [point], "imagePath": "a.png", "imageHeight": 96, "imageWidth": 128}
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 96}],
        "categories": [{"id": 1, "name": "cat", "keypoints": ["nose"]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [50, 40, 2], "num_keypoints": 1}],
    }
    texts = {
        "list.tsv": "a.png\tb.png\nb.png\ta.png\n",
        "points.csv": "name,x,y\nnose,50,40\n",
        "marks.csv": "image,name,x,y\na.png,nose,50,40\n",
        "boxes.csv": "label,left,top,right,bottom\ncat,20,20,60,50\n",
        "labelme.json": json.dumps(labelme),
        "coco.json": json.dumps(coco),
        "log.jsonl": '{"step": 0, "loss": 1.0}\n{"step": 1, "loss": 0.5}\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    save_small_network(folder / "weights.safetensors")
    return folder


@dataclass(frozen=True)
class Done:
    """What a command printed and the files that it made, without times."""

    status: int
    stdout: bytes
    stderr: str = field(compare=False)
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Done]:
    """What each command does with files, with all of its inputs as FIFOs, with each that can be as stdin while the
    others are descriptors, and with all as descriptors, where otherwise one would never be."""
    place = tmp_path_factory.mktemp("matrix")
    given = write_inputs(place / "inputs")
    score = "eval --dataset animal-parts --root SPair-71k --split val --json"
    scored = run_piped(score.split(), given, {}, stub=True)
    assert scored.status == 0, scored.stderr
    for name in ("scores.json", "others.json"):
        (given / name).write_bytes(scored.stdout)
    found = {}
    for name, command in COMMANDS.items():
        single, every = command.readable.split(), [*command.readable.split(), *command.named.split()]
        ways: dict[str, dict[str, Pipe]] = {"files": {}, "fifo": dict.fromkeys(every, "fifo")}
        for each in single:
            ways[f"- for {each}"] = {**dict.fromkeys(every, "descriptor"), each: "stdin"}
        if len(single) < 2:
            ways["descriptor"] = dict.fromkeys(every, "descriptor")
        for way, pipes in ways.items():
            folder = shutil.copytree(given, place / f"{len(found)}")
            found[name, way] = collect(command, folder, given, pipes)
    return found


def collect(command: Command, folder: Path, given: Path, pipes: dict[str, Pipe]) -> Done:
    printed = run_piped(command.words, folder, pipes, stub=command.stub)
    made = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in made}
    files = {name: untimed(content) for name, content in files.items() if not (given / name).exists()}
    return Done(printed.status, b"\n".join(map(untimed, printed.stdout.splitlines())), printed.stderr, files)


def untimed(content: bytes) -> bytes:
    try:
        record = json.loads(content)
    except ValueError:
        return content
    return json.dumps(without_times(record)).encode()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if "seconds" not in key and key != "reused"}
    return [without_times(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", COMMANDS)
def test_inputs_as_fifos_give_the_same_bytes(name: str, matrix: dict[tuple[str, str], Done]) -> None:
    """The FIFOs have the names of the files, and who opened one a second time would wait for ever."""
    plain, piped = matrix[name, "files"], matrix[name, "fifo"]
    assert plain.status == 0, plain.stderr
    assert plain.files or plain.stdout
    assert piped == plain


@pytest.mark.parametrize("name", COMMANDS)
def test_inputs_without_names_give_the_same_results(name: str, matrix: dict[tuple[str, str], Done]) -> None:
    """The same but for what names an image: positions, scores, checksums of what was read, and flow."""
    plain = matrix[name, "files"]
    for each in [each for command, each in matrix if command == name and each not in ("files", "fifo")]:
        done = matrix[name, each]
        assert done.status == 0, (each, done.stderr)
        assert nameless(done.stdout) == nameless(plain.stdout), each
        assert {file for file in done.files if "/" not in file} == {file for file in plain.files if "/" not in file}
        if name in ("match", "flow", "plot"):
            assert {file: nameless(done.files[file]) for file in done.files if file != "page.html"} == {
                file: nameless(plain.files[file]) for file in plain.files if file != "page.html"
            }


def nameless(content: bytes) -> object:
    """Lines of JSON without the entries that hold names, anything else as it is."""
    hidden = ("path", "image", "nearest", "output", "review", "dataset", "bytes")  # the size of a page with names in it

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(each) for key, each in value.items() if key not in hidden}
        return [strip(each) for each in value] if isinstance(value, list) else value

    try:
        return [strip(json.loads(line)) for line in content.splitlines()]
    except ValueError:
        return content


def test_inputs_are_hashed_as_read(matrix: dict[tuple[str, str], Done], tmp_path: Path) -> None:
    given = write_inputs(tmp_path / "inputs")
    sha256 = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in given.iterdir() if path.is_file()}
    for way in ("fifo", "- for a.png", "- for b.png"):
        for name in ("match", "flow", "view"):
            record = json.loads(matrix[name, way].stdout)
            assert record["source"]["sha256"] == sha256["a.png"]
            assert record["target"]["sha256"] == sha256["b.png"]
    for way in ("fifo", "descriptor"):
        records = [json.loads(line) for line in matrix["extract", way].stdout.splitlines()]
        assert [record["sha256"] for record in records] == [sha256["a.png"], sha256["b.png"]]
    (entry,) = [json.loads(each) for file, each in matrix["mask", "fifo"].files.items() if file.endswith(".json")]
    assert entry["image"] == ["b.png", sha256["b.png"]]
    assert entry["origin"]["reference_sha256"] == sha256["a.png"]
    assert entry["origin"]["marks_sha256"] == sha256["mask.png"]
    for way in ("files", "fifo", "descriptor", "- for weights.safetensors"):
        lines = [json.loads(line) for line in matrix["eval", way].stdout.splitlines()]
        assert {line["weights"] for line in lines} == {sha256["weights.safetensors"]}
        assert len(lines) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("match - -", "- is stdin, which can be one input only, and is given 2 times (SOURCE TARGET)"),
        ("at a.png - --points -", "given 2 times (TARGET, --points)"),
        ("transfer - b.png --keypoints -", "given 2 times ([REF] IMAGES..., --keypoints)"),
        ("transfer a.png - --keypoints - -o -", "given 2 times ([REF] IMAGES..., --keypoints)"),
        ("match --against - - -o out", "given 2 times (SOURCE TARGET, --against)"),
        ("eval --compare - -", "given 2 times (--compare)"),
        ("show confidence - --weights -", "given 2 times (IMAGE..., --weights)"),
        ("eval --dataset warps --weights introspection=- --weights anchornet=-", "given 2 times (--weights)"),
        ("train introspection --data . --init - --out o.safetensors --crops -", "given 2 times (--init, --crops)"),
    ],
)
def test_inputs_refuse_a_second_stdin(line: str, said: str, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(pair.iterdir())
    refused = run(line, pair, monkeypatch, (pair / "a.png").read_bytes())
    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert sorted(pair.iterdir()) == before


def test_inputs_refuse_what_is_no_stream_of_bytes_that_ends(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pair / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(pair)
        listener.bind("socket")
        for place, said in (
            ("/dev/zero", "/dev/zero: is a device, which need not end"),
            ("socket", "socket: is a socket, which need not end"),
            ("folder", "folder: is a folder; give a file"),
            ("none", "none: no such file"),
        ):
            for line in (
                f"match {place} a.png -o out",
                f"match a.png {place} -o out",
                f"match --pairs {place} -o out",
                f"match --against {place} a.png -o out",
                f"view a.png {place}",
                f"at a.png a.png --points {place}",
                *(f"transfer a.png a.png {kind} {place}" for kind in ("--keypoints", "--mask") if place != "folder"),
                f"eval --compare {place} a.png",
                f"train --plot {place}",
            ):
                refused = run(line, pair, monkeypatch)
                assert (refused.returncode, refused.stdout) == (2, ""), line
                assert said in refused.stderr, line
                assert refused.stderr.count("\n") == 1, line
    assert not (pair / "out").exists()


def test_inputs_larger_than_the_limit(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_BYTES", 1 << 20)
    refused = run("at a.png a.png --points -", pair, monkeypatch, b"1,1\n" * (1 << 18) + b"2")
    assert refused.stderr == "geomatch: error: stdin: larger than 1 MiB; leave only what is needed in it\n"
    taken = run("at a.png a.png --points -", pair, monkeypatch, b"1,1\n" + b"\n" * ((1 << 20) - 4))
    assert taken.returncode == 0, taken.stderr


def test_inputs_list_cannot_name_stdin(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("match --pairs - -o out", pair, monkeypatch, b"a.png\t-\n")
    assert refused.stderr == "geomatch: error: stdin, line 1: - is stdin, which a list cannot name\n"


def test_inputs_stdin_is_for_one_process(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    for line in ("match --pairs - -o out", "at a.png - --point 1,1", "extract -"):
        assert "several processes cannot read one stdin" in run(line, pair, monkeypatch).stderr


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"images": [{"id": 1, "file_name": "x/any.png"}]}, None),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]}, "has 2 images"),
        ({"images": []}, "has no image named -"),
    ],
)
def test_inputs_reference_without_a_name_is_the_only_image(
    document: dict[str, Any], said: str | None, pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [5, 4, 2]}]
    document |= {"annotations": marks, "categories": [{"id": 1, "name": "cat", "keypoints": ["nose"]}]}
    (pair / "marks.json").write_text(json.dumps(document))
    done = run("transfer - a.png --keypoints marks.json", pair, monkeypatch, (pair / "a.png").read_bytes())
    assert done.returncode == (2 if said else 0)
    assert said is None or f"marks.json: {said}" in done.stderr


@pytest.mark.parametrize("content", [b"\x00\x01\xff", b"", b"\x89PNG\r\n\x1a\n"])
def test_inputs_annotations_of_no_format(content: bytes, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("transfer a.png a.png --keypoints -", pair, monkeypatch, content)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("geomatch: error: stdin: ")


def test_inputs_fifo_of_many_pairs_is_kept(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the features of its image do not stay in memory, and under --resume, where files are read twice."""
    content = (pair / "a.png").read_bytes()
    monkeypatch.setattr(FeatureCache.__init__, "__defaults__", (1,))
    monkeypatch.setattr("geomatch.batch.match_pairs.IMAGE_BYTES", 1)
    for more in ("--no-pictures", "--picture=warped", "--resume"):
        os.mkfifo(pair / "fifo.png")
        writer = Thread(target=(pair / "fifo.png").write_bytes, args=(content,), daemon=True)
        writer.start()
        images = " ".join(["a.png", "b.png"] * 12)
        done = run(f"match --against fifo.png {images} {more} -o {more[2:]}", pair, monkeypatch)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert {record["source"]["sha256"] for record in records} == {hashlib.sha256(content).hexdigest()}
        (pair / "fifo.png").unlink()


def test_inputs_shell_substitutes_processes(tmp_path: Path) -> None:
    """A shell's own pipes; the marks come with a byte order mark, and the image from a program that is slow."""
    given = write_inputs(tmp_path / "inputs")
    command = f"{sys.executable} -m geomatch transfer <(sleep 1; cat a.png) b.png --features hog --matcher nn "
    command += "--device cpu --keypoints <(printf '\\xef\\xbb\\xbf'; cat coco.json)"
    done = subprocess.run(
        ["bash", "-c", command], env=own_process()["env"], cwd=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [item["label"] for item in json.loads(done.stdout)["items"]] == ["cat"]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two pictures and a point, and a pipeline without weights."""
    monkeypatch.setattr(PipelineOptions, "build", build_stub)
    picture(60, 80).save(tmp_path / "a.png")
    picture(60, 80, left=4).save(tmp_path / "b.png")
    (tmp_path / "points").write_text("x,y\n20,20\n")
    return tmp_path


def run(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    return geomatch(*line.split(), cwd=folder)


@pytest.mark.parametrize(
    "read",
    [read_image, read_json, read_pairs, read_tensors, lambda path: list(read_table(path))],
    ids=["image", "json", "pairs", "tensors", "table"],
)
def test_what_stands_in_the_place_of_a_file_is_named(read: Callable[[Path], object], tmp_path: Path) -> None:
    for content, said in {
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n": "is a pointer of Git LFS; fetch the file",
        b"\xef\xbb\xbf \n<!DOCTYPE HTML><html>Sign in": "is a web page, not the file; download it again",
    }.items():
        (tmp_path / "input").write_bytes(content)
        with pytest.raises(InputError, match=said):
            read(tmp_path / "input")
