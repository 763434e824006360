from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from geomatch.datasets.benchmarks.pascal_part.pascal_parts import LIST, PASCAL_PARTS
from geomatch.datasets.pairs import AnnotatedPair, Mask, PairErrors
from geomatch.errors import InputError
from tests.datasets.layouts import structs

SIZES = {"a": (30, 40), "b": (20, 50)}
HEADER, PAIR = "source_image,target_image", "car_set_2/a.jpg,car_set_2/b.jpg"
NONE = np.zeros((0, 0))


def patch(image: str, corner: int) -> Mask:
    """A part: a square of 3 pixels from (corner, corner) on."""
    mask = np.zeros(SIZES[image], dtype=bool)
    mask[corner : corner + 3, corner : corner + 3] = True
    return mask


def write_images(folder: Path) -> None:
    folder.mkdir()
    for image, (height, width) in SIZES.items():
        Image.new("RGB", (width, height)).save(folder / f"{image}.jpg")


def write_list(root: Path, header: str, *rows: str) -> None:
    (root / LIST).write_text("\n".join((header, *rows)) + "\n")


def write_derived(root: Path, image: str, **changes: object) -> None:
    """Three keypoints at (10, 5), (11, 6), (12, 7) counted from 1, and three parts; ``changes`` override."""
    content = {
        "keypts": np.array([[10.0, 11, 12], [5, 6, 7]]),
        "keypts_status": np.array([[1, 1, 1]]),
        "part_mask": np.stack([patch(image, corner) for corner in (1, 5, 9)], axis=-1).astype(np.uint8),
        "part_mask_status": np.array([[1, 1, 1]]),
    }
    scipy.io.savemat(root / "car_set_2" / f"{image}_new.mat", content | changes)


def make_object(image: str, category: str, side: int, parts: dict[str, int]) -> dict[str, Any]:
    mask = np.zeros(SIZES[image], dtype=np.uint8)
    mask[:side, :side] = 1
    listed = [{"part_name": name, "mask": patch(image, corner).astype(np.uint8)} for name, corner in parts.items()]
    return {"class": category, "class_ind": 7, "mask": mask, "parts": structs(*listed) if listed else NONE}


def write_original(root: Path, image: str, *objects: dict[str, Any]) -> None:
    (root / "Annotations_Part").mkdir(exist_ok=True)
    anno = {"imname": image, "objects": structs(*objects)}
    scipy.io.savemat(root / "Annotations_Part" / f"{image}.mat", {"anno": anno})


@pytest.fixture
def derived(tmp_path: Path) -> Path:
    """WeakAlign's layout. The source lacks the second keypoint and the first part, the target the third part."""
    write_images(tmp_path / "car_set_2")
    hidden = np.array([[10.0, 0, 12], [5, 0, 7]])
    write_derived(tmp_path, "a", keypts=hidden, keypts_status=[[1, 0, 1]], part_mask_status=[[0, 1, 1]])
    write_derived(tmp_path, "b", part_mask_status=[[1, 1, 0]])
    write_list(tmp_path, HEADER, PAIR)
    return tmp_path


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """PASCAL-Part's own layout: a car before a larger one and a yet larger bus; then a car alone."""
    write_images(tmp_path / "JPEGImages")
    car = make_object("a", "car", 15, {"hood": 1, "wheel_1": 5, "door": 9})
    write_original(
        tmp_path, "a", make_object("a", "car", 3, {"door": 2}), car, make_object("a", "bus", 25, {"door": 3})
    )
    write_original(tmp_path, "b", make_object("b", "car", 9, {"wheel_1": 2, "trunk": 7, "door": 12}))
    write_list(tmp_path, "source_image,target_image,category", "JPEGImages/a.jpg,JPEGImages/b.jpg,car")
    return tmp_path


def load(root: Path) -> list[AnnotatedPair]:
    return PASCAL_PARTS.load(root, "test", PairErrors())


def parts_of(pair: AnnotatedPair) -> tuple[Mask, Mask]:
    assert pair.parts is not None
    return pair.parts()


