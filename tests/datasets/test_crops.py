"""Crop tables, and photographs cut to them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.datasets.crops import Crop, read_crops, read_true_boxes, with_crops, write_crops
from geomatch.datasets.image_list import LabelledImage
from geomatch.errors import InputError
from tests.datasets.layouts import write_shard


def photograph(name: str, *labels: str) -> LabelledImage:
    return LabelledImage(name, Path(name), labels)


@pytest.fixture
def picture(tmp_path: Path) -> LabelledImage:
    """20 x 10 pixels; red is the column, green the row."""
    rows, columns = np.mgrid[:10, :20].astype(np.uint8)
    Image.fromarray(np.stack((columns, rows, rows), axis=2)).save(tmp_path / "a.png")
    return LabelledImage("a.png", tmp_path / "a.png", ("cat",))


def shown(photograph: LabelledImage) -> tuple[list[int], list[int]]:
    """The columns and the rows of `picture` that are loaded."""
    pixels = photograph.load()
    return pixels[0, 0].tolist(), pixels[1, :, 0].tolist()


def test_crop_loads_pixels_by_centre(picture: LabelledImage) -> None:
    [cut] = with_crops([picture], [Crop("a.png", "cat", (2.5, 3.0, 6.5, 4.9), 1.0)], margin=0)
    assert shown(cut) == ([3, 4, 5, 6], [3, 4])


def test_crop_margin_ends_at_image_border(picture: LabelledImage) -> None:
    [cut] = with_crops([picture], [Crop("a.png", "cat", (9.5, 5.5, 19.5, 9.5), 1.0)], margin=0.25)
    assert shown(cut) == ([*range(7, 20)], [*range(5, 10)])


def test_crop_of_whole_image_is_identity(picture: LabelledImage) -> None:
    [cut] = with_crops([picture], [Crop("a.png", "cat", (-0.5, -0.5, 19.5, 9.5), 1.0)], margin=0)
    assert torch.equal(cut.load(), picture.load())


@pytest.mark.parametrize("box", [(30.0, 2.0, 40.0, 8.0), (-9.0, 2.0, -3.0, 8.0), (2.2, 2.0, 2.8, 8.0)])
def test_crop_without_pixels_is_refused(box: tuple[float, float, float, float], picture: LabelledImage) -> None:
    [cut] = with_crops([picture], [Crop("a.png", "cat", box, 1.0)], margin=0)
    with pytest.raises(InputError, match=r"a\.png.*no pixel"):
        cut.load()


def test_with_crops_splits_labels() -> None:
    photographs = [
        photograph("a", "cat", "dog"),
        photograph("b", "cow", "dog"),
        photograph("c", "cat"),
        photograph("d"),
    ]
    crops = [
        Crop("b", "dog", (0.0, 0.0, 10.0, 20.0), 0.5),
        Crop("a", "dog", (1.0, 1.0, 2.0, 2.0), 0.5),
        Crop("a", "cat", (3.0, 3.0, 4.0, 4.0), 0.5),
        Crop("c", "horse", (3.0, 3.0, 4.0, 4.0), 0.5),
        Crop("elsewhere", "cat", (3.0, 3.0, 4.0, 4.0), 0.5),
    ]
    seen = [(each.name, each.labels, each.crop) for each in with_crops(photographs, crops, margin=0.1)]
    assert seen == [
        ("a", ("dog",), pytest.approx((0.9, 0.9, 2.1, 2.1))),
        ("a", ("cat",), pytest.approx((2.9, 2.9, 4.1, 4.1))),
        ("b", ("dog",), (-1.0, -2.0, 11.0, 22.0)),
        ("b", ("cow",), None),
        ("c", ("cat",), None),
        ("d", (), None),
    ]


def test_with_crops_refuses_other_images() -> None:
    with pytest.raises(InputError, match="has none of the photographs"):
        with_crops([photograph("a", "cat")], [Crop("b", "cat", (0.0, 0.0, 1.0, 1.0), 1.0)])


def test_crops_round_trip_to_tenth_of_pixel(tmp_path: Path) -> None:
    crops = [
        Crop("x, y.png", "cat", (-0.5, 1.04, 20.26, 30.0), 0.12345),
        Crop("é.png", "dog", (1.0, 2.0, 3.0, 4.0), 1.0),
    ]
    write_crops(tmp_path / "crops.csv", crops)
    assert read_crops(tmp_path / "crops.csv") == [
        Crop("x, y.png", "cat", (-0.5, 1.0, 20.3, 30.0), 0.1235),
        Crop("é.png", "dog", (1.0, 2.0, 3.0, 4.0), 1.0),
    ]


HEADER = "file,label,left,top,right,bottom,score\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file,label,left\n", "columns file, label, left"),
        (HEADER + "a,cat,1,2,3,4,.5\na,cat,1,2,x,4,.5\n", "line 3.*numbers"),
        (HEADER + "a,cat,1,2\n", "line 2.*nothing in the column 'right'"),
        (HEADER + "a,cat,3,2,1,4,.5\n", "line 2.*not a box"),
        (HEADER + "a,cat,1,2,nan,4,.5\n", "line 2.*not a box"),
        ("\xff", "not text in UTF-8"),
    ],
)
def test_read_crops_names_bad_line(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "crops.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        read_crops(tmp_path / "crops.csv")


def test_read_crops_names_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_crops(tmp_path / "none.csv")


def test_read_true_boxes_from_label_table(tmp_path: Path) -> None:
    boxes = '[["cat", 1, 2, 3, 4], ["dog", 5, 6, 7, 8.5], ["cat", 0, 0, 9, 9]]'
    write_shard(tmp_path, {"a.png": ("cat dog", boxes), "b.png": ("cat", "")})
    truth = {("a.png", "cat"): [(1, 2, 3, 4), (0, 0, 9, 9)], ("a.png", "dog"): [(5, 6, 7, 8.5)]}
    assert read_true_boxes([tmp_path]) == truth
    assert read_true_boxes([tmp_path / "shard.tar"]) == truth


def test_read_true_boxes_of_image_folder_is_empty(picture: LabelledImage) -> None:
    assert read_true_boxes([picture.path.parent]) == {}


@pytest.mark.parametrize("boxes", ["[1, 2]", "cat", '[["cat", 1, 2, 3]]', '[["cat", 1, 2, 3, "x"]]'])
def test_read_true_boxes_names_bad_line(boxes: str, tmp_path: Path) -> None:
    write_shard(tmp_path, {"a.png": ("cat", boxes)})
    with pytest.raises(InputError, match=r"labels\.csv, line 2: boxes must be JSON"):
        read_true_boxes([tmp_path])
