"""`geomatch train` as a user meets it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from geomatch.cli.commands.train import _matcher
from geomatch.cli.training_options import ANCHORNET, DISTILLED, INTROSPECTION, KEYPOINTS, SCNET
from geomatch.datasets.pairs import PairDataset
from geomatch.evaluation import validation
from geomatch.features.anchornet import AnchorNet
from geomatch.features.introspection import IntrospectionNet
from geomatch.features.weights import load_weights
from geomatch.options import Device, Recipe
from geomatch.training.anchornet import train as anchornet_train
from geomatch.training.introspection import train as introspection_train
from geomatch.training.recipes import (
    ANCHOR_RECIPES,
    DISTILLED_RECIPES,
    KEYPOINT_RECIPES,
    RECIPES,
    SCNET_RECIPES,
    parts_of,
)
from tests.cli.command import geomatch, own_process
from tests.conftest import ROOT
from tests.features.test_mobilenet import keras_state
from tests.features.test_resnet import published_resnet50v2_state

SMALL = ("--trunk", "resnet50v2", "--stage", 1, "--descriptor-size", 8, "--size", 64, "--batch", 2,
         "--set", "teacher_size=65", "--device", "cpu", "--precision", "float32")  # fmt: skip

QUICK = ("--preset", "fast", "--matcher", "nn")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``init.safetensors``, and ``photographs`` of one class."""
    folder = tmp_path_factory.mktemp("workshop")
    save_file(published_resnet50v2_state(), folder / "init.safetensors")
    (folder / "photographs" / "cat").mkdir(parents=True)
    for index in range(3):
        colours = np.random.default_rng(index).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(colours).resize((90, 70), Image.Resampling.BICUBIC)
        picture.save(folder / "photographs" / "cat" / f"{index}.png")
    for name in ("unlabelled", "empty", "damaged/cat"):
        (folder / name).mkdir(parents=True)
    picture.save(folder / "unlabelled" / "0.png")
    (folder / "damaged" / "cat" / "0.png").write_bytes(b"no picture")
    return folder


def test_train_introspection_weights_match_images(workshop: Path, teapots: Path) -> None:
    places = ("--data", "photographs", "--init", "init.safetensors", "--out", "mine.safetensors")
    done = geomatch("train", "introspection", *places, *SMALL, "--steps", 2, cwd=workshop)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("geomatch: note: mine.safetensors: training, 2 steps, loss ")
    assert done.stderr.count("\n") == 1
    assert load_weights(workshop / "mine.safetensors").config["descriptor_size"] == 8
    assert len((workshop / "mine.safetensors.log.jsonl").read_text().splitlines()) == 2
    pictures = (teapots / "a.png", teapots / "b.png")
    matched = geomatch("match", *pictures, "--weights", "mine.safetensors", *QUICK, cwd=workshop)
    assert matched.returncode == 0, matched.stderr
    assert json.loads(matched.stdout)["weights_sha256"] == load_weights(workshop / "mine.safetensors").sha256


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--data": "nowhere"}, ["nowhere", "no such"]),
        ({"--init": "photographs/cat/0.png"}, ["0.png", "not a safetensors file"]),
        ({"--init": "none.safetensors"}, ["none.safetensors", "no such"]),
        ({"--out": "init.safetensors"}, ["init.safetensors: exists already", "--resume", "--overwrite"]),
        ({"--out": "init.pth"}, ["init.pth", "ends in .safetensors"]),
        ({"--trunk": "vgg16"}, ["vgg16", "resnet50v2"]),
        ({"--trunk": "resnet50"}, ["init.safetensors", "does not fit the trunk"]),
        ({"--stage": "4"}, ["no stage 4"]),
        ({"--batch": "9"}, ["9 photographs", "--set batches=mixed"]),
        ({"--classes": "cat,aeroplan"}, ["no photograph is labelled aeroplan", "the labels are cat"]),
        ({"--preset": "paper"}, ["no photograph is labelled aeroplane, bicycle"]),
        ({"--data": "unlabelled"}, ["no label has the 2 photographs", "--set batches=mixed"]),
        ({"--data": "empty"}, ["no photographs in empty"]),
        ({"--data": "damaged"}, ["1 of 1 photographs cannot be read", "--max-unreadable", "0.png"]),
        ({"--val": "spair-71k"}, ["--val spair-71k", "NAME=DIR"]),
        ({"--val": "spair-71k=nowhere"}, ["nowhere"]),
        ({"--val": "nothing=photographs"}, ["nothing", "pf-pascal"]),
    ],
)
def test_train_introspection_errors(changes: dict[str, str], said: list[str], workshop: Path) -> None:
    options = {"--data": "photographs", "--init": "init.safetensors", "--out": "other.safetensors", "--steps": "1"}
    options |= dict(zip(SMALL[::2], map(str, SMALL[1::2]), strict=True)) | changes
    done = geomatch("train", "introspection", *(word for pair in options.items() for word in pair), cwd=workshop)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    for text in said:
        assert text in done.stderr
    assert not list(workshop.glob("other*"))


