"""Annotations of a photograph as it is stored are turned upright, as Pillow turns the photograph."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from geomatch.annotations import Keypoints, Region
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.annotations.files import read_annotations
from geomatch.io.annotations.orientation import UPRIGHT, swaps_sides
from geomatch.io.images import exif_orientation
from geomatch.io.inputs import InputFile
from geomatch.options import AnnotationKind
from tests.io.test_annotations import label_image

UPRIGHT_SIZE = (30, 20)  # of a photograph that is stored as 30x20 pixels


def photograph(stored: np.ndarray, orientation: int) -> InputFile:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(buffer, "PNG", exif=exif)
    return InputFile(Path("ref.png"), buffer.getvalue())


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("kind", list(AnnotationKind))
def test_annotations_turn_with_their_photograph(kind: AnnotationKind, orientation: int, tmp_path: Path) -> None:
    stored = np.zeros((20, 30), np.uint8)
    stored[2:5, 7:13] = 255
    file = photograph(stored, orientation)
    assert exif_orientation(file) == orientation
    with Image.open(io.BytesIO(file.content)) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    rows, columns = np.nonzero(upright)
    annotation = {"image_id": 1, "keypoints": [7, 2, 2, 12, 4, 2], "bbox": [7, 2, 6, 3]}
    annotation["segmentation"] = [[7, 2, 13, 2, 13, 5, 7, 5]]
    image = {"id": 1, "file_name": "ref.png", "width": 30, "height": 20}
    path = tmp_path / "marked.json"
    path.write_text(json.dumps({"images": [image], "annotations": [annotation]}))
    with pytest.warns(GeomatchWarning, match="as it is stored, and is turned upright"):
        (found,) = read_annotations(path, kind, Path("ref.png"), UPRIGHT_SIZE, orientation=orientation).instances
    if isinstance(found.shape, Keypoints):
        assert (*found.shape.points.min(axis=0), *found.shape.points.max(axis=0)) == (
            *(columns.min(), rows.min()), *(columns.max(), rows.max()),
        )  # fmt: skip
        assert upright[tuple(found.shape.points.astype(int).T[::-1])].all()
    elif isinstance(found.shape, Region):
        assert found.shape.mask.tolist() == (upright > 0).tolist()
    else:
        assert found.shape == (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)


def test_label_image_turns_with_its_photograph(tmp_path: Path) -> None:
    values = np.zeros((20, 30), np.uint8)
    values[2, 7] = 1
    path, ref = label_image(tmp_path, values), Path("ref.png")
    with pytest.warns(GeomatchWarning, match="turned upright"):
        (found,) = read_annotations(path, AnnotationKind.masks, ref, UPRIGHT_SIZE, orientation=6).instances
    assert isinstance(found.shape, Region)
    assert np.argwhere(found.shape.mask).tolist() == [[7, 17]]
    with pytest.raises(InputError, match="30x20 pixels, the image it should annotate 20x30"):
        read_annotations(path, AnnotationKind.masks, ref, UPRIGHT_SIZE)


def test_orientation_that_is_not_stated_or_unknown_is_upright() -> None:
    for stated in (0, 1, 9):
        assert exif_orientation(photograph(np.zeros((2, 2), np.uint8), stated)) == UPRIGHT
    assert [each for each in range(10) if swaps_sides(each)] == [5, 6, 7, 8]
