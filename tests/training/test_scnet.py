"""SCNet: which regions correspond, the ranking loss, and the whole training on a small trunk."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geomatch.datasets.image_folder import ImageReader
from geomatch.errors import InputError, WeightsError
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.load import load_features
from geomatch.features.scnet import SCNet, SCNetConfig, SCNetMap, Variant
from geomatch.features.weights import load_weights
from geomatch.geometry.boxes import box_iou, valid_boxes
from geomatch.geometry.thin_plate_spline import ThinPlateSpline
from geomatch.options import Device, Precision
from geomatch.training.keypoints.train import read_sources
from geomatch.training.scnet import task as scnet_task
from geomatch.training.scnet.loss import ranking_loss, true_overlaps
from geomatch.training.scnet.recipe import SCNetRecipe
from geomatch.training.scnet.task import SCNetTask
from geomatch.training.scnet.train import initial_network, train_scnet
from geomatch.training.trainer import Optimisation, Progress, TrainingRun
from tests.matching.box_problems import random_boxes
from tests.training.test_keypoints import NAMES, coco, edited, init, interrupting, write_coco

__all__ = ["coco", "init"]  # fixtures

RECIPE = SCNetRecipe(
    network=SCNetConfig(bins=2, embedding_size=8), view_size=65, least_shared=3, boxes=150, positive_overlap=0.4
)


def slow_loss(z: np.ndarray, overlap: np.ndarray, positive: float, negative: float) -> float:
    """Region by region, as in vl_nnpfloss.m: its matches, and as many of the highest scores among its mismatches."""
    total, matches = 0.0, 0
    for scores, ious in zip(z, overlap, strict=True):
        own = [j for j in range(len(scores)) if ious[j] > positive]
        others = sorted((j for j in range(len(scores)) if ious[j] <= negative), key=lambda j: -scores[j])
        total += sum(max(0.0, 1 - scores[j]) for j in own) + sum(max(0.0, 1 + scores[j]) for j in others[: len(own)])
        matches += len(own)
    return total / (2 * matches)


@pytest.mark.parametrize("seed", range(3))
def test_ranking_loss_matches_loops(seed: int) -> None:
    """Scores beyond the margin, as votes give them; fewer mismatches than matches in some rows."""
    random = np.random.default_rng(seed)
    z, overlap = random.uniform(-0.2, 1.5, (6, 9)), random.uniform(0, 1, (6, 9))
    overlap[0], overlap[1, :8] = 0.5, 0.9
    found = ranking_loss(torch.from_numpy(z), torch.from_numpy(overlap), 0.6, 0.4)
    assert float(found) == pytest.approx(slow_loss(z, overlap, 0.6, 0.4), abs=1e-12)


def test_ranking_loss_gradient_is_of_matches_and_hardest_mismatches() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.3, 0.9]], requires_grad=True)
    ranking_loss(scores, torch.tensor([[0.7, 0.1, 0.5, 0.0]]), 0.6, 0.4).backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [[-0.5, 0.5, 0, 0]]


def test_ranking_loss_without_matches_is_zero() -> None:
    scores = torch.ones(2, 3, requires_grad=True)
    loss = ranking_loss(scores, torch.zeros(2, 3), 0.6, 0.4)
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()
    assert float(ranking_loss(torch.zeros(0, 3), torch.zeros(0, 3), 0.6, 0.4)) == 0


def test_true_overlaps_equal_a_slow_loop() -> None:
    """Proposal Flow's truth: corners through the spline, the means of the two smallest and largest coordinates."""
    size = (100, 100)
    a, b = random_boxes(30, size, 0).astype(np.float64), random_boxes(20, size, 1).astype(np.float64)
    random = np.random.default_rng(0)
    here, there = random.uniform(10, 80, (6, 2)), random.uniform(0, 99, (6, 2))
    on_object, overlaps = true_overlaps(a, b, (here, there), 100)
    spline = ThinPlateSpline.fit(here, there)
    extent = (*here.min(axis=0), *here.max(axis=0))
    expected = [k for k in range(30) if valid_boxes(a[k : k + 1], extent, here)[0]]
    assert 3 < len(expected) < 30
    assert on_object.tolist() == expected
    for row, k in zip(overlaps, expected, strict=True):
        left, top, right, bottom = a[k]
        moved = spline(np.array([(left, top), (right, top), (right, bottom), (left, bottom)])).clip(-0.5, 99.5)
        x, y = np.sort(moved[:, 0]), np.sort(moved[:, 1])
        truth = np.array([[x[:2].mean(), y[:2].mean(), x[2:].mean(), y[2:].mean()]])
        assert row.tolist() == pytest.approx([float(box_iou(truth, other[None])[0]) for other in b])