def test_train_introspection_inputs_from_pipes(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files as FIFOs, and each as stdin, give the weights and the log's numbers that they give as files."""
    save_file(keras_state(), workshop / "teacher.safetensors")
    (workshop / "classes").write_text("cat\n")
    box = "file,label,left,top,right,bottom,score\n" + "".join(f"cat/{k}.png,cat,5,5,80,60,1\n" for k in range(3))
    (workshop / "crops.csv").write_text(box)
    files = {"--init": "init.safetensors", "--teacher": "teacher.safetensors", "--crops": "crops.csv"}
    files |= {"--classes": "classes"}

    def trained(out: str, given: dict[str, str]) -> tuple[bytes, list[dict[str, float]]]:
        words = [word for pair in given.items() for word in pair]
        places = ("--data", "photographs", "--out", out, "--steps", 1, "-q")
        done = geomatch("train", "introspection", *places, *words, *SMALL, cwd=workshop)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        log = [json.loads(line) for line in (workshop / f"{out}.log.jsonl").read_text().splitlines()]
        return (workshop / out).read_bytes(), [{k: v for k, v in line.items() if k != "seconds"} for line in log]

    plain = trained("plain.safetensors", files)
    for name in files.values():
        os.mkfifo(workshop / f"{name}.fifo")
        send = (workshop / f"{name}.fifo").write_bytes
        Thread(target=send, args=((workshop / name).read_bytes(),), daemon=True).start()
    assert trained("fifo.safetensors", {option: f"{name}.fifo" for option, name in files.items()}) == plain
    for option, name in files.items():
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((workshop / name).read_bytes())))
        assert trained(f"stdin{option}.safetensors", files | {option: "-"}) == plain


@pytest.fixture
def shifted(spair: Path, teapots: Path) -> Path:
    """Pairs in SPair's layout whose second picture shows what lies 10 pixels further right and down in the first."""
    picture = Image.open(teapots / "a.png").convert("RGB").resize((100, 80))
    for path in (spair / "JPEGImages").rglob("*.jpg"):
        left = 0 if path.name == "x.jpg" else 10
        picture.crop((left, left, left + 80, left + 60)).save(path)
    points = [[x, y] for x in range(12, 80, 6) for y in range(12, 60, 6)]
    for path in (spair / "PairAnnotation").rglob("*.json"):
        known = json.loads(path.read_text())
        moved = {"src_kps": points, "trg_kps": [[x - 10, y - 10] for x, y in points], "trg_bndbox": [0, 0, 79, 59]}
        path.write_text(json.dumps(known | moved))
    return spair


