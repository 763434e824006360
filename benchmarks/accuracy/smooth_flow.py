"""Folds, stretch and PCK of the smooth flow that pictures are warped by, beside those of the matches.

    python benchmarks/accuracy/smooth_flow.py --dataset spair-71k=DIR [--dataset animal-parts=DIR ...] [--pairs 20]
        [--preset default] [--split val] [--pictures DIR]

Pairs are spread evenly over each benchmark. Of each pair's valid pixels, folded are those whose Jacobian has another
sign than that of most (a pair that is mirrored as a whole has no fold), stretched those whose area is more than four
times the median. PCK is that of protocol geomatch, of all keypoints, valid or not. Flows: raw, that of the matches;
smooth, which is the plate's where it is valid, and that of the matches elsewhere; plate, by which pictures are warped.
Seconds are the processor's, of matching alone and of the fit: medians over pairs. With --pictures, every
pair's overview is written.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from geomatch.correspondence import Correspondence
from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import AnnotatedPair
from geomatch.evaluation.metrics.pck import box_side
from geomatch.options import Beyond
from geomatch.pipeline import Pipeline

STRETCH = 4
ALPHA = 0.1


def folds_and_stretch(flow: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[float, float]:
    """The shares of valid pixels (H, W) that a flow (2, H, W) folds and stretches; 0 if none is valid."""
    here, right, below = flow[:, :-1, :-1], flow[:, :-1, 1:], flow[:, 1:, :-1]
    (xx, yx), (xy, yy) = right - here, below - here
    counted = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1]
    area = ((1 + xx) * (1 + yy) - xy * yx)[counted]
    if not area.size:
        return 0.0, 0.0
    negative = float((area < 0).mean())
    return min(negative, 1 - negative), float((np.abs(area) > STRETCH * np.median(np.abs(area))).mean())


def scores(found: Correspondence, pair: AnnotatedPair) -> tuple[float, ...]:
    """Folded and stretched share, valid share, and PCK of a pair's flow."""
    flow, valid = found.flow.numpy(), found.valid.numpy()
    errors = np.linalg.norm(found.map_points(pair.source_points).positions - pair.target_points, axis=1)
    assert pair.target_box is not None, "both benchmarks have boxes"
    correct = errors <= ALPHA * box_side(pair.target_box, np.ones(2))
    return *folds_and_stretch(flow, valid), float(valid.mean()), float(correct.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--pairs", type=int, default=20, help="of each benchmark")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--split", default="val")
    parser.add_argument("--pictures", type=Path, metavar="DIR")
    options = parser.parse_args()

    torch.set_num_threads(1)
    pipeline = Pipeline(preset=options.preset, device="cpu", zoom="off")  # as its page says
    table = Table()
    for column in ("benchmark", "pairs", "flow", "folded", "stretched", "valid", f"PCK@{ALPHA:.2f}", "seconds"):
        table.add_column(column, justify="left" if column in ("benchmark", "flow") else "right")
    for dataset in options.dataset:
        name, _, folder = dataset.partition("=")
        pairs = load_dataset(name, Path(folder), split=options.split).limited(options.pairs).pairs
        rows: dict[str, list[tuple[float, ...]]] = {"raw": [], "smooth": [], "plate": []}
        for number, pair in enumerate(pairs):
            source, target = pair.source.load(), pair.target.load()
            features = pipeline.extract(source), pipeline.extract(target)
            started = time.process_time()
            found = pipeline.match(*features)
            matched = time.process_time()
            smooth = found.smooth(source)
            fitted = time.process_time()
            flows = found, smooth, found.smooth(source, Beyond.plate)
            seconds = matched - started, fitted - matched, time.process_time() - fitted
            for kind, each, spent in zip(rows, flows, seconds, strict=True):
                rows[kind].append((*scores(each, pair), spent))
            if options.pictures:
                options.pictures.mkdir(parents=True, exist_ok=True)
                found.overview(source, target).save(options.pictures / f"{name}-{number:03d}.png")
        for kind, values in rows.items():
            *shares, _ = np.mean(values, axis=0)
            spent = np.median([row[-1] for row in values])  # the first pair also imports what the fit needs
            table.add_row(name, str(len(pairs)), kind, *(f"{share:.3f}" for share in shares), f"{spent:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