def run(data: Path, init: Path, out: Path, recipe: SCNetRecipe = RECIPE, steps: int = 2, **more: Any) -> list[Progress]:
    reported, on_progress = interrupting(more.pop("interrupt_after", None))
    optimisation = Optimisation(
        steps=steps, warmup_steps=1, trunk_learning_rate=0, head_learning_rate=3e-3, precision=Precision.float32
    )
    training = TrainingRun([data], [init], out, Device.cpu, **more)
    train_scnet(training, recipe, optimisation, on_progress=partial(on_progress, "training"))
    return reported


def test_train_scnet_learns_embeddings_alone_and_resumes_to_same_bytes(coco: Path, init: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    assert [progress.step for progress in run(coco, init, whole)] == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        run(coco, init, parted, interrupt_after=1)
    assert not parted.exists()
    run(coco, init, parted, resume=True)
    assert parted.read_bytes() == whole.read_bytes()

    before, after = load_weights(init).state, load_weights(whole)
    assert all(torch.equal(after.state[name], tensor) for name, tensor in before.items())
    assert {name for name in after.state if name not in before} == {"appearance.weight", "appearance.bias"}
    assert (after.feature, after.config["bins"], after.config["variant"]) == ("scnet", 2, "a")
    features = load_features("scnet", working_size=64, device=torch.device("cpu"), weights=whole)
    assert isinstance(features(torch.zeros(3, 60, 64, dtype=torch.uint8)), SCNetMap)


def test_train_scnet_ag_plus_goes_on_from_scnet_a(coco: Path, init: Path, tmp_path: Path) -> None:
    """The second embedding starts as a copy of the first, which is fixed; bins and size are those of the weights."""
    first, second = tmp_path / "a.safetensors", tmp_path / "ag+.safetensors"
    run(coco, init, first, steps=1)
    recipe = replace(RECIPE, network=SCNetConfig(bins=3, variant=Variant.ag_plus))
    start = initial_network([first], recipe)
    assert start.geometry is not None
    assert torch.equal(start.geometry.weight, start.appearance.weight)
    run(coco, first, second, recipe, steps=1)
    earlier, later = load_weights(first), load_weights(second)
    assert later.config == {**earlier.config, "variant": "ag+"}
    assert torch.equal(later.state["appearance.weight"], earlier.state["appearance.weight"])
    assert not torch.equal(later.state["geometry.weight"], earlier.state["appearance.weight"])
    again = initial_network([second], recipe)
    assert again.geometry is not None
    assert torch.equal(again.geometry.weight, later.state["geometry.weight"])


def make_task(data: Path, recipe: SCNetRecipe, *, tuned: bool = False) -> SCNetTask:
    torch.manual_seed(0)
    network = SCNet(replace(recipe.network, stages=("1",), descriptor_size=16))
    reader = ImageReader(6, 0)
    return SCNetTask(recipe, network, read_sources([data], recipe), reader, torch.device("cpu"), tuned=tuned)


@pytest.mark.parametrize("variant", Variant)
def test_scnet_task_learns_to_rank_the_regions_of_a_batch(variant: Variant, coco: Path) -> None:
    """Only the layer that the variant trains changes, and the loss of one batch falls."""
    task = make_task(coco, replace(RECIPE, network=replace(RECIPE.network, variant=variant)))
    trained = {name: each for name, each in task.network.named_parameters() if each.requires_grad}
    layer = "geometry" if variant is Variant.ag_plus else "appearance"
    assert list(trained) == [f"{layer}.weight"]
    optimiser = torch.optim.Adam(trained.values(), lr=1e-3)
    with task.upcoming:
        task.centre(nullcontext())
        batch = next(number for number in range(20) if task.loss(number, nullcontext()).report["matches"] > 2)
        losses = []
        for _ in range(20):
            loss = task.loss(batch, nullcontext()).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.01


def test_scnet_task_centre_embeds_the_mean_region_at_the_origin(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scnet_task, "START_BATCHES", 2)
    task = make_task(coco, RECIPE)
    with task.upcoming:
        task.centre(nullcontext())
        regions = [torch.cat(task._pool(batch, task.load(batch), nullcontext())[1]) for batch in range(2)]
    for _ in range(2):
        embedded = task.network.appearance(torch.cat(regions))
        assert embedded.mean(dim=0).abs().max() < 1e-5 < embedded.abs().mean()
        torch.nn.init.normal_(task.network.appearance.weight, std=0.02)  # as a step changes it
        task.constrain()


def test_scnet_task_tunes_what_it_pools_if_asked(coco: Path) -> None:
    task = make_task(coco, RECIPE, tuned=True)
    with task.upcoming:
        task.loss(0, nullcontext()).loss.backward()
    assert task.network.descriptor.weight.grad is not None
    assert task.network.descriptor.weight.grad.any()


def test_scnet_without_matches_gives_up(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scnet_task, "PATIENCE", 2)
    task = make_task(coco, replace(RECIPE, positive_overlap=1.0))
    with task.upcoming:
        assert task.loss(0, nullcontext()).loss.item() == 0
        with pytest.raises(InputError, match=r"in 2 batches in a row no box overlaps .* by more than 1: lower --set"):
            task.loss(1, nullcontext())


def test_train_scnet_refuses_bad_data_and_weights(
    coco: Path, init: Path, anchor_weights: Path, keypoint_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(InputError, match="no two objects on different photographs share 3 names"):
        run(write_coco(tmp_path / "one", {"cat": NAMES}, count=1), init, out)
    with pytest.raises(InputError, match="has no object with keypoints"):
        run(edited(coco, tmp_path, keypoints=[0] * 12), init, out)
    with pytest.raises(InputError, match="weights of 'anchornet'; training scnet starts from introspection, keypoints"):
        run(coco, anchor_weights, out)
    with pytest.raises(WeightsError, match="weights of 'keypoints', not of scnet"):
        load_features("scnet", working_size=64, device=torch.device("cpu"), weights=keypoint_weights)
    assert not out.exists()


def test_initial_network_on_a_trunk_pools_its_stages(tmp_path: Path) -> None:
    """Published weights of a trunk: phi is the stage itself, of unit length, as many numbers as it has channels."""
    from safetensors.torch import save_file

    from tests.features.test_resnet import published_resnet50v2_state

    path = tmp_path / "trunk.safetensors"
    save_file(published_resnet50v2_state(), path)
    recipe = replace(RECIPE, network=SCNetConfig(trunk="resnet50v2", stages=("1",), bins=1, embedding_size=4))
    network = initial_network([path], recipe)
    network.eval()
    assert network.config.descriptor_size == 256
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    stage = network.trunk(image, (1,))[1]
    torch.testing.assert_close(network(image)[0], torch.nn.functional.normalize(stage, dim=1))


def test_train_scnet_from_two_photographs(init: Path, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "two", {"cat": NAMES}, count=2)
    assert len(run(data, init, tmp_path / "out.safetensors", steps=1)) == 1


def test_scnet_config_refuses_impossible_sizes() -> None:
    for settings in ({"bins": 0}, {"embedding_size": 0}):
        with pytest.raises(InputError, match="at least one bin, and an embedding of at least one number"):
            SCNetConfig(**settings)  # type: ignore[arg-type]
    assert issubclass(SCNet, IntrospectionNet)
    assert issubclass(SCNetConfig, IntrospectionConfig)
