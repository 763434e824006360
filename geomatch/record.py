"""What `geomatch match` writes of a match: its files, and the record of how they came about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from geomatch import __version__
from geomatch.correspondence import Correspondence, RegionMatches
from geomatch.features.weights import sha256_of
from geomatch.io.flow import ENCODERS, FILE_NAMES, FlowField
from geomatch.io.images import png_bytes
from geomatch.pipeline import Pipeline
from geomatch.visualize.overview import draw_overview, to_picture
from geomatch.visualize.warp import pull


def match_files(
    source: Tensor, target: Tensor, correspondence: Correspondence, formats: Sequence[str]
) -> dict[str, bytes]:
    """The files of a match by name: the flow in each of ``formats``, warp, confidence, overview, and regions, if any.

    source, target: (3, H, W) uint8.
    """
    flow = FlowField.of(correspondence)
    files = {FILE_NAMES[name]: ENCODERS[name](flow) for name in formats}
    warped = pull(target, correspondence)
    files["warped.png"] = png_bytes(to_picture(warped))
    files["confidence.png"] = png_bytes(
        Image.fromarray(np.round(correspondence.confidence.cpu().numpy() * 65535).astype(np.uint16))
    )
    files["overview.png"] = png_bytes(draw_overview(source, target, warped, correspondence))
    if correspondence.regions is not None:
        files["regions.json"] = to_json(region_record(correspondence.regions)).encode() + b"\n"
    return files


def region_record(regions: RegionMatches) -> list[dict[str, object]]:
    """The boxes that have a match, best first: source and target as left, top, right, bottom in pixels, and score."""
    found = regions.found()
    boxes = [[[round(side, 2) for side in box] for box in each.tolist()] for each in (found.source, found.target)]
    return [
        {"source": source, "target": target, "score": float(f"{score:.6g}")}
        for source, target, score in zip(*boxes, found.score.tolist(), strict=True)
    ]


def match_record(source: Path, target: Path, pipeline: Pipeline, correspondence: Correspondence) -> dict[str, object]:
    """Inputs, settings and outcome of a match, ready for JSON."""
    return {
        "source": _input_record(source, correspondence.source_size),
        "target": _input_record(target, correspondence.target_size),
        "features": pipeline.extractor.name,
        "weights_sha256": pipeline.extractor.weights_sha256,
        "matcher": pipeline.matcher.name,
        "settings": pipeline.settings(),
        "version": __version__,
        "valid_share": round(float(correspondence.valid.float().mean()), 4),
        "mean_confidence": round(float(correspondence.confidence.mean()), 4),
    }


def to_json(record: dict[str, object] | list[dict[str, object]], *, indent: int | None = None) -> str:
    return json.dumps(record, indent=indent, ensure_ascii=False)


def _input_record(path: Path, size: tuple[int, int]) -> dict[str, object]:
    return {"path": str(path), "sha256": sha256_of(path), "width": size[1], "height": size[0]}
