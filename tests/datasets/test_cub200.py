from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from geomatch.datasets.benchmarks.cub200 import CUB_200, square_around
from geomatch.datasets.pairs import AnnotatedPair, PairErrors
from geomatch.errors import InputError
from tests.datasets.layouts import structs, write_cub


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    return write_cub(tmp_path / "CUB_200_2011")


def load(root: Path, split: str = "test") -> list[AnnotatedPair]:
    return CUB_200.load(root, split, PairErrors())


def crop_of_asic(x1: float, y1: float, x2: float, y2: float) -> tuple[int, int, int]:
    """``perturb_bbox`` and ``square_bbox``, line by line, of a box whose pixels count from 1."""

    def rounded(value: float) -> int:
        return int(Decimal(value).to_integral_value(ROUND_HALF_UP))

    box = [x1 - 1, y1 - 1, x2 - 1, y2 - 1]
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    box = [box[0] - 0.05 * width, box[1] - 0.05 * height, box[2] + 0.05 * width, box[3] + 0.05 * height]
    square = [rounded(value) for value in box]
    width, height = square[2] - square[0] + 1, square[3] - square[1] + 1
    largest = float(max(width, height))
    square[0] -= rounded((largest - width) / 2)
    square[1] -= rounded((largest - height) / 2)
    return square[0], square[1], int(largest)


def test_crop_is_that_of_asic() -> None:
    for left, top, width, height in np.random.default_rng(0).integers(1, 400, (200, 4)).astype(float):
        expected = crop_of_asic(left, top, left + width, top + height)
        assert square_around((left, top, width, height)) == expected


def test_all_pairs_of_a_class_in_both_directions(cub: Path) -> None:
    pairs = load(cub)
    assert [pair.category for pair in pairs] == ["001.Albatross"] * 6 + ["002.Auklet"] * 2
    names = [(Path(pair.source.name).stem, Path(pair.target.name).stem) for pair in pairs]
    assert names == [("1", "2"), ("1", "4"), ("2", "1"), ("2", "4"), ("4", "1"), ("4", "2"), ("5", "6"), ("6", "5")]
    with pytest.raises(InputError, match="has no split 'val'"):
        load(cub, "val")
    assert load(cub.parent, "trn") == [], "one image makes no pair"


def test_cleaned_list_of_acsm_is_used(cub: Path) -> None:
    """Images 1, 3 and 6: of the first class only these two, though 3 is for training, and none beside 6."""
    file = cub / "cachedir" / "cub" / "data" / "test_cub_cleaned.mat"
    file.parent.mkdir(parents=True)
    names = ("001.Albatross/1.jpg", "001.Albatross/3.jpg", "002.Auklet/6.jpg")
    scipy.io.savemat(file, {"images": structs(*({"id": 1, "rel_path": name} for name in names))})
    assert [(Path(pair.source.name).stem, Path(pair.target.name).stem) for pair in load(cub)] == [
        ("1", "3"),
        ("3", "1"),
    ]
    for content, reason in (
        ({"images": structs({"rel_path": "9.jpg"})}, "lacks '9.jpg'"),
        ({"images": np.zeros(3)}, "has no field 'rel_path'"),
        ({"other": 1}, "has no variable 'images'"),
    ):
        scipy.io.savemat(file, content)
        with pytest.raises(InputError, match=rf"test_cub_cleaned\.mat.*{reason}"):
            load(cub)


def test_keypoints_are_in_the_crop(cub: Path) -> None:
    """The part of image 1 that is not visible is its first, of image 2 its second."""
    pair = load(cub)[0]
    left, top, side = square_around((11, 12, 50, 30))
    assert pair.source.load().shape == (3, side, side)
    numbers = np.arange(3, 16)
    expected = np.stack((20.0 + numbers - 1 - left, np.full(13, 16.0 - 1 - top)), axis=1)
    np.testing.assert_allclose(pair.source_points, expected)
    np.testing.assert_allclose(pair.hidden_points, [[22.0 - 1 - left, 16.0 - 1 - top]])


def test_crop_repeats_the_border(cub: Path) -> None:
    """The crop of the first image begins above it."""
    image = load(cub)[0].source
    left, top, side = square_around((11, 12, 50, 30))
    assert top < 0 <= left
    pixels = np.asarray(Image.open(cub / "images" / "001.Albatross" / "1.jpg"))
    found = image.load().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(
        found[: -top + 1], np.broadcast_to(pixels[0, left : left + side], (-top + 1, side, 3))
    )
    np.testing.assert_array_equal(found[-top:], pixels[: side + top, left : left + side])
    assert image.fingerprint() != load(cub)[1].target.fingerprint()


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("images.txt", "1 ../../secret.jpg", "must be a path below"),
        ("images.txt", "1 001.Albatross/9.jpg", r"9\.jpg is missing; unpack the images again"),
        ("images.txt", "one 1.jpg", r"images\.txt, line 7: 'one' is not a whole number"),
        ("bounding_boxes.txt", "1 1 1 0 5", r"bounding_boxes\.txt, line 7: a box without area"),
        ("bounding_boxes.txt", "1 1 1", r"bounding_boxes\.txt, line 7"),
        ("parts/part_locs.txt", "1 16 1 1 1", "part 16 is none of 1 to 15"),
        ("image_class_labels.txt", "1 99\n2 99", r"the lists do not belong together: lacks 99"),
        ("train_test_split.txt", "77 0", "the lists do not belong together: lacks 77"),
    ],
)
def test_bad_list_is_named(cub: Path, name: str, line: str, reason: str) -> None:
    """A line that is added at the end counts more than an earlier one of the same number."""
    file = cub / name
    file.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(InputError, match=reason):
        load(cub)


def test_half_a_download_names_the_missing_lists(cub: Path) -> None:
    (cub / "parts" / "part_locs.txt").unlink()
    assert CUB_200.splits(cub) == []
    with pytest.raises(InputError, match=r"cub-200 needs .*part_locs\.txt; download CUB_200_2011\.tgz from https"):
        load(cub)
