"""End-point error of known warps: images matched with their views through random homographies.

    python benchmarks/accuracy/warps.py [--photographs DIR] [--count 40] [--presets default precise] [--refine on|off]

Each image is scaled to an odd size, its view to another. For every preset, the table shows the end-point error of the
valid pixels whose true position lies in the view, in target pixels and as a share of a feature cell.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from geomatch.geometry.homography import WarpRanges, apply_homography, pixel_grid, random_view, warp_image
from geomatch.io.images import image_suffixes, load_image
from geomatch.options import Preset, Refine
from geomatch.pipeline import Pipeline

SIZES = (((313, 471), (257, 339)), ((240, 181), (333, 301)), ((480, 640), (201, 511)))
TEAPOTS = Path(__file__).parents[2] / "examples" / "teapots"


def known_warp(photograph: Tensor, sizes: tuple[tuple[int, int], tuple[int, int]], seed: int) -> tuple[Tensor, ...]:
    """A source (3, H, W) and a target (3, h, w), both uint8, and the true flow (2, H, W) between them."""
    source_size, target_size = sizes
    source = F.interpolate(photograph[None].float(), source_size, mode="bilinear", antialias=True)[0]
    generator = torch.Generator().manual_seed(seed)
    square = random_view(source_size, 100, WarpRanges(), generator)
    height, width = target_size
    stretch = torch.diag(torch.tensor([99 / (width - 1), 99 / (height - 1), 1], dtype=torch.float64))
    to_source = square @ stretch
    target = warp_image(source, to_source, target_size)
    pixels = pixel_grid(*source_size)
    flow = (apply_homography(torch.linalg.inv(to_source), pixels) - pixels).mT.reshape(2, *source_size)
    return source.round().byte(), target.round().byte(), flow.float()


def endpoint_errors(pipeline: Pipeline, source: Tensor, target: Tensor, truth: Tensor) -> tuple[Tensor, float, float]:
    """The errors (K,), in target pixels, of the valid pixels whose true position lies in the target; the share of valid
    pixels among those with a true position; and the mean side of a feature cell in target pixels."""
    features = pipeline.extract(target)
    found = pipeline.match(pipeline.extract(source), features)
    position = truth + pixel_grid(*found.source_size).mT.reshape(2, *found.source_size)
    height, width = found.target_size
    visible = (position[0] >= 0) & (position[0] <= width - 1) & (position[1] >= 0) & (position[1] <= height - 1)
    counted = found.valid & visible
    errors = (found.flow - truth).norm(dim=0)[counted]
    return errors, float(counted.sum() / visible.sum()), float(np.mean(features.grid.pitch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--presets", type=Preset, nargs="+", default=list(Preset))
    parser.add_argument("--refine", choices=list(Refine), help="by default the preset's choice")
    options = parser.parse_args()
    files = sorted(p for p in options.photographs.rglob("*") if p.suffix.lower() in image_suffixes())
    chosen = [files[number * len(files) // options.count] for number in range(options.count)]
    table = Table(title=f"end-point error of known warps, {options.count} views of {len(set(chosen))} pictures")
    for column in ("preset", "median, pixels", "median, cells", "90 %, pixels", "valid share of visible"):
        table.add_column(column, justify="left" if column == "preset" else "right")
    for preset in options.presets:
        pipeline = Pipeline(preset=preset, refine=options.refine)
        errors, in_cells, shares = [], [], []
        for number, path in enumerate(chosen):
            warp = known_warp(load_image(path), SIZES[number % len(SIZES)], seed=number)
            found, share, cell = endpoint_errors(pipeline, *warp)
            errors.append(found)
            in_cells.append(found / cell)
            shares.append(share)
        error = torch.cat(errors)
        table.add_row(
            preset,
            f"{error.median():.2f}",
            f"{torch.cat(in_cells).median():.3f}",
            f"{np.percentile(error.numpy(), 90):.2f}",
            f"{np.mean(shares):.2f}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