def assert_parts(pair: AnnotatedPair, source: list[int], target: list[int]) -> None:
    """The parts are the squares from these corners on, in this order."""
    for parts, image, corners in zip(parts_of(pair), "ab", (source, target), strict=True):
        assert parts.shape == (len(corners), *SIZES[image])
        assert all(np.array_equal(part, patch(image, corner)) for part, corner in zip(parts, corners, strict=True))


def test_derived_annotations_of_both_images_from_zero(derived: Path) -> None:
    (pair,) = load(derived)
    assert pair.category == "car"
    assert pair.source_points.tolist() == pair.target_points.tolist() == [[9, 4], [11, 6]]
    assert_parts(pair, [5], [5])
    assert [path.name for path in pair.annotation_files] == ["a_new.mat", "b_new.mat"]


@pytest.mark.parametrize("category", ["7", "car"])
def test_original_annotations_of_largest_object(original: Path, category: str) -> None:
    write_list(original, "source_image,target_image,class", f"JPEGImages/a.jpg,JPEGImages/b.jpg,{category}")
    (pair,) = load(original)
    assert pair.category == "car"
    assert_parts(pair, [9, 5], [12, 2])
    assert len(pair.source_points) == len(pair.target_points) == 0
    assert [path.parent.name for path in pair.annotation_files] == ["Annotations_Part"] * 2


def test_original_annotations_without_common_part(original: Path) -> None:
    write_original(original, "b", make_object("b", "car", 9, {}))
    assert_parts(load(original)[0], [], [])


def test_original_annotations_across_classes(original: Path) -> None:
    """A column names the class of each image; parts correspond by their names without numbers."""
    write_original(original, "b", make_object("b", "bus", 9, {"wheel_3": 2, "wheel_4": 7, "hood": 12}))
    header = "source_image,target_image,source_class,target_class"
    write_list(original, header, "JPEGImages/a.jpg,JPEGImages/b.jpg,7,bus")
    (pair,) = load(original)
    assert (pair.category, pair.group) == ("car-to-bus", "across")
    source, target = parts_of(pair)
    assert np.array_equal(source, [patch("a", 1), patch("a", 5)])
    assert np.array_equal(target, [patch("b", 12), patch("b", 2) | patch("b", 7)])


def test_derived_annotations_without_keypoints(derived: Path) -> None:
    write_derived(derived, "b", keypts=NONE, keypts_status=NONE)
    (pair,) = load(derived)
    assert len(pair.source_points) == len(pair.target_points) == 0


def test_derived_annotations_of_single_and_no_part(derived: Path) -> None:
    for image in SIZES:
        write_derived(derived, image, part_mask=patch(image, 4).astype(np.uint8), part_mask_status=[[1]])
    assert_parts(load(derived)[0], [4], [4])
    for image in SIZES:
        write_derived(derived, image, part_mask=NONE, part_mask_status=NONE)
    assert_parts(load(derived)[0], [], [])


@pytest.mark.parametrize(
    ("row", "changes", "reason"),
    [
        ("car_set_2/a.jpg", {}, "line 2: has 1 columns of 2"),
        ("car_set_2/c.jpg,car_set_2/b.jpg", {}, r"line 2: .*c\.jpg is missing"),
        ("../a.jpg,car_set_2/b.jpg", {}, "line 2: .*must be a path below"),
        ("/a.jpg,car_set_2/b.jpg", {}, "line 2: .*must be a path below"),
        (PAIR, {"keypts": np.ones((3, 3))}, r"a_new\.mat: 'keypts' \(3, 3\).* must be 2 x K and 1 x K"),
        (PAIR, {"keypts_status": [[1, 1]]}, r"a_new\.mat: .*'keypts_status' \(1, 2\) must be 2 x K and 1 x K"),
        (PAIR, {"keypts": "cat"}, r"a_new\.mat: keypts, keypts_status must be numbers"),
        (PAIR, {"keypts": np.ones((2, 2)), "keypts_status": [[1, 1]]}, "line 2: 2 source keypoints but 3 target"),
    ],
)
def test_bad_row_is_named_or_counted(derived: Path, row: str, changes: dict[str, object], reason: str) -> None:
    write_derived(derived, "a", **changes)
    write_list(derived, HEADER, row, "car_set_2/b.jpg,car_set_2/b.jpg")
    with pytest.raises(InputError, match=reason):
        load(derived)
    bad = PairErrors(skip=True)
    assert len(PASCAL_PARTS.load(derived, "test", bad)) == 1
    assert len(bad.reasons) == 1


