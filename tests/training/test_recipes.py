from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.datasets.image_list import BACKGROUND, LabelledImage, with_labels
from geomatch.datasets.pascal_ilsvrc import RIGID_CLASSES, named_classes, synset_classes
from geomatch.errors import InputError
from geomatch.features.backbones.build import load_pretrained
from geomatch.features.backbones.torchvision import import_torchvision_models
from geomatch.features.introspection import IntrospectionNet
from geomatch.features.weights import read_tensors
from geomatch.options import Batches, Recipe
from geomatch.training.introspection.task import IntrospectionTask
from geomatch.training.recipes import RECIPES, SHIPPED, with_settings


def photograph(name: str, *labels: str) -> LabelledImage:
    return LabelledImage(name, Path(name), labels)


def test_paper_recipe_takes_a_step(tmp_path: Path) -> None:
    recipe, _ = RECIPES[Recipe.paper]
    torch.manual_seed(0)
    save_file(import_torchvision_models().resnet50(weights=None).state_dict(), tmp_path / "init.safetensors")
    for label in ("bus", "train"):
        (tmp_path / "data" / label).mkdir(parents=True)
        noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "data" / label / "0.png")
    network = IntrospectionNet(recipe.network)
    load_pretrained(network.trunk, read_tensors(tmp_path / "init.safetensors")[0], "init")
    small = replace(recipe, view_size=64, batch_size=2, points=20, hardest=3, teacher_size=64)
    photographs = find_images([tmp_path / "data"])
    task = IntrospectionTask(small, network, photographs, ImageReader(2, 0), torch.device("cpu"))
    step = task.loss(0, nullcontext())
    step.loss.backward()
    assert set(step.report) == {"likelihood", "sigma"}
    assert network.stride == 16
    phi, sigma = network(torch.zeros(1, 3, 64, 64))
    assert (phi.shape, sigma.shape) == ((1, 2048, 4, 4), (1, 1, 4, 4))
    last = network.trunk.network.layer4[-1].conv2
    assert last.dilation == (2, 2)
    assert last.weight.grad.abs().sum() > 0


def test_paper_recipe_values() -> None:
    recipe, _ = RECIPES[Recipe.paper]
    assert (recipe.network.trunk, recipe.network.descriptor_size) == ("resnet50", 2048)
    assert (recipe.view_size, recipe.points, recipe.hardest) == (224, 700, 30)
    assert (recipe.positive_radius, recipe.negative_radius) == (1, 30)
    assert (recipe.similarity_weight, recipe.batches) == (0, Batches.mixed)
    assert recipe.classes == RIGID_CLASSES
    assert len(RIGID_CLASSES) == 12
    assert set(RIGID_CLASSES) <= set(synset_classes().values())


def test_named_classes() -> None:
    assert named_classes("cat, dog,cat") == ("cat", "dog")
    assert named_classes("rigid,dog,bus") == (*RIGID_CLASSES, "dog")
    assert len(named_classes("voc20")) == 20
    assert named_classes("all") == ()


def test_with_labels_selects_images_and_labels() -> None:
    all_of_them = [
        photograph("a", "cat"),
        photograph("b", "dog", "car"),
        photograph("c", BACKGROUND),
        photograph("d", "car"),
        photograph("e"),
    ]
    assert with_labels(all_of_them, ["car"]) == [photograph("b", "car"), photograph("d", "car")]
    with pytest.raises(InputError, match="no photograph is labelled horse, cow: the labels are car, cat, dog"):
        with_labels(all_of_them, ["horse", "car", "cow"])
    with pytest.raises(InputError, match="no photograph is labelled car: none has a label"):
        with_labels([photograph("e"), photograph("c", BACKGROUND)], ["car"])


def test_with_settings_changes_every_part() -> None:
    texts = {"stages": "2,3", "warps.shear": "0", "tint": ".5", "batches": "mixed", "optimisation.ema_decay": ".9"}
    recipe, optimisation = with_settings(*SHIPPED, texts, steps=7, seed=3, view_size=None)
    assert (recipe.network.stages, recipe.warps.shear, recipe.colours.tint) == (("2", "3"), 0, 0.5)
    assert (recipe.batches, recipe.seed, recipe.view_size) == (Batches.mixed, 3, SHIPPED[0].view_size)
    assert optimisation == replace(SHIPPED[1], ema_decay=0.9, steps=7)


@pytest.mark.parametrize("name", ["unknown", "warps.stages", "network", "shear.warps", ""])
def test_with_settings_unknown_name(name: str) -> None:
    with pytest.raises(InputError, match=f"training introspection has no setting '{name}'"):
        with_settings(*SHIPPED, {name: "1"})
