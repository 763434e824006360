"""The shipped weights and the default matcher, on pictures warped by known homographies between odd sizes."""

import sys
from pathlib import Path

import pytest
import torch

from geomatch.io.images import load_image
from geomatch.pipeline import Pipeline
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "accuracy"))
from warps import SIZES, endpoint_errors, known_warp


def median_in_cells(pictures: list[Path], features: str) -> float:
    pipeline = Pipeline(features=features)
    shares = []
    for number, path in enumerate(pictures):
        warp = known_warp(load_image(path), SIZES[number % len(SIZES)], seed=number)
        errors, _, cell = endpoint_errors(pipeline, *warp)
        shares.append(errors / cell)
    return float(torch.cat(shares).median())


# Cells of the combined features are half as large.
TOLERATED = pytest.mark.parametrize(("features", "cells"), [("introspection", 0.5), ("combined", 1.0)])


@TOLERATED
def test_flow_of_warped_rendering_within_cell(teapots: Path, features: str, cells: float) -> None:
    assert median_in_cells([teapots / "a.png", teapots / "b.png"], features) < cells


@pytest.mark.slow
@pytest.mark.realdata
@TOLERATED
def test_flow_of_warped_photographs_within_cell(real_data: Path, features: str, cells: float) -> None:
    assert median_in_cells(sorted((real_data / "PF-dataset").rglob("*.png"))[::20], features) < cells