def test_keypoints_outside_their_image_are_left_out_or_refused(derived: Path) -> None:
    write_derived(derived, "a", keypts=np.full((2, 3), 42.0))
    write_list(derived, HEADER, PAIR)
    with pytest.raises(InputError, match=r"line 2: source keypoint \(41, 41\) lies outside car_set_2/a\.jpg"):
        PASCAL_PARTS.load(derived, "test", PairErrors(strict=True))
    errors = PairErrors()
    assert PASCAL_PARTS.load(derived, "test", errors) == []
    assert ["(41, 41) lies outside" in reason for reason in errors.reasons] == [True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"part_mask": np.ones((20, 50, 3))}, r"a_new\.mat: 'part_mask' \(20, 50, 3\) .* its image \(30, 40\)"),
        ({"part_mask_status": [[1, 1]]}, r"a_new\.mat: .*'part_mask_status' \(1, 2\) must be"),
        (
            {"part_mask": np.ones((30, 40, 2)), "part_mask_status": [[1, 1]]},
            r"a_new\.mat has 2 parts, but .*b_new\.mat has 3",
        ),
    ],
)
def test_malformed_derived_parts_are_named(derived: Path, changes: dict[str, object], reason: str) -> None:
    write_derived(derived, "a", **changes)
    with pytest.raises(InputError, match=reason):
        parts_of(load(derived)[0])


@pytest.mark.parametrize(
    ("anno", "reason"),
    [
        ({"objects": structs(make_object("a", "cat", 9, {"head": 1}))}, "has no car"),
        (
            {"objects": structs(make_object("b", "car", 9, {"door": 1}))},
            r"part 'door' is \(20, 50\), but its image is \(30, 40\)",
        ),
        ({"objects": structs({"class": "car"})}, "'anno' is not as in PASCAL-Part"),
        (3, "'anno' is not as in PASCAL-Part"),
    ],
)
def test_malformed_original_parts_are_named(original: Path, anno: object, reason: str) -> None:
    scipy.io.savemat(original / "Annotations_Part" / "a.mat", {"anno": anno})
    with pytest.raises(InputError, match=rf"Annotations_Part/a\.mat: .*{reason}"):
        parts_of(load(original)[0])


def test_damaged_and_missing_annotations_are_named(derived: Path) -> None:
    annotation = derived / "car_set_2" / "b_new.mat"
    annotation.write_bytes(b"no matlab file")
    with pytest.raises(InputError, match=r"b_new\.mat: not a readable Matlab file"):
        load(derived)
    scipy.io.savemat(annotation, {"keypts": NONE})
    with pytest.raises(InputError, match=r"b_new\.mat: has no variable 'keypts_status'"):
        load(derived)
    annotation.unlink()
    with pytest.raises(
        InputError, match=r"line 2: the images need a_new\.mat and b_new\.mat .*Annotations_Part/a\.mat"
    ):
        load(derived)


def test_missing_list_and_unknown_split_are_named(tmp_path: Path) -> None:
    assert PASCAL_PARTS.splits(tmp_path) == []
    with pytest.raises(InputError, match=r"pascal-parts needs .*/Annotations_Part, .*; download trainval\.tar\.gz"):
        load(tmp_path)
    with pytest.raises(InputError, match="pascal-parts has no split 'val'; choose from test"):
        PASCAL_PARTS.load(tmp_path, "val", PairErrors())
