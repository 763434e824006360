from pathlib import Path

import pytest
from PIL import Image

from geomatch.datasets.base import image_size, read_rows
from geomatch.errors import InputError
from geomatch.io.images import load_image


def test_a_list_s_rows_are_numbered_as_in_an_editor_and_blank_ones_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("\ufeffa, b\r\n1, 2\r\n\r\n3,4\r\n", encoding="utf-8")
    rows = read_rows(path)
    assert [row.origin for row in rows] == ["pairs.csv, row 2", "pairs.csv, row 4"]
    assert rows[0].take("b", "a") == ["2", "1"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty; its first row should name the columns"),
        (b"a,b\n1,2\n\xff\xfe,3\n", "no list of pairs after row"),
        (b"a,b\n1,2\n" + b"3" * 200_000, "no list of pairs after row 2"),
    ],
)
def test_a_file_that_is_no_list_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"pairs\.csv: {reason}"):
        read_rows(path)


def test_a_list_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path)


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6, 8, 9])
def test_the_size_of_a_turned_image_is_that_of_its_pixels(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind.lower()}"
    Image.new("RGB", (40, 30)).save(path, kind, exif=exif)
    assert image_size(path) == load_image(path).shape[1:]
