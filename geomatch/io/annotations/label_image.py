"""Label images: each pixel's value is the label of what it shows, 0 being nothing."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from geomatch.annotations import AnnotatedImage, Annotations, Instance, LabelColours, Region, categories_of
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.images import open_picture, png_bytes, stored_mode
from geomatch.io.inputs import Input, read_input
from geomatch.io.parsing import StatedSizeError, check_masks, reading
from geomatch.options import AnnotationFormat, MaskEncoding

MOST_VALUE = np.iinfo(np.uint16).max
"""The largest label that a PNG can hold."""
_IGNORED, _SMALL = 255, 128
"""Value that marks what is to be ignored, as in PASCAL VOC, where all other labels are below ``_SMALL``."""
_SOFT_VALUES = 8
_MOST_COLOURS = 32
"""More are a photograph, or soft edges."""
_GREY_TOLERANCE = 2  # between the channels of grey that was stored as a colour JPEG
_NEAR_EXTREMES, _TWO_TONE = 0.25, 0.8
_PACKED_GREY = {"L;2": 85, "L;4": 17}  # what Pillow multiplies grey of two and of four bits by


@dataclass(frozen=True)
class LabelRules:
    """How the values of a label image are read.

    ignore: the value that marks nothing; None is 255 where all other labels are small.
    threshold: the image is one mask, of the pixels above this value; None: each value is a label.
    """

    ignore: int | None = None
    threshold: int | None = None


DEFAULT_RULES = LabelRules()


def read_label_image(source: Input, size: tuple[int, int], rules: LabelRules) -> Annotations:
    """The instances of a label image, one for each value, which is its label; 0 is nothing.

    size: (height, width) of the annotated image, which the label image must have. Colours are numbered, black being
    nothing. Warns of values that are ignored, of numbered colours, and of a mask with soft edges. Raises InputError.
    """
    file = read_input(source)
    name = str(file)
    with open_picture(io.BytesIO(file.content), name) as picture:
        if (picture.height, picture.width) != size:
            own = f"{picture.width}x{picture.height}"
            raise StatedSizeError(f"{name}: is {own} pixels, the image it should annotate {size[1]}x{size[0]}")
        labelled = _with_palette(picture, name)
        mode, palette = labelled.mode, tuple(labelled.getpalette() or ()) if labelled.mode == "P" else ()
        values = _read_values(labelled, name)
    if rules.threshold is not None:
        mode, values = "1", (values > rules.threshold).astype(np.int64)
    labels = _choose_labels(values, rules, name, soft=mode != "P" and _is_soft(values))
    with reading(name):
        check_masks(len(labels), size)
    instances = [
        Instance(str(label), number, Region(values == label, MaskEncoding.packed_runs))
        for number, label in enumerate(labels, 1)
    ]
    if mode not in ("1", "L", "P"):
        mode = "L" if max(labels, default=0) <= _IGNORED else "I;16"
    return Annotations(instances, AnnotationFormat.png, categories_of(instances), LabelColours(mode, palette))


def read_mask(source: Input) -> NDArray[np.bool_]:
    """The mask (H, W) that an image file holds; see `mask_of_picture`. Raises InputError, naming the file."""
    file = read_input(source)
    with open_picture(io.BytesIO(file.content), str(file)) as picture:
        return mask_of_picture(picture, str(file))


def mask_of_picture(picture: Image.Image, name: str = "mask") -> NDArray[np.bool_]:
    """The mask (H, W) that a picture holds, upright.

    What is opaque in one that is partly transparent; else what is not 0 in grey, a palette or a few colours, or, where
    edges are soft, what is nearer to the brightest value than to 0. Raises InputError, calling it ``name``, for others.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        opacity = np.asarray(picture.convert("RGBA").getchannel("A"))
        if opacity.min(initial=_IGNORED) < _IGNORED:
            return opacity >= _SMALL
    if picture.mode == "RGB" and len(picture.getcolors(_MOST_COLOURS) or ()) > 0:
        return np.asarray(np.asarray(picture).any(axis=2), np.bool_)
    values = _read_values(picture, name, what="a mask")
    least = values.max(initial=0) / 2 if picture.mode != "P" and _is_soft(values) else 0
    return np.asarray(values > least, np.bool_)


