"""Label images: each pixel's value says what it is, 0 nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from geomatch.annotations import AnnotatedImage, Annotations, LabelColours, Region, Thing, categories_of
from geomatch.errors import InputError
from geomatch.io.images import png_bytes
from geomatch.io.parsing import check_masks, reading
from geomatch.options import AnnotationFormat, MaskEncoding

_MODES = ("1", "L", "P", "I;16", "I")


def read_label_image(path: Path, size: tuple[int, int]) -> Annotations:
    """The things that the values of an image are, the value being the label.

    size: (height, width) of the image that is annotated, which it must have. Raises InputError.
    """
    try:
        with Image.open(path) as picture:
            if (picture.height, picture.width) != size:
                own = f"{picture.width}x{picture.height}"
                raise InputError(f"{path}: is {own} pixels, the image it should annotate {size[1]}x{size[0]}")
            if picture.mode not in _MODES:
                raise InputError(f"{path}: no label image; it should be grey or have a palette, and is {picture.mode}")
            colours = LabelColours(picture.mode, tuple(picture.getpalette() or ()) if picture.mode == "P" else ())
            values = np.asarray(picture).astype(np.int64)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: damaged or no image ({error})") from error
    labels = [int(value) for value in np.unique(values) if value]
    with reading(str(path)):
        check_masks(len(labels), size)
    regions = [Region(values == label, MaskEncoding.packed_runs) for label in labels]
    things = [
        Thing(str(label), number, region) for number, (label, region) in enumerate(zip(labels, regions, strict=True), 1)
    ]
    return Annotations(things, AnnotationFormat.png, categories_of(things), colours)


def encode_label_image(image: AnnotatedImage, reference: Annotations) -> bytes:
    """PNG of the things on an image. Later things hide earlier ones.

    Values, mode and palette are those of the reference if that is a label image; otherwise the values are the things'
    numbers, in PASCAL VOC's colours or, beyond 255 things, in 16-bit grey.
    """
    own = reference.format is AnnotationFormat.png
    values: Mapping[int, int] = {each.number: int(each.label) if own else each.number for each in reference.things}
    colours = reference.colours or voc_colours(max(values.values()))
    painted = np.zeros(image.size, np.uint16)
    for thing in image.things:
        assert isinstance(thing.shape, Region), "label images are made of masks alone"
        painted[thing.shape.mask] = values[thing.number]
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