def test_train_introspection_validation_keeps_best(
    workshop: Path, shifted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two validations, the score of the second of which is halved."""
    tried: list[torch.Tensor] = []

    def worse_and_worse(network: IntrospectionNet, benchmarks: list[PairDataset]) -> float:
        tried.append(network.state_dict()["trunk.stem.conv.weight"].half())
        return score(network, benchmarks) / len(tried)

    score = validation.validation_score
    monkeypatch.setattr(validation, "validation_score", worse_and_worse)
    places = ("--data", "photographs", "--init", "init.safetensors", "--out", "best.safetensors")
    options = ("--steps", 3, "--trunk-rate", 0.01, "--keep-similarity", 0)
    validated = ("--val", f"animal-parts={shifted}", "--val-every", 2)
    done = geomatch("train", "introspection", *places, *SMALL, *options, *validated, cwd=workshop)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (workshop / "best.safetensors.log.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["validation"] for line in log if "validation" in line}
    assert list(scores) == [2, 3]
    assert scores[3] < scores[2]
    kept = load_weights(workshop / "best.safetensors").state["trunk.stem.conv.weight"].half()
    assert torch.equal(kept, tried[0])
    assert not torch.equal(kept, tried[1])

    weights = ("--weights", "best.safetensors", "--matcher", "nn", "--device", "cpu")
    dataset = ("--dataset", "animal-parts", "--root", shifted, "--split", "val")
    again = geomatch("eval", *dataset, *weights, "--json", cwd=workshop)
    assert again.returncode == 0, again.stderr
    results = json.loads(again.stdout)["results"]
    # The file holds half precision.
    assert next(r["pck"] for r in results if r["alpha"] == 0.1) == pytest.approx(scores[2], abs=0.1)


@pytest.mark.slow
def test_train_introspection_killed_and_resumed(workshop: Path) -> None:
    often = ("--steps", 6, "--checkpoint-every", 0, "--keep-similarity", 0)

    def words(out: str) -> list[str]:
        places = ("--data", "photographs", "--init", "init.safetensors", "--out", out)
        return [str(word) for word in ("train", "introspection", *places, *SMALL, *often)]

    def told(out: str) -> list[dict[str, float]]:
        lines = map(json.loads, (workshop / f"{out}.log.jsonl").read_text().splitlines())
        return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]

    assert geomatch(*words("whole.safetensors"), cwd=workshop).returncode == 0
    log = workshop / "killed.safetensors.log.jsonl"
    with subprocess.Popen(**own_process(*words("killed.safetensors")), cwd=workshop) as process:
        while not log.is_file() or log.read_bytes().count(b"\n") < 2:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (workshop / "killed.safetensors").exists()
    assert geomatch(*words("killed.safetensors"), "--resume", cwd=workshop).returncode == 0
    assert told("killed.safetensors") == told("whole.safetensors")
    assert (workshop / "killed.safetensors").read_bytes() == (workshop / "whole.safetensors").read_bytes()


def test_train_introspection_resume_with_other_options(workshop: Path) -> None:
    places = ("--data", "photographs", "--init", "init.safetensors", "--out", "preset.safetensors")
    options = ("--preset", "paper", "--trunk", "resnet50v2", "--classes", "cat", "--steps", 1)
    done = geomatch("train", "introspection", *places, *SMALL, *options, cwd=workshop)
    assert done.returncode == 0, done.stderr
    line = json.loads((workshop / "preset.safetensors.log.jsonl").read_text())
    assert set(line) == {"step", "loss", "likelihood", "sigma", "seconds"}
    changed = geomatch(
        "train", "introspection", *places, *SMALL, *options, "--classes", "all", "--resume", cwd=workshop
    )
    assert changed.returncode == 2
    assert "recipe.classes was ['cat'] and is now []" in changed.stderr


def test_train_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.log.jsonl").write_text('{"step": 0, "loss": 2.5}\n{"step": 1, "lo')
    done = geomatch("train", "--plot", "a.log.jsonl", "--plot", "b.log.jsonl", "-o", "both.html", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "both.html\n", "")
    assert "<h3>Loss</h3>" in (tmp_path / "both.html").read_text()
    assert geomatch("train", "--plot", "a.log.jsonl", cwd=tmp_path).stdout == "a.log.html\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"step": 0, "loss": 2.5}\n')))
    assert geomatch("train", "--plot", "-", cwd=tmp_path).stdout == "stdin.html\n"
    assert "Usage" in geomatch("train", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plot", "none.jsonl"], "none.jsonl: no such file"),
        (["--plot", "empty.jsonl"], "no step in this log yet"),
        (["--plot", "picture.png"], "not the log of a training"),
        (["--plot", "empty.jsonl", "-o", "plot.png"], "ends in .html"),
        (["-o", "plot.html"], "give --plot LOG"),
    ],
)
def test_train_plot_errors(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    done = geomatch("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("plot*"))


ANCHORS = ("--classes", "cat", "--stages", "1,2,3", "--filters", 3, "--code-size", 2, "--tap-size", 4, "--size", 64,
           "--batch", 2, "--steps", 1, "--code-steps", 1, "--set", "example_size=65", "--device", "cpu",
           "--precision", "float32", "--held-out", 0)  # fmt: skip


def test_train_anchornet_weights_match_and_show(workshop: Path, teapots: Path) -> None:
    places = ("--data", "photographs", "--init", "init.safetensors", "--out", "anchors.safetensors")
    done = geomatch("train", "anchornet", *places, *ANCHORS, cwd=workshop)
    assert (done.returncode, done.stdout) == (0, "")
    *notes, summary = done.stderr.splitlines()
    assert summary.startswith("geomatch: note: anchors.safetensors: banks, 1 step, loss ")
    assert "; code, 1 step, loss " in summary
    assert notes == [
        "geomatch: note: few photographs of cat (3): their anchors will know little; --classes can leave them out"
    ]
    logs = [workshop / f"anchors.safetensors.{what}.log.jsonl" for what in ("banks", "code")]
    assert [len(log.read_text().splitlines()) for log in logs] == [1, 1]
    assert geomatch("train", "--plot", *logs[:1], "-o", "log.html", cwd=workshop).returncode == 0
    own = ("--weights", "anchors.safetensors")
    pictures = (teapots / "a.png", teapots / "b.png")
    chosen = ("--features", "anchornet:cat", *QUICK, "-o", "anchored")
    done = geomatch("match", *pictures, *own, *chosen, cwd=workshop)
    assert (done.returncode, json.loads(done.stdout)["features"]) == (0, "anchornet:cat")
    assert geomatch("show", "responses", "photographs/cat/0.png", *own, "--class", "cat", cwd=workshop).returncode == 0


def test_train_anchornet_validation_keeps_best_code(
    workshop: Path, shifted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The banks are scored once, for the log; then the code twice, worse the second time."""
    tried: list[torch.Tensor] = []

    def worse_and_worse(network: AnchorNet, _: list[PairDataset]) -> float:
        assert float(network.mean_code.abs().max()) > 0  # fitted, though it is learnt last
        tried.append(network.encoder.weight.detach().half().clone())
        return 1 / len(tried)

    monkeypatch.setattr(validation, "validation_score", worse_and_worse)
    places = ("--data", "photographs", "--init", "init.safetensors", "--out", "best-code.safetensors")
    options = ("--val", f"animal-parts={shifted}", "--val-every", 1, "--set", "code_learning_rate=.1")
    done = geomatch("train", "anchornet", *places, *ANCHORS, *options, "--code-steps", 2, cwd=workshop)
    assert done.returncode == 0, done.stderr
    logs = [workshop / f"best-code.safetensors.{part}.log.jsonl" for part in ("banks", "code")]
    lines = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    assert [[line["validation"] for line in part if "validation" in line] for part in lines] == [[1], [1 / 2, 1 / 3]]
    kept = load_weights(workshop / "best-code.safetensors").state["encoder.weight"].half()
    assert torch.equal(kept, tried[1])
    assert not torch.equal(kept, tried[2])


def test_train_anchornet_sees_crops_only(workshop: Path) -> None:
    """A box that holds no pixel cannot be learnt from; another table does not fit a checkpoint."""
    rows = {"crops-a.csv": "cat/0.png,cat,10,10,60,50,1", "crops-b.csv": "cat/0.png,cat,500,10,600,50,1"}
    for name, row in rows.items():
        (workshop / name).write_text(f"file,label,left,top,right,bottom,score\n{row}\n")
    places = ("--data", "photographs", "--init", "init.safetensors", "--out", "cropped.safetensors")
    trained = ("train", "anchornet", *places, *ANCHORS)
    assert geomatch(*trained, "--crops", "crops-a.csv", cwd=workshop).returncode == 0
    again = geomatch(*trained, "--crops", "crops-b.csv", "--resume", cwd=workshop)
    assert "recipe.crops was " in again.stderr
    outside = geomatch(*trained, "--crops", "crops-b.csv", "--overwrite", cwd=workshop)
    assert outside.returncode == 2
    assert "1 of 3 photographs cannot be read" in outside.stderr
    none = geomatch(*trained, "--crops", "none.csv", "--overwrite", cwd=workshop)
    assert (none.returncode, "none.csv: no such file" in none.stderr) == (2, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--classes": "cat,unicorn"}, ["labelled unicorn", "the labels are cat"]),
        ({"--data": "unlabelled"}, ["labelled cat", "none has a label"]),
        ({"--classes": ""}, ["at least one class"]),
        ({"--classes": "init.safetensors"}, ["init.safetensors", "list of classes"]),
        ({"--filters": "900000000"}, ["1 classes of 900000000 filters need about", "GiB", "--set filters=K"]),
        ({"--code-size": "9"}, ["code_size 9", "responses, 3"]),
        ({"--init": "none.safetensors"}, ["none.safetensors", "no such"]),
        ({"--resume": ""}, ["anchors.safetensors.banks.checkpoint", "no checkpoint"]),
    ],
)
def test_train_anchornet_errors(changes: dict[str, str], said: list[str], workshop: Path, tmp_path: Path) -> None:
    options = {
        "--data": "photographs",
        "--init": "init.safetensors",
        "--out": str(tmp_path / "anchors.safetensors"),
        **dict(zip(ANCHORS[::2], ANCHORS[1::2], strict=True)),
        **changes,
    }
    line = [part for option in options.items() for part in option if part != "" or option == ("--classes", "")]
    done = geomatch("train", "anchornet", *line, cwd=workshop)
    assert done.returncode == 2
    assert done.stdout == ""
    assert all(words in done.stderr for words in said), done.stderr
    assert len([each for each in done.stderr.splitlines() if "note:" not in each]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_train_anchornet_two_processes_match_one(workshop: Path) -> None:
    def words(out: str) -> list[str]:
        places = ("--data", "photographs", "--init", "init.safetensors", "--out", out)
        return [str(word) for word in ("train", "anchornet", *places, *ANCHORS, "--accumulate", 2)]

    def losses(out: str, what: str) -> list[float]:
        return [json.loads(line)["loss"] for line in (workshop / f"{out}.{what}.log.jsonl").read_text().splitlines()]

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*launcher, "-m", "geomatch", *words("two.safetensors")]
    subprocess.run(command, cwd=workshop, env=environment, check=True, timeout=200)
    assert geomatch(*words("one.safetensors"), cwd=workshop).returncode == 0
    for what in ("banks", "code"):
        assert losses("two.safetensors", what) == pytest.approx(losses("one.safetensors", what), rel=1e-5)


