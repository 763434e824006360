"""Render many different teapots, and the true places of six keypoints on each.

    python examples/many_teapots.py DIR --count 200

writes ``DIR/photos/teapot-001.jpg`` and so on, and ``DIR/truth.json`` (COCO). The pictures have unequal sizes; on every
fourth, in the mean, the spout is on the left. A keypoint is hidden (COCO's 1) where the teapot itself is before it.
"""

from __future__ import annotations

import argparse
import colorsys
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from teapots import HEIGHT, WIDTH, Surface, Teapot, body, flowers, handle, lid, project, render, spout, stripes

DENSITIES = ((1700, 1000), (1000, 500), (500, 900), (600, 700))
KEYPOINTS: dict[str, tuple[Surface, float, float]] = {
    "knob": (lid, 0.0, 0.97),
    "lid rim": (lid, 0.0, 0.0),
    "handle": (handle, 0.0, 0.5),
    "spout tip": (spout, 0.25, 1.0),
    "belly": (body, 0.0, 0.5),
    "foot": (body, 0.0, 0.02),
}
"""Part, u and v of each; u is counted from where the part faces the camera, if it is a surface of revolution."""
SKELETON = ((1, 2), (2, 5), (5, 6), (3, 5), (4, 5))
_HIDDEN_BEHIND = 0.08  # depth between a point and what is seen at its pixel
_FLIPPED = 0.25  # share of the pictures
_MARGIN = 24  # pixels round the keypoints that a picture keeps

Random = np.random.Generator


@dataclass(frozen=True)
class Photograph:
    """picture: (H, W, 3) uint8. points: (K, 2) in its pixels. visibility: (K,), 2 for seen, 1 for hidden."""

    picture: NDArray[np.uint8]
    points: NDArray[np.float64]
    visibility: NDArray[np.int64]


def random_teapot(random: Random, seed: int) -> Teapot:
    """A teapot of random shape, glaze, camera and light. seed: of its grain."""

    def between(low: float, high: float) -> float:
        return float(random.uniform(low, high))

    def colour(saturation: float, value: float) -> tuple[float, float, float]:
        return colorsys.hsv_to_rgb(between(0, 1), saturation * between(0.6, 1), value * between(0.7, 1))

    return Teapot(
        height=between(1.0, 1.6),
        belly=between(0.38, 0.55),
        neck=between(0.4, 0.6),
        handle=between(0.45, 0.7),
        spout=between(0.8, 1.05),
        glaze=colour(0.8, 0.85),
        trim=colour(0.5, 1.0),
        pattern=(flowers, stripes, _plain)[random.integers(3)],
        yaw=between(-25, 25),
        pitch=between(5, 32),
        zoom=between(0.6, 0.9),
        light=(between(-0.8, 0.8), between(0.6, 1.0), between(0.5, 0.9)),
        wall=colour(0.25, 0.9),
        table=colour(0.5, 0.7),
        seed=seed,
    )


def _plain(u: NDArray[np.float64], _v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.zeros_like(u)


def photograph(random: Random, seed: int) -> Photograph:
    """A picture of a random teapot, cut at random round it and sometimes flipped."""
    pot = random_teapot(random, seed)
    rendering = render(pot, DENSITIES)
    places = [_place(pot, *keypoint) for keypoint in KEYPOINTS.values()]
    x, y, depth = (np.array([float(place[axis]) for place in places]) for axis in range(3))
    column, row = np.clip(x.round().astype(int), 0, WIDTH - 1), np.clip(y.round().astype(int), 0, HEIGHT - 1)
    hidden = depth - rendering.depth[row, column] > _HIDDEN_BEHIND
    left, right = _cut(random, x, WIDTH)
    top, bottom = _cut(random, y, HEIGHT)
    picture = rendering.picture[top:bottom, left:right]
    points = np.stack((x - left, y - top), axis=1)
    if random.random() < _FLIPPED:
        picture = picture[:, ::-1]
        points[:, 0] = right - left - 1 - points[:, 0]
    return Photograph(np.ascontiguousarray(picture), points, np.where(hidden, 1, 2))


def _place(pot: Teapot, part: Surface, u: float, v: float) -> tuple[NDArray[np.float64], ...]:
    """Where a point of a part is in the picture, x and y, and its depth."""
    facing = -pot.yaw / 360 if part in (lid, body) else 0.0
    return project(pot, part(pot, np.array(u + facing), np.array(v)))


def _cut(random: Random, places: NDArray[np.float64], length: int) -> tuple[int, int]:
    """Where a picture begins and ends along an axis: at random outside the keypoints."""
    first, last = max(int(places.min()) - _MARGIN, 0), min(int(places.max()) + _MARGIN, length)
    return int(random.integers(0, first + 1)), int(random.integers(last, length + 1))


def coco(photographs: Sequence[tuple[str, Photograph]]) -> dict[str, object]:
    """What is true of pictures, by their names, as COCO has it."""
    category = {"id": 1, "name": "teapot", "keypoints": list(KEYPOINTS), "skeleton": SKELETON}
    images, annotations = [], []
    for number, (name, photo) in enumerate(photographs, 1):
        height, width = photo.picture.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        points = [
            value
            for (x, y), seen in zip(photo.points.round(2).tolist(), photo.visibility.tolist(), strict=True)
            for value in (x, y, seen)
        ]
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "num_keypoints": len(KEYPOINTS), "keypoints": points}
        )
    return {"images": images, "annotations": annotations, "categories": [category]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Render many teapots and their keypoints.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    photos: Path = asked.folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(1, asked.count + 1):
        name = f"teapot-{number:03d}.jpg"
        photo = photograph(np.random.default_rng((asked.seed, number)), number)
        Image.fromarray(photo.picture).save(photos / name, quality=92)
        found.append((name, photo))
    (asked.folder / "truth.json").write_text(json.dumps(coco(found)))


if __name__ == "__main__":
    main()
