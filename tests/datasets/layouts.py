"""Small folders in the layouts of the official downloads."""

from __future__ import annotations

import csv
import io
import json
import pickle
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

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


def structs(*entries: dict[str, Any]) -> NDArray[Any]:
    """Matlab's 1 x N struct array."""
    array = np.empty((1, len(entries)), dtype=[(name, object) for name in entries[0]])
    for index, entry in enumerate(entries):
        array[0, index] = tuple(entry.values())
    return array


PARTS_SIZE = (100, 120)
"""(height, width) of the images of `write_pascal_parts`."""
OBJECT_BOX = (10, 15, 99, 89)
"""Of all usable objects there: left, top, right, bottom, pixels that belong to it, from 0."""


def write_pascal_parts(root: Path) -> Path:
    """PASCAL-Part, VOC 2010 and PASCAL3D+ as their archives unpack; see `write_part_image` for an image.

    Usable are three cars, two buses, two boats, a cat and a horse, all seen from the left, and a car from the right.
    """
    car = {"wheel_1": 20, "wheel_2": 40, "door_1": 60}
    for stem in ("car1", "car2", "car3"):
        write_part_image(root, stem, "car", car, keypoints={"left_front_wheel": (21, 31, 1), "hood": (41, 51, 1)})
    write_part_image(root, "car4", "car", car, keypoints={"left_front_wheel": (25, 35, 1), "hood": (41, 51, 2)})
    write_part_image(root, "right", "car", car, pose="Right")
    write_part_image(root, "cut", "car", car, truncated=1)
    write_part_image(root, "hard", "car", car, difficult=1)
    write_part_image(root, "tiny", "car", car, box=(10, 15, 99, 60))
    write_part_image(root, "bus1", "bus", {"wheel_1": 22, "door_1": 62})
    write_part_image(root, "bus2", "bus", {"frontside": 22})
    for stem in ("boat1", "boat2"):
        write_part_image(root, stem, "boat", {})
    write_part_image(root, "cat1", "cat", {"lfleg": 20, "lfpa": 40, "nose": 60, "tail": 70})
    write_part_image(root, "horse1", "horse", {"lfuleg": 22, "lflleg": 32, "lfho": 42, "muzzle": 62})
    return root