def test_train_keypoints_from_coco_and_match(workshop: Path, teapots: Path, keypoint_weights: Path) -> None:
    """Photographs lie in another folder than the file; --preset is no option, for there is one recipe."""
    images = [{"id": n, "file_name": f"cat/{n}.png"} for n in range(3)]
    points = [{"id": n, "image_id": n, "category_id": 1, "keypoints": [20, 20, 2, 60, 50, 2]} for n in range(3)]
    categories = [{"id": 1, "name": "cat", "keypoints": ["nose", "tail"]}]
    document = {"images": images, "annotations": points, "categories": categories}
    (workshop / "points.json").write_text(json.dumps(document))
    places = ("--data", "points.json", "--init", keypoint_weights, "--out", "points.safetensors", "--size", 64)
    settings = ("--steps", 2, "--set", "least_shared=2", "--device", "cpu", "--precision", "float32")
    done = geomatch("train", "keypoints", *places, *settings, cwd=workshop)
    assert (done.returncode, done.stdout) == (2, "")
    assert "none of its photographs is in . (the first is 'cat/0.png'); give their folder with --images" in done.stderr
    photographs = ("--images", "photographs", "--matches", "photographs", "--set", "block=3", "--set", "partners=1")
    sure = [f"--set={each}" for each in ("least_confidence=0", "least_matches=1")]
    done = geomatch("train", "keypoints", *places, *settings, *photographs, *sure, cwd=workshop)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith("geomatch: note: points.safetensors: matching, 1 step, pairs 3")
    assert "training, 2 steps, loss " in done.stderr
    pictures = (teapots / "a.png", teapots / "b.png", "--features", "keypoints", *QUICK, "-o", "pointed")
    matched = geomatch("match", *pictures, "--weights", "points.safetensors", cwd=workshop)
    assert matched.returncode == 0, matched.stderr
    assert json.loads(matched.stdout)["features"] == "keypoints"
    assert (
        "no such option: --preset" in geomatch("train", "keypoints", *places, "--preset", "paper", cwd=workshop).stderr
    )


