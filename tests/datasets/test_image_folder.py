from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.datasets.image_folder import ImageReader, LabelledImage, find_images, hold_out
from geomatch.errors import InputError
from tests.datasets.layouts import write_shard


def folder_of(folder: Path, good: str, bad: str = "") -> list[LabelledImage]:
    """Photographs named by letters; the bad ones are no images."""
    for number, name in enumerate(good):
        Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(folder / f"{name}.png")
    for name in bad:
        (folder / f"{name}.png").write_bytes(b"no picture")
    return [LabelledImage(name, folder / f"{name}.png", ()) for name in sorted(good + bad)]


def test_attempt_skips_damaged_images_in_order(tmp_path: Path) -> None:
    photographs = folder_of(tmp_path, good="bdef", bad="ac")
    reader = ImageReader(len(photographs), tolerated=0.5)
    reading = reader.attempt(photographs, 3)
    assert [int(pixels[0, 0, 0]) for pixels in reading.pixels] == [0, 1, 2]  # b, d, e
    assert [photograph.name for photograph in reading.images] == ["b", "d", "e"]
    assert list(reading.damaged) == ["a", "c"]


def test_attempt_changes_nothing_and_admit_records_once(tmp_path: Path) -> None:
    photographs = folder_of(tmp_path, good="bd", bad="ac")
    reader = ImageReader(len(photographs), tolerated=0.5)
    readings = [reader.attempt(photographs, 2) for _ in range(3)]
    assert reader.unreadable == []
    for reading in readings:
        assert reader.admit(reading) is reading.pixels
    assert reader.unreadable == ["a", "c"]


def test_admit_refuses_too_many_damaged_images(tmp_path: Path) -> None:
    photographs = folder_of(tmp_path, good="xyz", bad="abc")
    reader = ImageReader(len(photographs), tolerated=0.2)  # one of six
    assert len(reader.read([photographs[0], photographs[3]], 1)) == 1
    reading = reader.attempt(photographs[1:], 3)
    with pytest.raises(InputError, match=r"2 of 6 photographs cannot be read, more than the 20\.0%.*the last: .*b"):
        reader.admit(reading)
    assert list(reader.attempt(photographs, 3).damaged) == ["a", "b"]  # no use in trying further


def test_read_refuses_batch_without_readable_image(tmp_path: Path) -> None:
    photographs = folder_of(tmp_path, good="", bad="ab")
    reader = ImageReader(len(photographs), tolerated=1)
    with pytest.raises(InputError, match="none of the photographs of a batch can be read; the last: b"):
        reader.read(photographs, 2)


def test_hold_out_depends_on_name_alone() -> None:
    photographs = [LabelledImage(f"{number}.jpg", Path("x"), ()) for number in range(2000)]
    kept, held = hold_out(photographs, 0.1)
    assert sorted(kept + held, key=lambda each: int(each.name[:-4])) == photographs
    assert len(held) == pytest.approx(200, abs=45)
    assert hold_out(photographs[::-3], 0.1)[1] == [each for each in photographs[::-3] if each in held]
    assert hold_out(photographs, 0) == (photographs, [])


def test_hold_out_accepts_non_unicode_name() -> None:
    photograph = LabelledImage("\udcff.jpg", Path("x"), ())
    assert hold_out([photograph], 1) == ([], [photograph])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"file,labels\na.png\n", "line 2: has nothing in the column 'labels'"),
        (b"file,labels\n\xff,cat\n", "not text in UTF-8"),
    ],
)
def test_find_images_names_damaged_label_table(content: bytes, said: str, tmp_path: Path) -> None:
    write_shard(tmp_path, {"a.png": ("cat", "")})
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=said):
        find_images([tmp_path])
