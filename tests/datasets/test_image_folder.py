from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.datasets.image_list import LabelledImage, hold_out
from geomatch.errors import InputError
from tests.datasets.layouts import png, write_shard


def folder_of(folder: Path, good: str, bad: str = "") -> list[LabelledImage]:
    """Images named by letters; the bad ones are damaged."""
    for number, name in enumerate(good):
        Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(folder / f"{name}.png")
    for name in bad:
        (folder / f"{name}.png").write_bytes(b"no picture")
    return [LabelledImage(name, folder / f"{name}.png", ()) for name in sorted(good + bad)]


def test_attempt_skips_damaged_images_in_order(tmp_path: Path) -> None:
    images = folder_of(tmp_path, good="bdef", bad="ac")
    reader = ImageReader(len(images), tolerated=0.5)
    batch = reader.attempt(images, 3)
    assert [int(pixels[0, 0, 0]) for pixels in batch.pixels] == [0, 1, 2]  # b, d, e
    assert [image.name for image in batch.images] == ["b", "d", "e"]
    assert list(batch.damaged) == ["a", "c"]


def test_attempt_changes_nothing_and_admit_records_once(tmp_path: Path) -> None:
    images = folder_of(tmp_path, good="bd", bad="ac")
    reader = ImageReader(len(images), tolerated=0.5)
    batches = [reader.attempt(images, 2) for _ in range(3)]
    assert reader.unreadable == []
    for batch in batches:
        assert reader.admit(batch) is batch.pixels
    assert reader.unreadable == ["a", "c"]


def test_admit_refuses_too_many_damaged_images(tmp_path: Path) -> None:
    images = folder_of(tmp_path, good="xyz", bad="abc")
    reader = ImageReader(len(images), tolerated=0.2)  # one of six
    assert len(reader.read([images[0], images[3]], 1)) == 1
    batch = reader.attempt(images[1:], 3)
    with pytest.raises(InputError, match=r"2 of 6 photographs cannot be read, more than the 20\.0%.*the last: .*b"):
        reader.admit(batch)
    assert list(reader.attempt(images, 3).damaged) == ["a", "b"]  # no use in trying further


def test_read_refuses_batch_without_readable_image(tmp_path: Path) -> None:
    images = folder_of(tmp_path, good="", bad="ab")
    reader = ImageReader(len(images), tolerated=1)
    with pytest.raises(InputError, match="none of the photographs of a batch can be read; the last: b"):
        reader.read(images, 2)


def test_hold_out_depends_on_name_alone() -> None:
    images = [LabelledImage(f"{number}.jpg", Path("x"), ()) for number in range(2000)]
    training, held = hold_out(images, 0.1)
    assert sorted(training + held, key=lambda each: int(each.name[:-4])) == images
    assert len(held) == pytest.approx(200, abs=45)
    assert hold_out(images[::-3], 0.1)[1] == [each for each in images[::-3] if each in held]
    assert hold_out(images, 0) == (images, [])


def test_hold_out_accepts_non_unicode_name() -> None:
    image = LabelledImage("\udcff.jpg", Path("x"), ())
    assert hold_out([image], 1) == ([], [image])


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


def test_find_images_labels_of_a_shard_with_dotted_members_and_a_byte_order_mark(tmp_path: Path) -> None:
    """As `tar -c .` names members, and as Excel writes tables."""
    picture = png(np.zeros((4, 4, 3), np.uint8))
    write_shard(tmp_path, {"./a.png": ("cat", ""), "./b.png": ("dog", "")}, {"./a.png": picture, "./b.png": picture})
    table = "\ufefffile,labels,boxes\r\na.png,cat,\r\nb.png,dog,\r\n"
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    found = list(find_images([tmp_path]))
    assert [image.labels for image in found] == [("cat",), ("dog",)]
    assert ImageReader(2, tolerated=0).read(found, 2)[0].shape == (3, 4, 4)
