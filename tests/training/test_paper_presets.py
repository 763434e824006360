"""The presets ``paper`` of both learners, from a folder shaped as ILSVRC to weights."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.datasets.pascal_ilsvrc import RIGID_CLASSES, VOC_CLASSES, synset_classes
from geomatch.features.anchornet import AnchorConfig, AnchorFeatures, AnchorNet
from geomatch.features.backbones.torchvision import import_torchvision_models
from geomatch.features.introspection import IntrospectionFeatures
from geomatch.features.load import load_features
from geomatch.features.weights import load_weights
from geomatch.options import Discriminability, Recipe
from geomatch.training.letterbox import draw_letterboxes
from geomatch.training.recipes import ANCHOR_RECIPES
from geomatch.training.trainer import Optimisation
from tests.cli.command import geomatch

CPU = torch.device("cpu")
FEW = ("--size", 64, "--batch", 2, "--device", "cpu", "--precision", "float32", "--max-unreadable", 0)


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train``, one photograph of a synset of each of VOC's classes and one of the background; ``resnet50.pth``."""
    folder = tmp_path_factory.mktemp("ilsvrc")
    first = {name: synset for synset, name in reversed(synset_classes().items())}
    for number, synset in enumerate([*first.values(), "n01440764"]):
        (folder / "train" / synset).mkdir(parents=True)
        colours = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(colours).resize((80, 66), Image.Resampling.BICUBIC)
        picture.save(folder / "train" / synset / f"{synset}_1.JPEG")
    torch.manual_seed(0)
    torch.save(import_torchvision_models().resnet50(weights=None).state_dict(), folder / "resnet50.pth")
    return folder


def train(learner: str, folder: Path, out: str, *options: object) -> list[dict[str, float]]:
    """Train a paper preset and return the lines of its log, for anchornet of both parts."""
    places = ("--data", "train", "--init", "resnet50.pth", "--out", out)
    done = geomatch("train", learner, "--preset", "paper", *places, *FEW, *options, cwd=folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    logs = sorted(folder.glob(f"{out}.*log.jsonl"))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def anchors(ilsvrc: Path) -> tuple[Path, list[dict[str, float]]]:
    settings = ("--set", "filters=13", "--set", "code_steps=2", "--set", "example_size=64")
    rates = ("--set", "head_learning_rate=.3", "--set", "warmup_steps=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geomatch.training.anchornet.train.FEW", 1)
        lines = train("anchornet", ilsvrc, "anchors.safetensors", *settings, *rates, "--steps", 4)
    return ilsvrc / "anchors.safetensors", lines


def test_paper_anchors_are_finite_at_any_learning_rate(anchors: tuple[Path, list[dict[str, float]]]) -> None:
    """Filters start at a norm of 1.7, and steps of .3 would make them hundreds of times longer."""
    out, lines = anchors
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 0, 1]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    norms = load_weights(out).state["banks.weight"].flatten(1).norm(dim=1)
    assert float(norms.max()) <= ANCHOR_RECIPES[Recipe.paper][0].max_filter_norm + 2e-3  # kept in float16
    assert float(norms.max()) > 1.9


def test_paper_anchors_have_the_papers_network(anchors: tuple[Path, list[dict[str, float]]], ilsvrc: Path) -> None:
    config = load_weights(anchors[0]).config
    paper = AnchorConfig(VOC_CLASSES, "resnet50", ("1", "3", "4"), 256, 4, 13, 256, 1.0, False, False)
    assert {name: tuple(v) if isinstance(v, list) else v for name, v in config.items()} == vars(paper)
    network = AnchorNet(paper)
    taps = network.trunk(torch.zeros(1, 3, 224, 224), [1, 3, 4])
    assert {stage: tuple(tap.shape) for stage, tap in taps.items()} == {
        1: (1, 256, 56, 56),
        3: (1, 1024, 14, 14),
        4: (1, 2048, 7, 7),
    }
    activations = network.activations(taps, torch.zeros(1, 3, 224, 224))
    assert activations.shape == (1, 20 * 13, 56, 56)
    assert network.encode(F.softplus(activations)).shape == (1, 256, 56, 56)
    started = torch.load(ilsvrc / "resnet50.pth", weights_only=True)["conv1.weight"].half().float()
    assert torch.equal(load_weights(anchors[0]).state["trunk.network.conv1.weight"], started)


