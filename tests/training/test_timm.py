"""Both learners on a network of timm."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from geomatch.features.backbones.timm import TimmTrunk
from geomatch.features.weights import load_weights
from tests.cli.command import geomatch

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")

COMMON = ("--data", "photographs", "--init", "init.safetensors", "--steps", 1, "--size", 64, "--batch", 2,
          "--device", "cpu", "--precision", "float32")  # fmt: skip


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``init.safetensors`` of a small transformer of timm, and ``photographs`` of one class."""
    folder = tmp_path_factory.mktemp("workshop")
    torch.manual_seed(0)
    save_file(TimmTrunk("test_vit").reader.network.state_dict(), folder / "init.safetensors")
    (folder / "photographs" / "cat").mkdir(parents=True)
    for index in range(3):
        colours = np.random.default_rng(index).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(colours).resize((90, 70), Image.Resampling.BICUBIC)
        picture.save(folder / "photographs" / "cat" / f"{index}.png")
    return folder


def test_introspection_on_a_network_of_timm(workshop: Path, teapots: Path) -> None:
    """It trains, keeps its trunk's name, and its weights extract features with sigma; anchors start from them."""
    trunk = ("--set", "trunk=timm:test_vit,stride:8", "--set", "stages=2,3k", "--descriptor-size", 8)
    done = geomatch(
        "train", "introspection", *COMMON, *trunk, "--set", "teacher_size=65", "--out", "mine.safetensors", cwd=workshop
    )
    assert done.returncode == 0, done.stderr
    weights = load_weights(workshop / "mine.safetensors")
    assert weights.config["trunk"] == "timm:test_vit,stride:8"
    moved = TimmTrunk("test_vit", [2, "3k"])
    moved.load_state_dict({k.removeprefix("trunk."): v for k, v in weights.state.items() if k.startswith("trunk.")})
    done = geomatch(
        "extract", teapots / "a.png", "--weights", "mine.safetensors", "--features", "introspection", cwd=workshop
    )
    assert done.returncode == 0, done.stderr
    with np.load(workshop / "features" / "a.npz") as found:
        assert found["descriptors"].shape[0] == 8
        assert found["inverse_confidence"].shape == found["descriptors"].shape[1:]
    assert json.loads(done.stdout)["weights_sha256"] == weights.sha256


def test_anchornet_on_a_network_of_timm(workshop: Path) -> None:
    own = ("--trunk", "timm:test_vit", "--set", "stages=2,4", "--classes", "cat", "--filters", 3, "--code-size", 2,
           "--tap-size", 4, "--code-steps", 1, "--set", "example_size=65", "--held-out", 0)  # fmt: skip
    done = geomatch("train", "anchornet", *COMMON, *own, "--out", "anchors.safetensors", cwd=workshop)
    assert done.returncode == 0, done.stderr
    assert load_weights(workshop / "anchors.safetensors").config["trunk"] == "timm:test_vit"


def test_learners_without_init_fetch_only_networks_of_timm(workshop: Path) -> None:
    places = ("--data", "photographs", "--classes", "cat", "--out", "x.safetensors")
    for learner, options in (("introspection", ()), ("anchornet", ("--code-size", 8))):
        done = geomatch("train", learner, *places, *options, cwd=workshop)
        assert (done.returncode, done.stdout) == (2, "")
        assert "give the weights to start from, --init FILE" in done.stderr
        assert done.stderr.count("\n") == 1
