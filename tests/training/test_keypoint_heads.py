"""Learning heads alone from keypoints: columns kept on disk, heads on principal components, the whole training."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geomatch.datasets.image_folder import ImageReader
from geomatch.errors import InputError
from geomatch.features.introspection import IntrospectionConfig, IntrospectionHeads, IntrospectionNet
from geomatch.features.weights import load_weights
from geomatch.geometry.homography import apply_homography
from geomatch.options import Device, Precision
from geomatch.training.keypoints import columns
from geomatch.training.keypoints.columns import ColumnStore, Projection
from geomatch.training.keypoints.heads import HeadTask, expand_heads, reduced_heads
from geomatch.training.keypoints.train import read_sources, train_keypoints
from geomatch.training.keypoints.views import draw_pair
from geomatch.training.trainer import Optimisation, Progress, TrainingRun
from tests.training.test_keypoints import NAMES, RECIPE, coco, init, interrupting, write_coco

__all__ = ["coco", "init"]

FULL = Path("/dev/full")

HEADS = replace(RECIPE, context=4, column_size=24)
CONFIG = IntrospectionConfig(stages=("1",), descriptor_size=16, context=4)


@pytest.fixture(autouse=True)
def few_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "EXAMPLES", 8)


def small_network() -> IntrospectionNet:
    torch.manual_seed(0)
    network = IntrospectionNet(CONFIG).eval()
    for layer in (network.sigma, network.context[-1]):  # type: ignore[index]
        torch.nn.init.normal_(layer.weight)  # type: ignore[arg-type]
    return network


def store_of(network: IntrospectionNet, folder: Path) -> ColumnStore:
    return ColumnStore(network, HEADS, folder, nullcontext)


@torch.no_grad()
def test_reduced_heads_agree_with_the_network_on_columns_that_they_stand_for() -> None:
    network = small_network()
    channels = network.descriptor.in_channels
    directions = torch.linalg.qr(torch.randn(channels, 24)).Q.mT.contiguous()
    projection = Projection(directions, torch.randn(channels))
    reduced = torch.randn(2, 24, 5, 6)
    whole = torch.einsum("kc,bkhw->bchw", directions, reduced) + projection.mean[:, None, None]
    torch.testing.assert_close(torch.stack([projection(each) for each in whole]), reduced, atol=1e-4, rtol=1e-4)
    heads = reduced_heads(network, projection)
    for found, expected in zip(heads(reduced), network.read(whole), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    other = IntrospectionHeads(24, CONFIG)
    torch.nn.init.normal_(other.sigma.weight)
    expand_heads(other, projection, network)
    anything = torch.randn(2, channels, 5, 6)
    for found, expected in zip(
        network.read(anything), other(torch.stack([projection(each) for each in anything])), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_store_keeps_one_view_of_an_object_and_one_of_its_mirror_image(coco: Path, tmp_path: Path) -> None:
    network, sources = small_network(), read_sources([coco], HEADS)
    pairs = [draw_pair(sources, np.random.default_rng(seed)) for seed in range(6)]
    views = [view for pair in pairs for view in (pair.first, pair.second)]
    kept = []
    for order in (views, views[::-1]):
        with store_of(network, tmp_path) as store:
            store.fit(sources, ImageReader(6, 0))
            assert store.prepare(order) == {}
            kept.append([(store.homography(view), store.columns(view)) for view in views])
            assert not list(tmp_path.iterdir())
    for (one, mine), (other, same) in zip(*kept, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(mine, same)
    for view, (homography, _) in zip(views, kept[0], strict=True):
        sign = torch.linalg.det(homography[:2, :2])
        assert bool(sign < 0) == view.mirrored
        corners = apply_homography(homography, torch.tensor([[32.0, 32.0]], dtype=torch.float64))
        assert (corners > 0).all()


@pytest.mark.skipif(not FULL.exists(), reason="no device here that is always full")
def test_store_on_a_full_disk_says_what_to_do(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, sources = small_network(), read_sources([coco], HEADS)
    with FULL.open("wb", buffering=0) as full, store_of(network, tmp_path) as store:
        store.fit(sources, ImageReader(6, 0))
        monkeypatch.setattr(store, "_file", full)
        with pytest.raises(InputError, match=r"no room beside the weights for 1 views \(No space left on device\)"):
            store.prepare([draw_pair(sources, np.random.default_rng(0)).first])


def test_head_task_batch_independent_of_order(coco: Path, tmp_path: Path) -> None:
    network, sources = small_network(), read_sources([coco], HEADS)
    losses = []
    for order in ((0, 1, 2), (2, 1, 0)):
        with store_of(network, tmp_path) as store:
            store.fit(sources, ImageReader(6, 0))
            task = HeadTask(HEADS, network, sources, ImageReader(6, 0), store)
            losses.append({batch: task.loss(batch, nullcontext()).loss.item() for batch in order})
    assert losses[0] == losses[1]
    assert len(set(losses[0].values())) == 3


def test_head_task_damaged_photograph_is_replaced_and_named(tmp_path: Path) -> None:
    copy = write_coco(tmp_path / "damaged", {"cat": NAMES}, count=5)
    (tmp_path / "damaged" / "2.png").write_bytes(b"no picture")
    network, sources = small_network(), read_sources([copy], HEADS)
    reader = ImageReader(5, 0.2)
    with store_of(network, tmp_path) as store:
        store.fit(sources, reader)
        task = HeadTask(HEADS, network, sources, reader, store)
        assert [task.loss(batch, nullcontext()).images for batch in range(3)] == [4] * 3
        assert reader.unreadable == ["2.png"]
        strict = HeadTask(HEADS, network, sources, ImageReader(5, 0), store)
        with pytest.raises(InputError, match=r"1 of 5 photographs cannot be read.*2\.png"):
            [strict.loss(batch, nullcontext()) for batch in range(5)]


def run(coco: Path, init: Path, out: Path, steps: int = 3, **more: Any) -> list[Progress]:
    reported, on_progress = interrupting(more.pop("interrupt_after", None))
    optimisation = Optimisation(
        steps=steps, warmup_steps=1, trunk_learning_rate=0, head_learning_rate=1e-2, precision=Precision.float32
    )
    training = TrainingRun([coco], [init], out, Device.cpu, **more)
    train_keypoints(training, HEADS, optimisation, on_progress=on_progress)
    return reported


def test_train_heads_leaves_the_trunk_and_resumes_to_same_bytes(coco: Path, init: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    assert [progress.step for progress in run(coco, init, whole)] == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        run(coco, init, parted, interrupt_after=1)
    run(coco, init, parted, resume=True)
    assert parted.read_bytes() == whole.read_bytes()
    before, after = load_weights(init).state, load_weights(whole)
    assert after.config["context"] == 4
    trunk = [name for name in before if name.startswith("trunk.")]
    assert all(torch.equal(before[name], after.state[name]) for name in trunk)
    assert not torch.equal(before["descriptor.weight"], after.state["descriptor.weight"])


def test_train_heads_learns_to_find_dots(coco: Path, init: Path, tmp_path: Path) -> None:
    reports = [progress.report["contrastive"] for progress in run(coco, init, tmp_path / "o.safetensors", steps=40)]
    assert np.mean(reports[-5:]) < np.mean(reports[:5]) - 0.5