def test_train_distilled_from_photographs_and_match(workshop: Path, teapots: Path, keypoint_weights: Path) -> None:
    places = ("--data", "photographs", "--init", keypoint_weights, "--out", "distilled.safetensors", "--size", 64)
    settings = ("--steps", 2, "--device", "cpu", "--precision", "float32", "--set", "block=3", "--set", "partners=1")
    sure = [f"--set={each}" for each in ("least_confidence=0", "least_matches=1")]
    done = geomatch("train", "distilled", *places, *settings, *sure, "--matched-by", "hypercolumn:3", cwd=workshop)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "training, 2 steps, loss " in done.stderr
    pictures = (teapots / "a.png", teapots / "b.png", *QUICK, "-o", "of-distilled")
    matched = geomatch("match", *pictures, "--weights", "distilled.safetensors", cwd=workshop)
    assert json.loads(matched.stdout)["features"] == "distilled"
    missing = geomatch("train", "distilled", *places[2:], cwd=workshop)
    assert missing.returncode == 2
    assert "--data" in missing.stderr


def test_photographs_are_matched_by_a_preset_or_by_shipped_features_with_a_closer_look() -> None:
    fast, distilled = (_matcher(Device.cpu, shipped, Path()) for shipped in ("fast", "distilled"))
    assert (fast.preset, fast.zoom) == ("fast", "off")
    assert (distilled.preset, distilled.zoom) == ("default", "on")


