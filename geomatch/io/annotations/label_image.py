"""Label images: each pixel's value is the label of what it shows, 0 being nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from geomatch.annotations import AnnotatedImage, Annotations, Instance, LabelColours, Region, categories_of
from geomatch.errors import InputError
from geomatch.io.images import open_picture, png_bytes
from geomatch.io.parsing import check_masks, opening, reading
from geomatch.options import AnnotationFormat, MaskEncoding

_MODES = ("1", "L", "P", "I;16", "I")


def read_label_image(path: Path, size: tuple[int, int]) -> Annotations:
    """The instances of a label image, one for each value, which is its label.

    size: (height, width) of the annotated image, which the label image must have. Raises InputError.
    """
    with opening(path), path.open("rb") as file, open_picture(file, str(path)) as picture:
        if (picture.height, picture.width) != size:
            own = f"{picture.width}x{picture.height}"
            raise InputError(f"{path}: is {own} pixels, the image it should annotate {size[1]}x{size[0]}")
        if picture.mode not in _MODES:
            raise InputError(f"{path}: not a label image; it is {picture.mode}, not grey or a palette")
        colours = LabelColours(picture.mode, tuple(picture.getpalette() or ()) if picture.mode == "P" else ())
        values = np.asarray(picture).astype(np.int64)
    labels = [int(value) for value in np.unique(values) if value]
    with reading(str(path)):
        check_masks(len(labels), size)
    instances = [
        Instance(str(label), number, Region(values == label, MaskEncoding.packed_runs))
        for number, label in enumerate(labels, 1)
    ]
    return Annotations(instances, AnnotationFormat.png, categories_of(instances), colours)


def encode_label_image(image: AnnotatedImage, reference: Annotations) -> bytes:
    """A label image of an image's instances, as PNG. Later instances hide earlier ones.

    Values, mode and palette are the reference's if that is a label image. Otherwise the values are the numbers of the
    instances, in PASCAL VOC's colours or, beyond 255 instances, in 16-bit grey.
    """
    own = reference.format is AnnotationFormat.png
    values: Mapping[int, int] = {each.number: int(each.label) if own else each.number for each in reference.instances}
    colours = reference.colours or voc_colours(max(values.values()))
    painted = np.zeros(image.size, np.uint16)
    for instance in image.instances:
        assert isinstance(instance.shape, Region), "label images are made of masks alone"
        painted[instance.shape.mask] = values[instance.number]
    if colours.mode == "1":
        return png_bytes(Image.fromarray(painted > 0))
    if colours.mode not in ("L", "P"):
        return png_bytes(Image.fromarray(painted))
    picture = Image.fromarray(painted.astype(np.uint8))
    if colours.mode == "P":
        picture.putpalette(colours.palette)
    return png_bytes(picture)


def voc_colours(labels: int) -> LabelColours:
    """PASCAL VOC's palette: a value's bits, in threes from the lowest, are the high bits of red, green and blue."""
    if labels > 255:
        return LabelColours("I;16")
    value = np.arange(256)
    palette = np.zeros((256, 3), np.int64)
    for place in range(8):
        for channel in range(3):
            palette[:, channel] |= ((value >> (3 * place + channel)) & 1) << (7 - place)
    return LabelColours("P", tuple(palette.ravel().tolist()))