def test_paper_anchors_centre_responses_and_not_descriptors(
    anchors: tuple[Path, list[dict[str, float]]], ilsvrc: Path
) -> None:
    """Responses less mu have a mean of 0 over the photographs, and a descriptor is F^S (Gamma - mu), of unit length."""
    features = load_features("anchornet", working_size=64, device=CPU, weights=anchors[0])
    assert isinstance(features, AnchorFeatures)
    network = features.network
    photographs = find_images([ilsvrc / "train"])
    examples = draw_letterboxes(photographs, ImageReader(21, 0), 64, 21, 0, CPU)
    with torch.no_grad():
        seen = [F.softplus(network(each.image))[:, :, each.cells(4)[1].reshape(16, 16)] for each in examples]
    raw = torch.cat(seen, dim=2)[0]
    centred = torch.cat([network.centred(each[..., None])[..., 0] for each in seen], dim=2)[0]
    assert float(centred.mean(dim=1).abs().max()) < 0.01 * float(raw.mean())
    image = photographs[3].load()
    responses = features.respond(image).maps
    filters = network.encoder.weight[:, :, 0, 0]
    code = torch.einsum("lr,rhw->lhw", filters, responses - network.mean_response[:, None, None])
    torch.testing.assert_close(features(image).descriptors, F.normalize(code, dim=0), rtol=1e-3, atol=1e-4)


def test_paper_introspection_is_finite_and_has_the_papers_network(ilsvrc: Path) -> None:
    options = ("--points", 50, "--hardest", 5, "--positive-radius", 2, "--negative-radius", 12, "--epochs", 0.5)
    lines = train("introspection", ilsvrc, "phi.safetensors", *options, "--set", "warmup_steps=1")
    assert [line["step"] for line in lines] == [0, 1, 2]  # half of the 12 rigid photographs, two a step
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert len(RIGID_CLASSES) == 12
    features = load_features("introspection", working_size=64, device=CPU, weights=ilsvrc / "phi.safetensors")
    found = features(find_images([ilsvrc / "train"])[0].load())
    assert found.descriptors.shape[0] == 2048
    torch.testing.assert_close(found.descriptors.norm(dim=0), torch.ones(found.grid.shape))
    assert found.inverse_confidence is not None
    assert bool(torch.isfinite(found.inverse_confidence).all())
    (scaled,) = [features] if isinstance(features, IntrospectionFeatures) else features.inner  # type: ignore[attr-defined]
    phi, _ = scaled.network(torch.zeros(1, 3, 224, 224))
    assert phi.shape == (1, 2048, 14, 14)


def test_untrained_hypercolumn_of_the_initial_trunk(ilsvrc: Path) -> None:
    """The papers' baseline HC: three stages of the published trunk, each with the same weight, at the finest cells."""
    weights = ilsvrc / "resnet50.pth"
    found = load_features("hypercolumn:1+3+4", working_size=64, device=CPU, weights=weights)(
        find_images([ilsvrc / "train"])[0].load()
    )
    assert found.descriptors.shape[0] == 256 + 1024 + 2048
    assert found.grid.shape == (14, 16)  # 53 x 64 pixels, a cell every 4
    parts = found.descriptors.split([256, 1024, 2048])
    for part in parts:
        torch.testing.assert_close(part.norm(dim=0), torch.full(found.grid.shape, 3**-0.5))


def test_paper_recipe_of_anchors() -> None:
    recipe, optimisation = ANCHOR_RECIPES[Recipe.paper]
    network = recipe.network
    assert (network.classes, network.filters, network.code_size, network.tap_size) == (VOC_CLASSES, 200, 256, 256)
    assert (network.mean_share, network.dilated, network.centre_descriptors) == (1, False, False)
    assert (recipe.discriminability, recipe.dropout) == (Discriminability.printed, 0.25)
    assert (optimisation.trunk_learning_rate, optimisation.epochs > 0) == (0, True)


def test_epochs_to_steps() -> None:
    assert Optimisation(epochs=2.0).for_photographs(101, 4).steps == 51
    assert Optimisation(epochs=2.0, batches_per_step=3).for_photographs(101, 4).steps == 17
    assert Optimisation(epochs=0.001).for_photographs(101, 4).steps == 1
    assert Optimisation(steps=7).for_photographs(101, 4).steps == 7


def test_steps_and_epochs_exclude_each_other(tmp_path: Path) -> None:
    places = ("--data", "d", "--init", "i", "--out", "o.safetensors")
    for learner in ("anchornet", "introspection"):
        done = geomatch("train", learner, *places, "--steps", 3, "--epochs", 2, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "--steps and --epochs both say how long to train" in done.stderr
        for epochs in (-1, 0, "nan", "inf", "x"):
            done = geomatch("train", learner, *places, "--epochs", epochs, cwd=tmp_path)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert "epochs" in done.stderr


@pytest.mark.parametrize("stages", ["5", "1,,3", "x", ""])
def test_train_stages_that_cannot_be(stages: str, ilsvrc: Path) -> None:
    places = ("--data", "train", "--init", "resnet50.pth", "--out", "other.safetensors")
    for learner in ("anchornet", "introspection"):
        done = geomatch("train", learner, "--preset", "paper", *places, *FEW, "--stages", stages, cwd=ilsvrc)
        assert (done.returncode, done.stderr.count("geomatch: error: ")) == (2, 1), done.stderr
        assert "stage" in done.stderr.splitlines()[-1]
    assert not list(ilsvrc.glob("other*"))
