"""`benchmarks/speed/launches.py` and its stand-in for a GPU; what matching asks of a device that is not the CPU."""

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from geomatch.geometry.grid import Grid
from geomatch.matching.affine_consistency.affine import AffineConsistency
from geomatch.matching.base import MatchContext
from geomatch.matching.densify import Densification, densify
from geomatch.matching.similarity import best_partners
from tests.conftest import ROOT, random_features

sys.path.insert(0, str(ROOT / "benchmarks" / "speed"))
from launches import Counted, rows
from stand_in_device import DEVICE, StandIn


@pytest.fixture
def device() -> Iterator[StandIn]:
    with StandIn() as entered:
        yield entered


def test_stand_in_computes_as_the_cpu_does(device: StandIn) -> None:
    values = torch.arange(6.0).reshape(2, 3)
    weight = torch.tensor([1.0, 2.0, 3.0], device=DEVICE).requires_grad_()
    there = values.to(DEVICE)
    there[0] += 1
    (there @ weight).square().sum().backward()
    assert there.device == DEVICE
    assert torch.equal(there.cpu(), torch.tensor([[1.0, 2, 3], [3, 4, 5]]))
    assert weight.grad is not None
    assert weight.grad.cpu().tolist() == [2 * (14 * 1 + 26 * 3), 2 * (14 * 2 + 26 * 4), 2 * (14 * 3 + 26 * 5)]
    assert device.launches["backward"] > 0


def test_stand_in_counts_launches_but_not_views(device: StandIn) -> None:
    values = torch.ones(4, 3).to(DEVICE)
    device.reset()
    values.mT.reshape(2, 6)[0].unsqueeze(0)
    before = device.launches.total()
    _ = values * 2 + 1
    torch.empty(3, device=DEVICE)
    assert device.launches.total() - before == 2
    assert not device.waits


def test_stand_in_counts_waits(device: StandIn) -> None:
    values = torch.arange(4.0).to(DEVICE)
    for wait in (
        values.sum().item,
        lambda: bool(values.any()),
        values.tolist,
        values.cpu,
        values.nonzero,
        lambda: values[values > 1],
        lambda: values.new_tensor((1.0, 2.0)),
        lambda: torch.ones(3).to(DEVICE),
        lambda: torch.tensor([1.0], device=DEVICE),
    ):
        device.reset()
        wait()
        assert device.waits.total() == 1, device.waits
    device.reset()
    torch.ones(3).to(DEVICE, non_blocking=True)
    values.masked_fill(values > 1, 0)
    values[torch.tensor([1, 2], device=DEVICE)]
    assert device.waits.total() == 1  # of making the indices


@pytest.mark.usefixtures("device")
def test_stand_in_refuses_tensors_of_two_devices() -> None:
    with pytest.raises(RuntimeError, match="same device"):
        _ = torch.ones(3).to(DEVICE) + torch.ones(3)


def test_best_partners_are_the_first_maxima_on_a_device_too(device: StandIn) -> None:
    scores = np.random.default_rng(0).integers(-2, 2, (23, 17)).astype(np.float32)
    whole = torch.from_numpy(scores).to(DEVICE)
    for max_bytes in (12 * 17 * 5, 1 << 20):
        device.reset()
        found = best_partners(lambda start, stop: whole[start:stop], (23, 17), max_bytes, DEVICE)
        assert not device.waits
        assert found.forward.cpu().tolist() == scores.argmax(axis=1).tolist()
        assert found.backward.cpu().tolist() == scores.argmax(axis=0).tolist()


def test_matching_waits_once_and_finds_what_the_cpu_finds(device: StandIn) -> None:
    """Once: for which pixels lie between different matches. Everything else goes on without the process."""
    pair = [random_features(9, 11, seed=1), random_features(10, 8, seed=2)]
    flows = []
    for place in (torch.device("cpu"), DEVICE):
        source, target = (replace(each, descriptors=each.descriptors.to(place)) for each in pair)
        device.reset()
        context = MatchContext(source, target)
        found = densify(context, *AffineConsistency()(context), Densification())
        flows.append((found.flow.cpu(), found.confidence.cpu(), found.valid.cpu()))
    waits = {module: times for module, times in device.waits.items() if module[0].startswith(("matching", "geometry"))}
    assert waits == {("matching/densify.py", "nonzero"): 1}
    for there, here in zip(*flows, strict=True):
        torch.testing.assert_close(there, here)


def test_grid_positions_are_computed_without_waiting(device: StandIn) -> None:
    grid = Grid.over((31, 45), 4, 5)
    centres = grid.centres(DEVICE)
    numbers = grid.nearest(centres)
    assert not device.waits
    assert numbers.cpu().tolist() == list(range(20))


def test_rows_by_module_name_what_was_waited_for(device: StandIn) -> None:
    torch.ones(2, device=DEVICE).sum().item()
    (whole,) = rows("work", Counted.of(device), by_module=False)
    parts = list(rows("work", Counted.of(device), by_module=True))
    assert whole == {"work": "work", "launches": 2, "waits": 1}
    assert sum(part["launches"] for part in parts) == 2
    assert [part["for"] for part in parts if part["waits"]] == ["_local_scalar_dense 1"]