def check_labels(path: Path, annotations: Annotations) -> None:
    """Raise InputError if a label image to be written at ``path`` cannot hold the labels of one that was read."""
    own = annotations.format is AnnotationFormat.png
    for label in [int(each.label) for each in annotations.instances] if own else [len(annotations.instances)]:
        if not 0 <= label <= MOST_VALUE:
            raise InputError(
                f"{path}: a PNG cannot hold the label {label}, only 0 to {MOST_VALUE}; write another --format"
            )


def _read_values(picture: Image.Image, name: str, what: str = "a label image") -> NDArray[np.int64]:
    """The labels (H, W) as they are stored. Raises InputError if the picture has colours or fractions."""
    unit = _PACKED_GREY.get(stored_mode(picture), 1)
    values = np.asarray(picture)
    if values.ndim == 3:
        colours = values[..., : 1 if picture.mode == "LA" else 3].astype(np.int64)
        if picture.mode not in ("LA", "RGB", "RGBA") or not _is_grey(colours):
            raise InputError(f"{name}: not {what}; it is {picture.mode} in colour, not grey or a palette")
        values = np.median(colours, axis=2)
    elif values.dtype.kind == "f" and not (values == np.floor(values)).all():
        raise InputError(f"{name}: not {what}; its values are not whole numbers")
    return values.astype(np.int64) // unit


def _with_palette(picture: Image.Image, name: str) -> Image.Image:
    """A picture of a few colours as one with a palette, black and transparent first; any other as it is."""
    if picture.mode not in ("RGB", "RGBA"):
        return picture
    pixels = np.asarray(picture).astype(np.int64)
    colours = pixels[..., :3] * (pixels[..., 3:] > 0) if picture.mode == "RGBA" else pixels
    found, places = np.unique(np.append(colours @ (1 << 16, 1 << 8, 1), 0), return_inverse=True)
    if _is_grey(colours) or len(found) > _MOST_COLOURS:
        return picture
    named = ", ".join(f"{number} is #{colour:06x}" for number, colour in enumerate(found[1:].tolist(), 1))
    warnings.warn(f"{name}: its colours are labels: {named}", GeomatchWarning, stacklevel=3)
    labels = Image.fromarray(places[:-1].reshape(colours.shape[:2]).astype(np.uint8))
    labels.putpalette([byte for colour in found.tolist() for byte in colour.to_bytes(3, "big")])
    return labels


def _is_grey(colours: NDArray[np.int64]) -> bool:
    return bool(np.ptp(colours, axis=2).max(initial=0) <= _GREY_TOLERANCE)


def _choose_labels(values: NDArray[np.int64], rules: LabelRules, name: str, *, soft: bool) -> list[int]:
    """The values that are labels, in order."""
    labels = [int(value) for value in np.unique(values) if value not in (0, rules.ignore)]
    if soft:
        warnings.warn(
            f"{name}: each of its {len(labels)} grey values is read as a label; if it shows one object with soft "
            "edges, give --mask-threshold 127",
            GeomatchWarning,
            stacklevel=3,
        )
    elif rules.ignore is None and labels[-1:] == [_IGNORED] and len(labels) > 1 and labels[-2] < _SMALL:
        warnings.warn(
            f"{name}: {_IGNORED} beside smaller labels marks what to ignore; --ignore-label 0 makes it a label",
            GeomatchWarning,
            stacklevel=3,
        )
        labels.pop()
    return labels


def _is_soft(values: NDArray[np.int64]) -> bool:
    """Whether a mask has black, white and few pixels of many greys between, by soft edges or JPEG's noise."""
    top = values.max(initial=0)
    if top < _SMALL or len(np.unique(values)) <= _SOFT_VALUES:
        return False
    dark, bright = values <= _NEAR_EXTREMES * top, values >= (1 - _NEAR_EXTREMES) * top
    return bool(dark.mean() + bright.mean() >= _TWO_TONE and bright.sum() >= (values > 0).sum() / 2)


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
