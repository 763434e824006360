"""PASCAL-Part from its official files: pairs drawn within and across classes, on crops of the objects."""

import warnings
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from geomatch.datasets.benchmarks.pascal_part.part_objects import PartObject, common_parts, overlap, shared_name
from geomatch.datasets.benchmarks.pascal_part.part_sets import SET_SIZE, SETS, draw_across, draw_within
from geomatch.datasets.benchmarks.pascal_part.pascal_parts import PASCAL_PARTS, PASCAL_PARTS_ACROSS
from geomatch.datasets.benchmarks.pascal_part.voc_objects import VocObject
from geomatch.datasets.pairs import AnnotatedPair, Mask, PairErrors
from geomatch.errors import GeomatchWarning, InputError
from tests.datasets.layouts import OBJECT_BOX, PARTS_SIZE, structs, write_part_image, write_pascal_parts

CROP = (1, 8, 109, 97)
"""OBJECT_BOX, 90 x 75 pixels, with a tenth of its width less one and height less one more on each side."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pascal_parts(tmp_path / "PASCAL-Parts")


def load(root: Path, *, across: bool = False, errors: PairErrors | None = None) -> list[AnnotatedPair]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeomatchWarning)
        benchmark = PASCAL_PARTS_ACROSS if across else PASCAL_PARTS
        return benchmark.load(root, "test", errors or PairErrors())


def of_class(pairs: list[AnnotatedPair], category: str) -> list[AnnotatedPair]:
    return [pair for pair in pairs if pair.category == category]


def stem(pair: AnnotatedPair) -> tuple[str, str]:
    source, target = (image.name.split(".")[0] for image in (pair.source, pair.target))
    return source, target


def square(corner: int) -> Mask:
    """A part of `write_pascal_parts`, on the crop."""
    mask = np.zeros(PARTS_SIZE, bool)
    mask[corner : corner + 5, corner : corner + 5] = True
    left, top, right, bottom = CROP
    return mask[top:bottom, left:right]


def parts_of(pair: AnnotatedPair) -> tuple[Mask, Mask]:
    assert pair.parts is not None
    return pair.parts()


def test_within_class_all_ordered_pairs_of_each_set(root: Path) -> None:
    """A car that is seen from the right is alone in its set; cut, difficult and small ones are in none."""
    pairs = load(root)
    assert Counter(pair.category for pair in pairs) == {"car": 12, "bus": 2, "boat": 2}
    assert {stem(pair) for pair in of_class(pairs, "car")} == set(permutations(("car1", "car2", "car3", "car4"), 2))
    assert {pair.group for pair in pairs} == {None}


def test_images_masks_and_parts_are_cropped_alike(root: Path) -> None:
    pair = of_class(load(root), "car")[0]
    left, top, right, bottom = CROP
    whole = np.asarray(Image.open(root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "car1.jpg"))
    assert np.array_equal(pair.source.load().numpy(), whole[top:bottom, left:right].transpose(2, 0, 1))
    assert pair.masks is not None
    expected = np.zeros(PARTS_SIZE, bool)
    expected[OBJECT_BOX[1] : OBJECT_BOX[3] + 1, OBJECT_BOX[0] : OBJECT_BOX[2] + 1] = True
    for mask in pair.masks():
        assert np.array_equal(mask, expected[top:bottom, left:right])
    for parts in parts_of(pair):
        assert np.array_equal(parts, [square(60), square(20), square(40)])


def test_keypoints_visible_in_both_lie_on_the_crop(root: Path) -> None:
    pairs = {stem(pair): pair for pair in load(root)}
    left, top, *_ = CROP
    both = pairs["car1", "car2"]
    assert both.source_points.tolist() == both.target_points.tolist() == [[40 - left, 50 - top], [20 - left, 30 - top]]
    hidden = pairs["car1", "car4"]
    assert hidden.source_points.tolist() == [[20 - left, 30 - top]]
    assert hidden.target_points.tolist() == [[24 - left, 34 - top]]
    assert len(pairs["bus1", "bus2"].source_points) == 0


def test_parts_in_common_none_or_the_whole_object(root: Path) -> None:
    pairs = {stem(pair): pair for pair in load(root)}
    size = CROP[3] - CROP[1], CROP[2] - CROP[0]
    assert [parts.shape for parts in parts_of(pairs["bus1", "bus2"])] == [(0, *size)] * 2
    boat = pairs["boat1", "boat2"]
    assert boat.masks is not None
    for parts, mask in zip(parts_of(boat), boat.masks(), strict=True):
        assert np.array_equal(parts, mask[None])


def test_across_classes_every_object_with_every_other(root: Path) -> None:
    pairs = load(root, across=True)
    assert Counter(pair.category for pair in pairs) == {
        "car-to-bus": 8,
        "bus-to-car": 8,
        "cat-to-horse": 1,
        "horse-to-cat": 1,
    }
    assert {pair.group for pair in pairs} == {"across"}
    source, target = parts_of(of_class(pairs, "cat-to-horse")[0])  # foot, leg, muzzle
    assert np.array_equal(source, [square(40), square(20), square(60)])
    assert np.array_equal(target, [square(42), square(22) | square(32), square(62)])
    source, target = parts_of(next(pair for pair in pairs if stem(pair) == ("car1", "bus1")))
    assert np.array_equal(source, [square(60), square(20) | square(40)])
    assert np.array_equal(target, [square(62), square(22)])


@pytest.mark.parametrize("drawn", [draw_within, draw_across])
def test_draw_takes_at_most_a_set_and_is_the_same_again(drawn: object) -> None:
    assert callable(drawn)
    poses = {"Frontal": 3, "Left": 30, "Rear": 12, "Right": 20}
    sets = {
        (category, pose): [
            VocObject(f"{category}{pose}{number}", category, pose, OBJECT_BOX) for number in range(count)
        ]
        for category in ("cat", "dog")
        for pose, count in poses.items()
    }
    pairs = list(drawn(sets))
    assert pairs == list(drawn(sets))
    assert len(pairs) == len(set(pairs))
    used = {each for pair in pairs for each in pair}
    assert {each.pose for each in used} == ({"Left", "Right"} if drawn is draw_within else {"Left"})
    if drawn is draw_within:
        assert len(pairs) == 2 * SETS * SET_SIZE * (SET_SIZE - 1)
        assert all(a.pose == b.pose and a.category == b.category and a != b for a, b in pairs)
    else:
        assert len(pairs) == 2 * SET_SIZE**2
        assert all(a.category != b.category for a, b in pairs)


def test_shared_names_of_parts() -> None:
    assert shared_name("lbho") == shared_name("lbpa")
    assert shared_name("rfuleg") == shared_name("rflleg") == shared_name("rfleg")
    assert len({shared_name(name) for name in ("lfleg", "rfleg", "lbleg", "rbleg", "lfpa")}) == 5
    assert shared_name("beak") == shared_name("nose") == "muzzle"
    assert shared_name("leftmirror") == "leftmirror"


def test_numbered_parts_stay_apart_within_a_class() -> None:
    mask = np.ones((2, 2), bool)
    car = PartObject("car", mask, {"wheel_1": mask, "wheel_2": mask})
    assert len(common_parts(car, car)[0]) == 2
    assert len(common_parts(car, PartObject("bus", mask, {"wheel_3": mask}))[0]) == 1


def test_overlap_of_boxes_counts_pixels() -> None:
    first, second = (2, 1, 7, 6), (5, 3, 9, 9)
    inside = [
        {(x, y) for x in range(left, right + 1) for y in range(top, bottom + 1)}
        for left, top, right, bottom in (first, second)
    ]
    assert overlap(first, second) == len(inside[0] & inside[1]) / len(inside[0] | inside[1])
    assert overlap(first, (8, 1, 9, 6)) == 0


def test_drawn_pairs_warn(root: Path) -> None:
    with pytest.warns(
        GeomatchWarning, match="drawn from .*Annotations_Part with seed 0; their scores cannot be compared"
    ):
        PASCAL_PARTS.load(root, "test", PairErrors())


def test_every_place_that_archives_unpack_to(root: Path) -> None:
    expected = [stem(pair) for pair in load(root)]
    (root / "trainval").mkdir()
    (root / "Annotations_Part").rename(root / "trainval" / "Annotations_Part")
    (root / "VOCdevkit" / "VOC2010").rename(root / "VOC2010")
    assert [stem(pair) for pair in load(root)] == expected
    for name in ("JPEGImages", "Annotations"):
        (root / "VOC2010" / name).rename(root / name)
    assert [stem(pair) for pair in load(root)] == expected
    assert PASCAL_PARTS.splits(root) == PASCAL_PARTS_ACROSS.splits(root) == ["test"]


@pytest.mark.parametrize(
    "missing", ["VOCdevkit/VOC2010/JPEGImages", "VOCdevkit/VOC2010/Annotations", "Annotations_Part"]
)
def test_half_a_download_is_named(root: Path, missing: str) -> None:
    (root / missing).rename(root / "elsewhere")
    assert PASCAL_PARTS.splits(root) == []
    with pytest.raises(
        InputError, match=rf"pascal-parts needs .*{missing}.*; download trainval\.tar\.gz \(PASCAL-Part\)"
    ):
        load(root)


def test_lost_image_is_named_or_counted(root: Path) -> None:
    (root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "bus2.jpg").unlink()
    with pytest.raises(InputError, match=r"bus2\.jpg: missing, but annotated"):
        load(root)
    errors = PairErrors(skip=True)
    assert "bus" not in {pair.category for pair in load(root, errors=errors)}
    assert len(errors.reasons) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>", "no element found|not an annotation of PASCAL VOC"),
        ("<a><object><name>car</name></object></a>", "an object has no bndbox"),
        ("<a><object><bndbox><xmin>left</xmin></bndbox></object></a>", "could not convert"),
    ],
)
def test_malformed_voc_annotation_is_named(root: Path, text: str, reason: str) -> None:
    (root / "VOCdevkit" / "VOC2010" / "Annotations" / "car1.xml").write_text(text)
    with pytest.raises(InputError, match=rf"car1\.xml: not an annotation of PASCAL VOC .*({reason})"):
        load(root)


def test_masks_of_another_size_are_named(root: Path) -> None:
    write_part_image(root, "bus1", "bus", {"wheel_1": 22})
    Image.new("RGB", (110, 100)).save(root / "VOCdevkit" / "VOC2010" / "JPEGImages" / "bus1.jpg")
    pair = next(pair for pair in load(root) if stem(pair) == ("bus1", "bus2"))
    with pytest.raises(
        InputError, match=r"bus1\.mat: the mask of object 'bus' is \(100, 120\), but its image is \(100, 110\)"
    ):
        parts_of(pair)


def test_object_that_voc_and_parts_disagree_on_is_named(root: Path) -> None:
    objects = structs({"class": "bus", "mask": np.eye(*PARTS_SIZE) > 1, "parts": np.zeros((0, 0))})
    scipy.io.savemat(root / "Annotations_Part" / "bus1.mat", {"anno": {"objects": objects}})
    pair = next(pair for pair in load(root) if stem(pair) == ("bus1", "bus2"))
    with pytest.raises(InputError, match=r"bus1\.mat: has no bus in the box 10, 15, 99, 89"):
        parts_of(pair)


def test_malformed_keypoints_are_named(root: Path) -> None:
    file = root / "PASCAL3D+_release1.1" / "Annotations" / "car_pascal" / "car1.mat"
    scipy.io.savemat(file, {"record": {"objects": structs({"class": "car"})}})
    with pytest.raises(InputError, match=r"car1\.mat: 'record' is not as in PASCAL3D\+"):
        load(root)
    file.unlink()
    assert len(next(pair for pair in load(root) if stem(pair) == ("car1", "car2")).source_points) == 0


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """FlowWeb's folder: three images of a set of cars, two of a set of cats, 20 x 30 pixels."""
    for name, count in (("car_set_2", 3), ("cat_set_1", 2)):
        folder = tmp_path / "pascal" / "data" / name
        folder.mkdir(parents=True)
        for number in range(1, count + 1):
            Image.new("RGB", (30, 20)).save(folder / f"{number:03}.jpg")
            mask = np.zeros((20, 30), np.uint8)
            mask[number, 3:9] = 1
            parts = structs({"partName": "door", "mask": mask}, {"partName": f"own{number}", "mask": mask})
            keypoints = {"keypts": np.array([[5.0, 6, 7], [8, 9, 10]]), "keypts_status": np.array([[1, number - 1, 1]])}
            scipy.io.savemat(folder / f"{number:03}.mat", {"parts": parts, **keypoints})
    return tmp_path


