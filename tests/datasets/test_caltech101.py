from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from geomatch.datasets.benchmarks.caltech101 import ANNOTATED_AS, CALTECH_101, IMAGES, LIST, draw_pairs
from geomatch.datasets.pairs import AnnotatedPair, Mask, PairErrors
from geomatch.errors import GeomatchWarning, InputError

HEADER = "source_image,target_image,class,XA,YA,XB,YB"
PAIR = f"{IMAGES}/anchor/image_0001.jpg,{IMAGES}/anchor/image_0002.jpg"
TRIANGLE, SQUARE = '"1,5,1","1,1,5"', '"2,4,4,2","2,2,3,3"'
BLANK = "." * 8
DRAWN = "pairs per class are drawn with seed 0"


def drawing(*rows: str) -> Mask:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def write_images(root: Path, category: str, count: int) -> None:
    """Images of 8x7 pixels."""
    folder = root / IMAGES / category
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", (8, 7)).save(folder / f"image_{number:04}.jpg")


def write_annotations(root: Path, folder: str, count: int, contour: object, box: Sequence[float]) -> None:
    (root / "Annotations" / folder).mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        path = root / "Annotations" / folder / f"annotation_{number:04}.mat"
        scipy.io.savemat(path, {"obj_contour": np.array(contour, dtype=float), "box_coord": np.array([box])})


