"""Annotations written for other tools: what their documentation asks for, and what our readers make of it."""

import json
import warnings
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from geomatch.annotations import (
    AnnotatedImage,
    Annotations,
    Category,
    Instance,
    Keypoints,
    Region,
    Target,
    Visibility,
)
from geomatch.errors import InputError
from geomatch.io.annotations.files import open_output, output_format, read_annotations
from geomatch.io.annotations.writers.yolo import encode_yolo_data
from geomatch.options import AnnotationFormat, AnnotationKind, Existing

SIZE = (48, 64)
NAMES = ("left <ear>", "right ear", "nose")
CATEGORIES = [Category(7, "cat", NAMES), Category(9, "dog & co", ("nose",))]
FILES = {
    AnnotationFormat.cvat: "all.xml",
    AnnotationFormat.label_studio: "all.json",
    AnnotationFormat.yolo: "labels",
}


def ring() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:20, 8:40] = True
    mask[9:14, 20:25] = False
    return mask


def block() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[30:48, 50:64] = True
    return mask


def shapes_of(kind: AnnotationKind) -> list[Instance]:
    """Two instances of a kind, at the image's corner, too."""
    if kind is AnnotationKind.boxes:
        return [
            Instance("cat", 1, (-0.5, -0.5, 20.25, 30.5), confidence=0.75),
            Instance("dog & co", 2, (40.0, 3.5, 63.5, 47.5), Visibility.guessed, confidence=0.5),
        ]
    if kind is AnnotationKind.masks:
        return [Instance("cat", 1, Region(ring()), confidence=0.5), Instance("dog & co", 2, Region(block()))]
    cat = Keypoints(NAMES, np.array([[0.0, 0], [10.5, 7], [63, 47]]), np.array([2, 0, 1]), np.array([0.9, 0, 0.4]))
    dog = Keypoints(("nose",), np.array([[30.25, 20]]), np.array([2]), np.array([0.5]))
    return [Instance("cat", 1, cat, confidence=0.6), Instance("dog & co", 2, dog, confidence=0.5)]


def write(folder: Path, format: AnnotationFormat, kind: AnnotationKind) -> Path:
    """A file or a folder with the shapes of `shapes_of` on one image, and nothing on another."""
    reference = Annotations(shapes_of(kind), AnnotationFormat.coco, CATEGORIES)
    targets = [Target(Path("photos/a b.jpg"), 0, "a b"), Target(Path("photos/猫.jpg"), 1, "猫")]
    path = folder / FILES[format]
    output = open_output(path, format, kind, reference, targets, existing=Existing.refused)
    output.add(targets[1], AnnotatedImage("photos/猫.jpg", SIZE, []))
    output.add(targets[0], AnnotatedImage("photos/a b.jpg", SIZE, shapes_of(kind)))
    output.close()
    return path


