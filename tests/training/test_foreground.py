"""The classifier of objects and surroundings: against the gradient of its loss, and on cells that can be separated."""

from pathlib import Path

import torch
import torch.nn.functional as F

from geomatch.datasets.crops import Crop
from geomatch.datasets.image_list import LabelledImage
from geomatch.features.weights import load_network
from geomatch.features.zoom import Foreground, ForegroundConfig
from geomatch.training.objects.crops import CELLS, CellDescriptors, coverage
from geomatch.training.objects.foreground import first_of_each_label, fit_foreground, save_foreground

SIDE = 140  # of a photograph: cells of 10 pixels


def photographs(count: int, label: str = "cat") -> list[LabelledImage]:
    return [LabelledImage(f"{label}{number}.png", Path("nowhere"), (label,)) for number in range(count)]


def cells_of(descriptors: torch.Tensor) -> CellDescriptors:
    return CellDescriptors(photographs(len(descriptors)), [(SIDE, SIDE)] * len(descriptors), descriptors)


def crop(number: int, left: float, top: float, right: float, bottom: float) -> Crop:
    return Crop(f"cat{number}.png", "cat", (left - 0.5, top - 0.5, right - 0.5, bottom - 0.5), 1.0)


def test_coverage_is_the_share_of_cells_in_any_box() -> None:
    cells = cells_of(torch.zeros(2, 3, CELLS, CELLS))
    found = coverage(cells, [crop(0, 0, 0, 25, 20), crop(0, 20, 0, 30, 10)])
    expected = torch.zeros(2, CELLS, CELLS)
    expected[0, :2, :2] = 1
    expected[0, 0, 2] = 1
    expected[0, 1, 2] = 0.5
    torch.testing.assert_close(found, expected)


def test_fit_foreground_is_where_the_loss_is_flat() -> None:
    generator = torch.Generator().manual_seed(0)
    descriptors = F.normalize(torch.randn(6, 5, CELLS, CELLS, generator=generator), dim=1)
    cells = cells_of(descriptors)
    crops = [crop(number, 20, 30, 90, 110) for number in range(6)]
    made = fit_foreground(cells, crops, "a" * 64)
    targets = coverage(cells, crops)
    loss = (
        F.binary_cross_entropy_with_logits(made(descriptors)[:, 0], targets)
        + 1e-4 / 2 * made.score.weight.square().sum()
    )
    loss.backward()
    assert made.score.weight.grad is not None
    assert float(made.score.weight.grad.abs().max()) < 1e-5
    assert float(made.score.bias.grad.abs().max()) < 1e-5


def test_fit_foreground_finds_what_objects_have_in_common() -> None:
    descriptors = torch.zeros(4, 3, CELLS, CELLS)
    descriptors[:, 0] = 1
    for number in range(4):
        descriptors[number, :, 2:8, 3 + number : 9 + number] = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    crops = [crop(number, 30 + 10 * number, 20, 90 + 10 * number, 80) for number in range(4)]
    made = fit_foreground(cells_of(descriptors), crops, "a" * 64)
    odds = made(torch.eye(3)[:, :, None, None])[:, 0, 0, 0]
    assert odds[1] > 2 > -2 > odds[0]


def test_saved_foreground_is_read_back(tmp_path: Path) -> None:
    made = Foreground(ForegroundConfig(8, "b" * 64))
    save_foreground(tmp_path / "foreground.safetensors", made)
    read, _ = load_network(
        tmp_path / "foreground.safetensors", "foreground", ForegroundConfig, Foreground, torch.device("cpu")
    )
    assert read.config == made.config
    torch.testing.assert_close(read.score.weight, made.score.weight, atol=1e-3, rtol=1e-3)


def test_first_of_each_label_keeps_the_order() -> None:
    cats, dogs = photographs(3), photographs(2, "dog")
    both = LabelledImage("both.png", Path("nowhere"), ("cat", "dog"))
    chosen = first_of_each_label([both, dogs[0], *cats, dogs[1]], 2)
    assert [each.name for each in chosen] == ["both.png", "dog0.png", "cat0.png"]