def write_part_image(
    root: Path,
    stem: str,
    category: str,
    parts: Mapping[str, int],
    *,
    pose: str = "Left",
    truncated: int = 0,
    difficult: int = 0,
    box: tuple[int, int, int, int] = OBJECT_BOX,
    keypoints: Mapping[str, tuple[float, float, int]] = MappingProxyType({}),
) -> None:
    """An image with one object, a filled ``box``, after a smaller one of the same class in the corner.

    parts: the corner of a square of 5 pixels by name. keypoints: x and y from 1, and status, by name.
    """
    voc, size = root / "VOCdevkit" / "VOC2010", PARTS_SIZE
    for folder in (voc / "JPEGImages", voc / "Annotations", root / "Annotations_Part"):
        folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(list((voc / "JPEGImages").iterdir()))).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).save(voc / "JPEGImages" / f"{stem}.jpg")
    left, top, right, bottom = box
    sides = "".join(
        f"<{name}>{side + 1}</{name}>" for name, side in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    (voc / "Annotations" / f"{stem}.xml").write_text(
        f"<annotation><object><name>{category}</name><pose>{pose}</pose><truncated>{truncated}</truncated>"
        f"<difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object></annotation>"
    )
    whole, corner = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    whole[top : bottom + 1, left : right + 1] = 1
    corner[:5, :5] = 1
    masks = {name: np.zeros(size, np.uint8) for name in parts}
    for name, at in parts.items():
        masks[name][at : at + 5, at : at + 5] = 1
    listed = (
        structs(*({"part_name": name, "mask": mask} for name, mask in masks.items())) if parts else np.zeros((0, 0))
    )
    objects = structs(
        {"class": category, "class_ind": 1, "mask": corner, "parts": np.zeros((0, 0))},
        {"class": category, "class_ind": 1, "mask": whole, "parts": listed},
    )
    scipy.io.savemat(root / "Annotations_Part" / f"{stem}.mat", {"anno": {"imname": stem, "objects": objects}})
    if keypoints:
        folder = root / "PASCAL3D+_release1.1" / "Annotations" / f"{category}_pascal"
        folder.mkdir(parents=True, exist_ok=True)
        anchors = {
            name: {"location": np.array([[x, y]], float), "status": status}
            for name, (x, y, status) in keypoints.items()
        }
        record = {
            "objects": structs(
                {"class": category, "bbox": np.array([[1.0, 1, 6, 6]]), "anchors": anchors},
                {"class": category, "bbox": np.array([box], float) + 1, "anchors": anchors},
            )
        }
        scipy.io.savemat(folder / f"{stem}.mat", {"record": record})


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


def tap_video(frames: int = 3) -> dict[str, NDArray[Any]]:
    """A video of TAP-Vid, 48 x 64 pixels, with four points: 1 is occluded last, 2 first, and 3 always."""
    random = np.random.default_rng(0)
    occluded = np.zeros((4, frames), bool)
    occluded[1, -1] = occluded[2, 0] = occluded[3] = True
    return {
        "video": random.integers(0, 256, (frames, 48, 64, 3), np.uint8),
        "points": random.random((4, frames, 2), np.float32),
        "occluded": occluded,
    }


def write_tap_vid(root: Path) -> Path:
    """Two videos, as ``tapvid_davis.zip`` has thirty."""
    root.mkdir(parents=True)
    (root / "tapvid_davis.pkl").write_bytes(pickle.dumps({"car": tap_video(), "bear": tap_video(4)}))
    return root


AP_10K_SPECIES = (
    ("antelope", "Bovidae", 33),
    ("bison", "Bovidae", 4),
    ("fox", "Canidae", 3),
)
"""Name, family and number of usable photographs in `write_ap_10k`."""


def ap_10k_keypoints(number: int) -> list[float]:
    """The 17 keypoints of an animal, all of them, or, of a number that three divides, without the first two."""
    absent = 2 if number % 3 == 0 else 0
    points = [(0.0, 0.0, 0)] * absent + [(2.0 + place, 3.0 + number % 5, 2) for place in range(absent, 17)]
    return [value for point in points for value in point]


def write_ap_10k(root: Path) -> Path:
    """AP-10K as its archive unpacks, photographs of 40 x 30 pixels; one has two animals, another too few keypoints."""
    categories = [{"id": place, "name": name, "supercategory": family} for place, (name, family, _) in _numbered()]
    images, annotations = [], []
    for place, (_, _, count) in _numbered():
        for number in range(100 * place, 100 * place + count + 1):
            images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": 40, "height": 30})
            few = number == 100 * place + count
            entry = {"id": number, "image_id": number, "category_id": place, "bbox": [1, 2, 20, 10]}
            annotations.append(entry | {"num_keypoints": 2 if few else 15, "keypoints": ap_10k_keypoints(number)})
    annotations.append(annotations[0] | {"id": 9999, "bbox": [5, 5, 1, 1]})
    (root / "data").mkdir(parents=True)
    (root / "annotations").mkdir()
    for image in images:
        Image.new("RGB", (40, 30)).save(root / "data" / image["file_name"])
    for place, part in enumerate(("train", "test", "val")):
        document = {"images": images[place::3], "categories": categories}
        own = {image["id"] for image in images[place::3]}
        document["annotations"] = [each for each in annotations if each["image_id"] in own]
        (root / "annotations" / f"ap10k-{part}-split1.json").write_text(json.dumps(document))
    return root


def _numbered() -> Iterable[tuple[int, tuple[str, str, int]]]:
    return enumerate(AP_10K_SPECIES, 1)


def write_cub(root: Path) -> Path:
    """CUB-200-2011 with two classes: three test images and one for training of the first, two of the second."""
    (root / "parts").mkdir(parents=True)
    birds = ((1, 1, 0), (2, 1, 0), (3, 1, 1), (4, 1, 0), (5, 2, 0), (6, 2, 0))
    names = {1: "001.Albatross", 2: "002.Auklet"}
    for number, label, _ in birds:
        path = root / "images" / names[label] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(noise).save(path)
    tables = {
        "images.txt": [f"{number} {names[label]}/{number}.jpg" for number, label, _ in birds],
        "classes.txt": [f"{label} {name}" for label, name in names.items()],
        "image_class_labels.txt": [f"{number} {label}" for number, label, _ in birds],
        "train_test_split.txt": [f"{number} {trained}" for number, _, trained in birds],
        "bounding_boxes.txt": [f"{number} {10 + number}.0 12.0 50.0 30.0" for number, *_ in birds],
        "parts/part_locs.txt": [
            f"{number} {part} {20.0 + part} {15.0 + number} {int(part != number)}"
            for number, *_ in birds
            for part in range(1, 16)
        ],
    }
    for name, lines in tables.items():
        (root / name).write_text("".join(f"{line}\n" for line in lines))
    return root