def test_flowweb_sets_all_ordered_pairs(sets: Path) -> None:
    assert PASCAL_PARTS.splits(sets) == ["test"]
    pairs = PASCAL_PARTS.load(sets, "test", PairErrors())
    assert Counter(pair.category for pair in pairs) == {"car": 6, "cat": 2}
    first = pairs[0]
    assert (first.source.name, first.target.name) == ("car_set_2/001.jpg", "car_set_2/002.jpg")
    assert first.source_points.tolist() == [[4, 7], [6, 9]]
    assert len(pairs[3].source_points) == 3
    source, target = parts_of(first)
    assert source.shape == target.shape == (1, 20, 30)
    assert (source[0].nonzero()[0].tolist(), target[0].nonzero()[0].tolist()) == ([1] * 6, [2] * 6)


def test_flowweb_malformed_parts_are_named(sets: Path) -> None:
    file = sets / "pascal" / "data" / "cat_set_1" / "001.mat"
    sound = {"keypts": np.zeros((0, 0)), "keypts_status": np.zeros((0, 0))}
    for parts, reason in (
        (
            structs({"partName": "door", "mask": np.zeros((5, 5))}),
            r"part 'door' is \(5, 5\), but its image is \(20, 30\)",
        ),
        (np.zeros((2, 2)), "'parts' is not as FlowWeb's"),
    ):
        scipy.io.savemat(file, {"parts": parts, **sound})
        pair = of_class(PASCAL_PARTS.load(sets, "test", PairErrors()), "cat")[0]
        with pytest.raises(InputError, match=rf"001\.mat: .*{reason}"):
            parts_of(pair)