LEARNERS = {
    "introspection": INTROSPECTION,
    "anchornet": ANCHORNET,
    "keypoints": KEYPOINTS,
    "distilled": DISTILLED,
    "scnet": SCNET,
}
ALL_RECIPES = {
    "introspection": RECIPES,
    "anchornet": ANCHOR_RECIPES,
    "keypoints": KEYPOINT_RECIPES,
    "distilled": DISTILLED_RECIPES,
    "scnet": SCNET_RECIPES,
}
OLD_OPTIONS = [
    ("introspection", "--trunk", "resnet101"),
    ("introspection", "--stage", "2"),
    ("introspection", "--descriptor-size", "128"),
    ("introspection", "--warm-up", "7"),
    ("introspection", "--average", ".5"),
    ("introspection", "--share-kept", ".6"),
    ("introspection", "--batches", "mixed"),
    ("introspection", "--trunk-rate", "1e-3"),
    ("introspection", "--head-rate", "2e-3"),
    ("introspection", "--keep-similarity", "3"),
    ("anchornet", "--trunk", "timm:resnet18"),
    ("anchornet", "--filters", "99"),
    ("anchornet", "--code-size", "12"),
    ("anchornet", "--mean-share", ".5"),
    ("anchornet", "--tap-size", "32"),
    ("anchornet", "--stride", "16"),
    ("anchornet", "--form", "printed"),
    ("anchornet", "--auxiliary", ".2"),
    ("anchornet", "--filter-diversity", ".3"),
    ("anchornet", "--response-diversity", ".4"),
    ("anchornet", "--code-steps", "11"),
    ("anchornet", "--rate", "2e-3"),
    ("anchornet", "--trunk-rate", "1e-3"),
    ("anchornet", "--held-out", ".1"),
]