def write_list(root: Path, *rows: str) -> None:
    (root / LIST).write_text("\n".join((HEADER, *rows)) + "\n")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Two images and their list, with one pair: a triangle and a rectangle."""
    write_images(tmp_path, "anchor", 2)
    write_list(tmp_path, f"{PAIR},7,{TRIANGLE},{SQUARE}")
    return tmp_path


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    """Two annotated classes and clutter, no list. The contour is a triangle whose box begins at x = 3, y = 2."""
    for category, count in (("anchor", 6), ("ant", 2)):
        write_images(tmp_path, category, count)
        write_annotations(tmp_path, category, count, [[0, 3, 0, 0], [0, 0, 3, 0]], [3, 6, 4, 7])
    write_images(tmp_path, "BACKGROUND_Google", 2)
    return tmp_path


def load(root: Path) -> list[AnnotatedPair]:
    return CALTECH_101.load(root, "test", PairErrors())


def masks_of(pair: AnnotatedPair) -> tuple[Mask, Mask]:
    assert pair.masks is not None
    return pair.masks()


def test_listed_pair_has_masks_and_boxes(listed: Path) -> None:
    (pair,) = load(listed)
    triangle, rectangle = masks_of(pair)
    assert np.array_equal(triangle, drawing(BLANK, ".#####..", ".####...", ".###....", ".##.....", ".#......", BLANK))
    assert np.array_equal(rectangle, drawing(BLANK, BLANK, "..###...", "..###...", BLANK, BLANK, BLANK))
    assert (pair.source_box, pair.target_box) == ((1, 1, 5, 5), (2, 2, 4, 3))
    assert (pair.source.name, pair.category) == (f"{IMAGES}/anchor/image_0001.jpg", "anchor")
    assert pair.annotation_files == (listed / LIST,)


def test_mask_is_cut_at_image_border(listed: Path) -> None:
    write_list(listed, f'{PAIR},7,"-5,3,3,-5","-5,-5,1,1",{SQUARE}')
    (pair,) = load(listed)
    assert np.array_equal(masks_of(pair)[0], drawing("####....", "####....", *[BLANK] * 5))
    assert pair.source_box == (0, 0, 3, 1)


def test_annotated_outline_is_relative_to_box(annotated: Path) -> None:
    with pytest.warns(GeomatchWarning, match=DRAWN):
        pair = load(annotated)[0]
    expected = drawing(BLANK, BLANK, "...####.", "...###..", "...##...", "...#....", BLANK)
    assert all(np.array_equal(mask, expected) for mask in masks_of(pair))
    assert pair.source_box == (3, 2, 6, 5)
    numbers = [Path(image.name).stem.removeprefix("image_") for image in (pair.source, pair.target)]
    assert pair.annotation_files == tuple(
        annotated / "Annotations/anchor" / f"annotation_{number}.mat" for number in numbers
    )


def test_drawn_pairs_are_deterministic(annotated: Path) -> None:
    with pytest.warns(GeomatchWarning, match=rf"{LIST} is missing: 15 {DRAWN}; their scores cannot be compared"):
        first, second = load(annotated), load(annotated)
    names = [(pair.source.name, pair.target.name) for pair in first]
    assert names == [(pair.source.name, pair.target.name) for pair in second]
    assert len(set(names)) == len(names)
    assert all(source != target for source, target in names)
    assert [pair.category for pair in first] == ["anchor"] * 15 + ["ant"] * 2


def test_draw_pairs_same_on_every_machine() -> None:
    assert draw_pairs(["a", "b", "c"])[:3] == [("c", "b"), ("b", "a"), ("a", "c")]


@pytest.mark.parametrize("category", ANNOTATED_AS)
@pytest.mark.parametrize("renamed", [False, True])
def test_annotations_under_original_name(tmp_path: Path, category: str, renamed: bool) -> None:
    folder = category if renamed else ANNOTATED_AS[category]
    write_images(tmp_path, category, 2)
    write_annotations(tmp_path, folder, 2, [[0, 3, 0], [0, 0, 3]], [1, 4, 1, 4])
    with pytest.warns(GeomatchWarning, match=DRAWN):
        pairs = load(tmp_path)
    assert [(pair.category, pair.annotation_files[0].parent.name) for pair in pairs] == [(category, folder)] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"{PAIR},7,{TRIANGLE}", "has 5 columns of 7"),
        (f'{PAIR},7,"1,x,1","1,1,5",{SQUARE}', "must be numbers joined by ','"),
        (f'{PAIR},7,"1,5,1","1,1",{SQUARE}', "as many x as y"),
        (f'{PAIR},7,"1,5","1,1",{SQUARE}', "at least 3 finite points and has 2"),
        (f'{PAIR},7,"1,5,nan","1,1,5",{SQUARE}', "at least 3 finite points"),
        (f'{PAIR},7,"91,95,91","1,1,5",{SQUARE}', r"encloses no pixel of .*image_0001\.jpg"),
        (f"{IMAGES}/anchor/image_0009.jpg,{PAIR.split(',')[0]},7,{TRIANGLE},{SQUARE}", r"image_0009\.jpg is missing"),
        (f"../anchor/image_0001.jpg,{PAIR.split(',')[0]},7,{TRIANGLE},{SQUARE}", "must be a path below"),
        (f"/anchor/image_0001.jpg,{PAIR.split(',')[0]},7,{TRIANGLE},{SQUARE}", "must be a path below"),
    ],
)
def test_bad_row_is_named_or_counted(listed: Path, row: str, reason: str) -> None:
    write_list(listed, row, f"{PAIR},7,{TRIANGLE},{SQUARE}")
    with pytest.raises(InputError, match=rf"{LIST}, line 2: .*{reason}"):
        load(listed)
    bad = PairErrors(skip=True)
    assert len(CALTECH_101.load(listed, "test", bad)) == 1
    assert len(bad.reasons) == 1


@pytest.mark.filterwarnings(f"ignore:.*{DRAWN}")
def test_bad_annotation_is_named_or_counted(annotated: Path) -> None:
    write_annotations(annotated, "ant", 2, [[0, 3, 0]], [1, 4, 1, 4])
    with pytest.raises(InputError, match=r"ant/annotation_000.\.mat: .* must be 2 x N and 1 x 4"):
        load(annotated)
    write_annotations(annotated, "ant", 2, [[0, 3], [0, 0]], [1, 4, 1, 4])
    with pytest.raises(InputError, match=r"ant/annotation_000.\.mat: .* at least 3 finite points"):
        load(annotated)
    annotation = annotated / "Annotations" / "ant" / "annotation_0002.mat"
    annotation.write_bytes(b"no matlab file")
    with pytest.raises(InputError, match=r"ant/annotation_0002\.mat: not a readable Matlab file"):
        load(annotated)
    annotation.unlink()
    with pytest.raises(InputError, match=r"ant/annotation_0002\.mat: missing"):
        load(annotated)
    bad = PairErrors(skip=True)
    assert len(CALTECH_101.load(annotated, "test", bad)) == 15
    assert len(bad.reasons) == 2


def test_missing_folders_and_splits_are_named(tmp_path: Path) -> None:
    assert CALTECH_101.splits(tmp_path) == []
    with pytest.raises(InputError, match="caltech-101 has no split 'trn'; choose from test"):
        CALTECH_101.load(tmp_path, "trn", PairErrors())
    with pytest.raises(
        InputError, match=rf"needs .*/{IMAGES}, .*/Annotations; download 101_ObjectCategories.* from https"
    ):
        load(tmp_path)
