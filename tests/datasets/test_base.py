from pathlib import Path

import pytest
from PIL import Image

from geomatch.datasets.base import image_size
from geomatch.io.images import load_image


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6, 8, 9])
def test_image_size_of_turned_image(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind.lower()}"
    Image.new("RGB", (40, 30)).save(path, kind, exif=exif)
    assert image_size(path) == load_image(path).shape[1:]
