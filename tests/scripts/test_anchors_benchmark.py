"""`benchmarks/accuracy/anchors.py`, which measures AnchorNet's banks on photographs with true boxes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.annotations import Box
from geomatch.datasets.image_folder import find_images
from geomatch.datasets.image_list import LabelledImage
from geomatch.geometry.grid import Grid
from tests.conftest import ROOT
from tests.datasets.layouts import png, write_shard

sys.path.insert(0, str(ROOT / "benchmarks" / "accuracy"))
import anchors
from anchors import covered, find_box, mean, measure, take_turns

NOWHERE = Path("nowhere")


def photograph(name: str, *labels: str) -> LabelledImage:
    return LabelledImage(name, NOWHERE, labels)


def test_take_turns_boxed_photographs_first() -> None:
    cats = [photograph(f"cat-{k}", "cat") for k in range(20)]
    dogs = [photograph(f"dog-{k}", "dog") for k in range(3)]
    void = [photograph(f"void-{k}", "background") for k in range(20)]
    true: dict[tuple[str, str], list[Box]] = {(f"cat-{k}", "cat"): [(0, 0, 1, 1)] for k in (3, 7, 11)}
    drawn = [each.name for each in take_turns([*cats, *dogs, *void], true, 12, 0)]
    assert [name.split("-")[0] for name in drawn] == 3 * ["void", "cat", "dog"] + ["void", "cat", "void"]
    assert set(drawn[1:9:3]) == {"cat-3", "cat-7", "cat-11"}


def test_take_turns_once_each_and_by_seed() -> None:
    both = [photograph(f"{k}", "cat", "dog") for k in range(6)]
    names = [[each.name for each in take_turns(both, {}, 9, seed)] for seed in (0, 0, 1)]
    assert sorted(names[0]) == [f"{k}" for k in range(6)]
    assert names[0] == names[1] != names[2]


def test_measure_bank_on_object() -> None:
    """Filters that fire in a box of 56 x 28 of 140 x 140 pixels, on cells of 10; one of them elsewhere."""
    grid, box = Grid.over((140, 140), 14, 14), (41.5, 55.5, 97.5, 83.5)
    bank = torch.full((4, 14, 14), 0.01)
    for channel, (y, x) in enumerate([(6, 5), (7, 8), (6, 8), (0, 0)]):
        bank[channel, y, x] = 1
    bank[:3, 6:8, 5:9] += 0.5
    found = measure(bank, grid, (140, 140), [box, (0, 130, 5, 139)])
    assert found.peaks == 0.75
    assert found.chance == pytest.approx((56 * 28 + 6 * 10) / 140**2)  # edges belong to the box
    assert found.coverage == pytest.approx(3 / 12)  # cells 10 apart, 5.6 are near: the peaks themselves
    assert 0.9 < found.sparsity <= 1
    assert (found.corloc, found.whole) == (1, 0)


def test_find_box_in_pixels() -> None:
    size = (140, 280)
    bank = torch.zeros(2, 14, 14)
    bank[:, 7:, 7:] = 1
    assert find_box(bank, Grid.over(size, 14, 14), size) == pytest.approx((139.5, 69.5, 279.5, 139.5))


def test_covered_overlap_counts_once() -> None:
    assert covered([(-0.5, -0.5, 4.5, 9.5), (0, 0, 4, 9)], (10, 10)) == 0.5


def test_mean_ignores_nan() -> None:
    numbers = np.array([[1, np.nan, np.nan], [3, 5, np.nan]])
    np.testing.assert_array_equal(mean(numbers), [2, 5, np.nan])
    np.testing.assert_array_equal(mean(numbers[:0]), [np.nan] * 3)


def test_main_prints_whole_table(
    anchor_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    pixels = {f"{k}.png": png(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)) for k in range(4)}
    boxes = '[["cat", 10, 10, 60, 50]]'
    labels = {"0.png": ("cat", boxes), "1.png": ("cat", ""), "2.png": ("dog", ""), "3.png": ("background", "")}
    write_shard(tmp_path, labels, pixels)
    assert len(find_images([tmp_path])) == 4
    arguments = ["anchors.py", "--photographs", str(tmp_path), "--weights", str(anchor_weights), "--held-out", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    anchors.main()
    lines = capsys.readouterr().out.splitlines()
    cells = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]] for line in lines if "│" in line
    }
    assert list(cells) == ["cat", "dog", "teapot", "mean"]
    assert cells["cat"][:2] == ["1", "2"]
    assert cells["dog"][:9] == ["0", "1"] + [""] * 7
    assert cells["teapot"] == ["0", "0"] + [""] * 8
    assert cells["mean"][2:9] == cells["cat"][2:9]
    assert float(cells["mean"][9]) == pytest.approx((float(cells["cat"][9]) + float(cells["dog"][9])) / 2, abs=1e-3)
