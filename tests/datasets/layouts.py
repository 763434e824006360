"""Small folders in the layouts of the official downloads."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from geomatch.datasets.benchmarks.pf_willow import CLASSES
from geomatch.datasets.pascal_ilsvrc import VOC_CLASSES


def write_willow(root: Path) -> Path:
    """Two images a class, 40x30 pixels. Points are in the official count from 1."""
    for number, category in enumerate(CLASSES):
        (root / category).mkdir(parents=True)
        for name in ("a", "b"):
            Image.new("RGB", (40, 30)).save(root / category / f"{name}.png")
            points = np.stack((np.arange(1.0, 11) + number, np.arange(11.0, 21)))
            scipy.io.savemat(root / category / f"{name}.mat", {"pts_coord": points})
    return root


def write_pf_pascal(root: Path, pairs: Mapping[str, int], images: int = 6) -> Path:
    """PF-PASCAL as its zip unpacks, without lists of pairs: ``pairs`` of each named class, images of 40x30 pixels.

    Pair n of a class is that of its images n and n + 1, counted round. Image i has the keypoints (5, 6), (absent),
    (11 + i, 12) and (3, 4), which the last image lacks, in the official count from 1.
    """
    catalogue = np.empty((1, len(VOC_CLASSES)), object)
    for place, category in enumerate(VOC_CLASSES):
        catalogue[0, place] = np.empty((pairs.get(category, 0), 2), object)
        for number in range(pairs.get(category, 0)):
            catalogue[0, place][number] = [f"{category}_{(number + step) % images}" for step in (0, 1)]
    (root / "JPEGImages").mkdir(parents=True)
    for category in pairs:
        (root / "Annotations" / category).mkdir(parents=True)
        for number in range(images):
            name = f"{category}_{number}"
            Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}.jpg")
            points = np.array([(5, 6), (np.nan, np.nan), (11 + number, 12), (3, 4)], float)
            if number == images - 1:
                points[3] = np.nan
            content = {"kps": points, "bbox": np.array([[1.0, 2, 21, 26]])}
            scipy.io.savemat(root / "Annotations" / category / f"{name}.mat", content)
    scipy.io.savemat(root / "parsePascalVOC.mat", {"PascalVOC": {"pair": catalogue, "class": "VOC"}})
    return root


def spair_entry(**changes: object) -> dict[str, object]:
    return {
        "src_imname": "x.jpg",
        "trg_imname": "y.jpg",
        "src_kps": [[1, 2], [3, 4]],
        "trg_kps": [[5, 6], [7, 8]],
        "src_bndbox": [0, 0, 10, 12],
        "trg_bndbox": [0, 0, 20, 30],
        "category": "cat",
    } | changes


def write_spair(root: Path) -> Path:
    """One pair of cats and one from cat to dog, images of 40x30 pixels, in the split val."""
    for category, name in (("cat", "x.jpg"), ("cat", "y.jpg"), ("dog", "y.jpg")):
        (root / "JPEGImages" / category).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / category / name)
    (root / "PairAnnotation" / "val").mkdir(parents=True)
    entries = {
        "000000-x-y:cat": spair_entry(src_category="cat", trg_category="cat"),
        "000001-x-y:cat-to-dog": spair_entry(category="cat-to-dog", src_category="cat", trg_category="dog"),
    }
    for name, entry in entries.items():
        (root / "PairAnnotation" / "val" / f"{name}.json").write_text(json.dumps(entry))
    return root


def write_shard(
    folder: Path, photographs: Mapping[str, tuple[str, str]], pixels: Mapping[str, bytes] = MappingProxyType({})
) -> None:
    """``shard.tar`` and ``labels.csv`` of names with their labels and boxes; their bytes, if wanted, in ``pixels``."""
    with tarfile.open(folder / "shard.tar", "w:") as shard, (folder / "labels.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(("file", "labels", "boxes"))
        for name, (labels, boxes) in photographs.items():
            rows.writerow((name, labels, boxes))
            member = tarfile.TarInfo(name)
            member.size = len(pixels.get(name, b""))
            shard.addfile(member, io.BytesIO(pixels.get(name, b"")))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, 3) as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
