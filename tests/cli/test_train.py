"""`geomatch train` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from geomatch.features.weights import load_weights
from tests.cli.test_match import geomatch
from tests.features.test_resnet import published_resnet50v2_state

SMALL = ("--stage", 1, "--descriptor-size", 8, "--size", 64, "--batch", 2, "--device", "cpu", "--precision", "fp32")


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
    return folder


def test_weights_trained_at_the_command_line_match_pictures(workshop: Path, teapots: Path) -> None:
    places = ("--data", "photographs", "--init", "init.safetensors", "--out", "mine.safetensors")
    done = geomatch("train", "introspection", *places, *SMALL, "--steps", 2, cwd=workshop)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert load_weights(workshop / "mine.safetensors").config["descriptor_size"] == 8
    assert len((workshop / "mine.safetensors.log.jsonl").read_text().splitlines()) == 2
    pictures = (teapots / "a.png", teapots / "b.png")
    matched = geomatch("match", *pictures, "--weights", "mine.safetensors", "--preset", "fast", cwd=workshop)
    assert matched.returncode == 0, matched.stderr
    assert json.loads(matched.stdout)["weights_sha256"] == load_weights(workshop / "mine.safetensors").sha256


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"--data": "nowhere"}, ["nowhere", "no such"]),
        ({"--init": "photographs/cat/0.png"}, ["0.png", "no safetensors file"]),
        ({"--init": "none.safetensors"}, ["none.safetensors", "no such"]),
        ({"--out": "no/such/folder.safetensors"}, ["no/such", "make it first"]),
        ({"--trunk": "vgg16"}, ["vgg16", "resnet50v2"]),
        ({"--trunk": "resnet50"}, ["init.safetensors", "does not fit the trunk"]),
        ({"--stage": "4"}, ["no stage 4"]),
        ({"--batch": "9"}, ["9 photographs", "--batches mixed"]),
        ({"--val": "spair-71k"}, ["--val spair-71k", "NAME=DIR"]),
        ({"--val": "spair-71k=nowhere"}, ["nowhere"]),
        ({"--val": "nothing=photographs"}, ["nothing", "pf-pascal"]),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(changes: dict[str, str], said: list[str], workshop: Path) -> None:
    options = {"--data": "photographs", "--init": "init.safetensors", "--out": "other.safetensors", "--steps": "1"}
    options |= dict(zip(SMALL[::2], map(str, SMALL[1::2]), strict=True)) | changes
    done = geomatch("train", "introspection", *(word for pair in options.items() for word in pair), cwd=workshop)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    for text in said:
        assert text in done.stderr
    assert not list(workshop.glob("other*"))


def test_with_validation_the_output_holds_the_weights_of_the_best_score(workshop: Path, willow: Path) -> None:
    places = ("--data", "photographs", "--init", "init.safetensors", "--out", "best.safetensors")
    options = ("--steps", 3, "--val", f"pf-willow={willow}", "--val-every", 2)
    done = geomatch("train", "introspection", *places, *SMALL, *options, cwd=workshop)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (workshop / "best.safetensors.log.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["validation"] for line in log if "validation" in line}
    assert list(scores) == [2, 3]
    weights = ("--weights", "best.safetensors", "--matcher", "nn", "--device", "cpu")
    again = geomatch("eval", "--dataset", "pf-willow", "--root", willow, *weights, "--json", cwd=workshop)
    assert again.returncode == 0, again.stderr
    results = json.loads(again.stdout)["results"]
    # The file holds half precision.
    best = max(scores.values())
    assert next(r["pck"] for r in results if r["alpha"] == 0.1) == pytest.approx(best, abs=0.1)