@pytest.mark.parametrize("kind", AnnotationKind)
@pytest.mark.parametrize("format", [AnnotationFormat.cvat, AnnotationFormat.label_studio])
def test_written_documents_are_read_again(format: AnnotationFormat, kind: AnnotationKind, tmp_path: Path) -> None:
    path = write(tmp_path, format, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Label Studio's are predictions, and have boxes beside points
        found = read_annotations(path, kind, Path("elsewhere/a b.jpg"), SIZE).instances
    expected = shapes_of(kind)
    assert [each.label for each in found] == [each.label for each in expected]
    for one, other in zip(found, expected, strict=True):
        match one.shape, other.shape:
            case Keypoints() as points, Keypoints() as wanted:
                here = {name: (*place, seen) for name, place, seen, _ in points.rounded()}
                there = {name: (*place, seen) for name, place, seen, _ in wanted.rounded()}
                if format is AnnotationFormat.label_studio:  # it does not say what is guessed
                    there = {name: (x, y, 2) for name, (x, y, _) in there.items()}
                assert here.keys() == there.keys()
                for name in here:
                    assert here[name] == pytest.approx(there[name], abs=0.011)
            case Region() as region, Region() as wanted_region:
                same = region.mask == wanted_region.mask
                assert same.all() if format is AnnotationFormat.cvat else same.mean() > 0.98  # polygons have no holes
            case box, wanted_box:
                assert box == pytest.approx(wanted_box, abs=0.011)


def test_boxes_of_yolo_are_read_again(tmp_path: Path) -> None:
    folder = write(tmp_path, AnnotationFormat.yolo, AnnotationKind.boxes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the columns have no names
        found = read_annotations(folder / "a b.txt", AnnotationKind.boxes, Path("a b.jpg"), SIZE).instances
    assert [each.label for each in found] == ["0", "1"]
    for one, other in zip(found, shapes_of(AnnotationKind.boxes), strict=True):
        assert one.shape == pytest.approx(other.shape, abs=1e-3)
    assert (folder / "猫.txt").read_text() == ""


def test_poses_of_yolo_have_what_the_format_asks(tmp_path: Path) -> None:
    """Every line has a class, a box, and x, y and visibility of as many points as `kpt_shape` says, as shares."""
    folder = write(tmp_path, AnnotationFormat.yolo, AnnotationKind.keypoints)
    data = (folder / "data.yaml").read_text()
    assert "kpt_shape: [3, 3]\n" in data
    assert 'names:\n  0: "cat"\n  1: "dog & co"\n' in data
    assert '  0:\n    - "left <ear>"\n    - "right ear"\n    - "nose"\n  1:\n    - "nose"\n' in data
    cat, dog = ([float(each) for each in line.split()] for line in (folder / "a b.txt").read_text().splitlines())
    assert len(cat) == len(dog) == 5 + 3 * 3
    assert cat[:5] == pytest.approx([0, 32 / 64, 24 / 48, 63 / 64, 47 / 48], abs=1e-6)
    assert cat[5:] == pytest.approx([0.5 / 64, 0.5 / 48, 2, 0, 0, 0, 63.5 / 64, 47.5 / 48, 1], abs=1e-6)
    assert dog[:5] == pytest.approx([1, 30.75 / 64, 20.5 / 48, 1 / 64, 1 / 48], abs=1e-6)  # one point, a pixel's box
    assert dog[5:] == pytest.approx([30.75 / 64, 20.5 / 48, 2, 0, 0, 0, 0, 0, 0], abs=1e-6)


def poses(*categories: tuple[str, ...]) -> str:
    """The data file of classes with these keypoints."""
    reference = [Category(number, f"class {number}", names) for number, names in enumerate(categories)]
    return encode_yolo_data(Annotations([], AnnotationFormat.coco, reference), AnnotationKind.keypoints).decode()


def test_yolo_flips_the_points_whose_names_say_left_and_right() -> None:
    eyes = ("left_eye", "nose", "right_eye")
    assert "\nflip_idx: [2, 1, 0]\n" in poses(eyes)
    assert "\nflip_idx: [2, 1, 0, 3]\n" in poses(eyes, ("Left eye", "nose", "Right eye", "tail"))
    assert "flip_idx" not in poses(("knob", "spout"))
    assert "flip_idx" not in poses(eyes, ("nose", "knob", "spout"))  # whose first point is no other's left


def test_cvat_document_has_what_its_format_asks(tmp_path: Path) -> None:
    root = ET.fromstring(write(tmp_path, AnnotationFormat.cvat, AnnotationKind.keypoints).read_bytes())
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    images = root.findall("image")
    assert [image.attrib for image in images] == [
        {"id": "0", "name": "photos/a b.jpg", "width": "64", "height": "48"},
        {"id": "1", "name": "photos/猫.jpg", "width": "64", "height": "48"},
    ]
    skeletons = images[0].findall("skeleton")
    assert [each.get("label") for each in skeletons] == ["cat", "dog & co"]
    points = [(each.get("label"), each.get("outside"), each.get("occluded")) for each in skeletons[0]]
    assert points == [("left <ear>", "0", "0"), ("right ear", "1", "0"), ("nose", "0", "1")]
    assert skeletons[0][0].get("points") == "0.50,0.50"
    masks = ET.fromstring(write(tmp_path / "m", AnnotationFormat.cvat, AnnotationKind.masks).read_bytes())
    mask = masks.find(".//mask")
    assert mask is not None
    runs = [int(run) for run in mask.get("rle", "").split(",")]
    assert runs[:2] == [0, 32 * 4 + 12]  # the first run is outside, and the mask begins at its box's corner
    assert sum(runs) == int(mask.get("width", "")) * int(mask.get("height", ""))


def test_label_studio_tasks_have_what_the_format_asks(tmp_path: Path) -> None:
    tasks = json.loads(write(tmp_path, AnnotationFormat.label_studio, AnnotationKind.keypoints).read_text())
    assert tasks[0]["data"] == {"image": "/data/local-files/?d=photos/a%20b.jpg"}
    (prediction,) = tasks[0]["predictions"]
    assert prediction["score"] == pytest.approx(0.55)
    box, first, *_ = prediction["result"]
    assert (box["type"], box["value"]["rectanglelabels"]) == ("rectanglelabels", ["cat"])
    assert first["parentID"] == box["id"]
    assert first["value"] == {"x": 0.7812, "y": 1.0417, "width": 0.5, "keypointlabels": ["left <ear>"]}
    assert (first["original_width"], first["original_height"], first["score"]) == (64, 48, 0.9)
    assert {(each["from_name"], each["to_name"]) for each in prediction["result"]} == {
        ("boxes", "image"),
        ("keypoints", "image"),
    }
    assert tasks[1]["predictions"][0]["result"] == []


def test_formats_are_told_by_their_names_and_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    read = AnnotationFormat.labelme
    assert output_format(Path("a.xml"), None, read) is AnnotationFormat.cvat
    assert output_format(Path("a.json"), None, read) is AnnotationFormat.coco
    assert output_format(Path("a.json"), AnnotationFormat.label_studio, read) is AnnotationFormat.label_studio
    assert output_format(Path("labels"), AnnotationFormat.yolo, read) is AnnotationFormat.yolo
    with pytest.raises(InputError, match=r"ends in \.xml"):
        output_format(Path("a.json"), AnnotationFormat.cvat, read)
    with pytest.raises(InputError, match="yolo cannot hold masks"):
        write(tmp_path, AnnotationFormat.yolo, AnnotationKind.masks)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "data.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"data\.yaml: exists already"):
        write(tmp_path, AnnotationFormat.yolo, AnnotationKind.boxes)
    assert (tmp_path / "labels" / "data.yaml").read_text() == "mine"
