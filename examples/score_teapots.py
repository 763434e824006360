"""Compare what `geomatch transfer` found on teapots with the truth that `many_teapots.py` wrote.

    geomatch transfer … > found.jsonl
    python examples/score_teapots.py found.jsonl truth.json

Distances are shares of the longer side of the extent of a teapot's true keypoints. A keypoint that was not found is
wrong, and so are all of an image that could not be used.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def true_points(truth: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """The keypoints (K, 2) of each image, by its name, in the order of the category."""
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    return {
        names[each["image_id"]]: np.array(each["keypoints"], dtype=np.float64).reshape(-1, 3)[:, :2]
        for each in truth["annotations"]
    }


def distances(record: Mapping[str, Any], names: list[str], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each keypoint is from the truth: (K,)."""
    found = {item["name"]: (item["x"], item["y"]) for item in record.get("items", ())}
    places = np.array([found.get(name, (np.inf, np.inf)) for name in names])
    return np.asarray(np.linalg.norm(places - true, axis=1) / np.ptp(true, axis=0).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path)
    parser.add_argument("truth", type=Path)
    given = parser.parse_args()
    try:
        records = [json.loads(line) for line in given.found.read_text().splitlines()]
        truth = json.loads(given.truth.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"cannot be read: {error}")
    if not records:
        parser.error(f"{given.found} holds no image; see what `geomatch transfer` said when it wrote the file")
    true, names = true_points(truth), truth["categories"][0]["keypoints"]
    if unknown := [record["image"] for record in records if Path(record["image"]).name not in true]:
        parser.error(f"{given.truth} does not know {unknown[0]}")
    errors = np.stack([distances(record, names, true[Path(record["image"]).name]) for record in records])
    whole = int((errors <= 0.1).all(axis=1).sum())
    print(f"{len(errors)} images, {whole} with all keypoints within .10")
    print(f"keypoints within .05: {(errors <= 0.05).mean():.3f}, within .10: {(errors <= 0.1).mean():.3f}")


if __name__ == "__main__":
    main()