@pytest.fixture
def trained_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[object, object]]:
    """The recipe and the optimisation that a command line trains with; nothing is trained."""
    given: list[tuple[object, object]] = []

    def keep(_run: object, recipe: object, optimisation: object, **_: object) -> None:
        given.append((recipe, optimisation))

    monkeypatch.setattr(introspection_train, "train_introspection", keep)
    monkeypatch.setattr(anchornet_train, "train_anchornet", keep)

    def trained_with(learner: str, *options: str) -> tuple[object, object]:
        done = geomatch("train", learner, "--data", "d", "--init", "i", "--out", "o", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return given[-1]

    return trained_with


@pytest.mark.parametrize(("learner", "option", "value"), OLD_OPTIONS)
def test_train_old_option_equals_set(
    learner: str, option: str, value: str, trained_with: Callable[..., tuple[object, object]]
) -> None:
    name = LEARNERS[learner].old_options[option.removeprefix("--").replace("-", "_")]
    with_set = trained_with(learner, "--set", f"{name}={value}")
    assert trained_with(learner, option, value) == with_set
    assert with_set != trained_with(learner)


def test_train_old_options_all_tested() -> None:
    declared = {
        (learner, f"--{option.replace('_', '-')}")
        for learner, settings in LEARNERS.items()
        for option in settings.old_options
    }
    assert declared == {(learner, option) for learner, option, _ in OLD_OPTIONS}


OWN_OPTIONS = {
    "classes",
    "steps",
    "batch_size",
    "batches_per_step",
    "view_size",
    "seed",
    "precision",
    "checkpoint_minutes",
    "stages",
    "epochs",
}
OF_LEARNER = {
    "introspection": {"points", "hardest", "positive_radius", "negative_radius"},
    "distilled": {"left_out", "across", "least_shared"},  # matches have no names
    "scnet": {"descriptor_size", "context", "sigma_floor", "sigma_ceiling"},  # those of the weights that it starts from
}


@pytest.mark.parametrize("learner", LEARNERS)
def test_train_help_lists_every_setting(learner: str) -> None:
    """Those of recipe, its parts and optimisation without an option of their own; names are unique."""
    recipe, optimisation = ALL_RECIPES[learner][Recipe.shipped]
    parts = parts_of(recipe)
    names = [field.name for settings in (recipe, *parts.values(), optimisation) for field in fields(settings)]
    own = OWN_OPTIONS | OF_LEARNER.get(learner, set())
    wanted = [name for name in names if name not in {*parts, *own}]
    assert sorted(LEARNERS[learner].names.split()) == sorted(set(wanted)) == sorted(wanted)
    shown = geomatch("train", learner, "--help", cwd=ROOT).stdout
    assert all(f"{option} " not in shown for _, option, _ in OLD_OPTIONS)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("learning_rate=1", "training introspection has no setting 'learning_rate'"),
        ("points=two", "parameter points of training introspection: 'two' is not a whole number"),
        ("wise_ft_alpha=2", "parameter wise_ft_alpha of training is 2.0: it must be between 0 and 1"),
        ("descriptor_size=0", "parameter descriptor_size of training introspection is 0: it must be at least 1"),
        ("stage", "--set stage: write it as NAME=VALUE"),
    ],
)
def test_train_set_errors(setting: str, said: str, tmp_path: Path) -> None:
    places = ("--data", "d", "--init", "i", "--out", "o")
    done = geomatch("train", "introspection", *places, "--set", setting, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
