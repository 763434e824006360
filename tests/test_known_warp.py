"""The shipped weights and the whole road, on pictures warped by known homographies between odd sizes."""

import sys
from pathlib import Path

import pytest
import torch

from geomatch.io.images import load_image
from geomatch.pipeline import Pipeline
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from warps import SIZES, endpoint_errors, known_warp


def median_in_cells(pictures: list[Path]) -> float:
    pipeline = Pipeline.build()
    shares = []
    for number, path in enumerate(pictures):
        warp = known_warp(load_image(path), SIZES[number % len(SIZES)], seed=number)
        errors, _, cell = endpoint_errors(pipeline, *warp)
        shares.append(errors / cell)
    return float(torch.cat(shares).median())


def test_rendered_pictures_are_found_to_half_a_cell(teapots: Path) -> None:
    assert median_in_cells([teapots / "a.png", teapots / "b.png", teapots / "a.png"]) < 0.5


@pytest.mark.realdata
def test_photographs_are_found_to_half_a_cell(real_data: Path) -> None:
    assert median_in_cells(sorted((real_data / "PF-dataset").rglob("*.png"))[::9]) < 0.5
