"""Image files: any common format to RGB pixels, and pictures to PNG. Files are untrusted input."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.formats.deep import to_eight_bits
from geomatch.io.formats.signatures import HEAD, is_heic, recognise
from geomatch.io.inputs import Input, InputFile, read_input
from geomatch.runtime.optional import has_heif, register_heif

MAX_PIXELS = 100_000_000
MIN_SIDE = 16
MAX_ASPECT_RATIO = 10
# Pillow knows them, but needs other programs: for PostScript an interpreter, which a file of others must never reach.
_UNREADABLE = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_SUBFILE_TYPE, _SUB_IMAGES, _DNG_VERSION = 254, 330, 50706  # tags of TIFF
_HEIF = "HEIF"
_HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_ANIMATED = frozenset({"AVIF", "GIF", "PNG", "WEBP"})
_OTHER_BYTE_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_ZLIB_RLE = 3
_WARNING_FILTERS = Lock()  # filters belong to the process, and images are decoded in several threads


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the image files that can be read here."""
    suffixes = Image.registered_extensions()
    known = frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and kind not in _UNREADABLE)
    return known | _HEIC_SUFFIXES if has_heif() else known


@cache
def _readable_formats(*, heic: bool) -> tuple[str, ...]:
    """The formats that Pillow reads. heic: with the package for it, which takes time to load, if it is there."""
    Image.init()
    if heic:
        register_heif()
    return tuple(kind for kind in Image.ID if kind not in _UNREADABLE)


@dataclass(frozen=True)
class InputImage:
    """The content of an image file: pixels (3, H, W) uint8, and the hexadecimal SHA-256 of its bytes.

    repeatable: the file can be read again.
    """

    path: Path
    pixels: Tensor
    sha256: str
    repeatable: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def nbytes(self) -> int:
        """The memory that dropping the pixels frees until they are read again; 0 if they cannot be."""
        return self.pixels.nbytes if self.repeatable else 0


def load_image(source: Input) -> Tensor:
    """The pixels of an image file: (3, H, W) uint8 RGB, upright according to its EXIF orientation.

    Grey, palette and CMYK images are converted. Transparent pixels are put over white. Deep images, of 16 bits or
    fractions, are stretched if they would lose their contrast, and of an animation or several pages the first is taken;
    a GeomatchWarning says so.

    Raises InputError, naming the file, if it is missing, empty, damaged, not an image, larger than MAX_PIXELS, narrower
    than MIN_SIDE or more elongated than MAX_ASPECT_RATIO.
    """
    return read_image(source).pixels


def exif_orientation(file: InputFile) -> int:
    """How an image is stored, as EXIF numbers it; 1, upright, if the file does not say. Raises InputError."""
    with open_picture(io.BytesIO(file.content), str(file)) as picture:
        stated = picture.getexif().get(ExifTags.Base.Orientation)
    return int(stated) if isinstance(stated, int) and 2 <= stated <= 8 else 1


def read_image(source: Input) -> InputImage:
    """The pixels and the checksum of an image file. Raises InputError as `load_image` does."""
    file = read_input(source)
    pixels = checked_size(decode_image(io.BytesIO(file.content), str(file)), str(file))
    return InputImage(file.path, pixels, file.sha256, file.repeatable)


def decode_image(file: IO[bytes], name: str) -> Tensor:
    """The pixels of an open image file, as `load_image` gives them, but of any shape. ``name`` is for messages."""
    with open_picture(file, name) as picture:
        count = getattr(picture, "n_frames", 1)
        if count > 1:
            main = "main one" if picture.format == _HEIF else "first"
            what = f"holds {count} images; the {main}"
            if picture.format in _ANIMATED:
                what = "an animation; its first frame"
            warnings.warn(f"{name}: {what} is used", GeomatchWarning, stacklevel=2)
            if picture.format != _HEIF:  # which is opened at the main one
                picture.seek(0)
        return to_pixels(_deep_colours(picture, file, name) or picture, name)


@contextmanager
def open_picture(file: IO[bytes], name: str) -> Iterator[Image.Image]:
    """Open a picture with Pillow. Raises InputError, which begins with ``name``, also for errors while it is read."""
    head = file.read(HEAD)
    file.seek(0)
    try:
        # Pillow only warns of a decompression bomb; MAX_PIXELS is checked before any pixel is decoded.
        with _WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(file, formats=_readable_formats(heic=is_heic(head)))
        with picture:
            if _is_raw_file(picture):
                raise UnidentifiedImageError
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield picture
    except (InputError, GeomatchWarning):
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: more than {MAX_PIXELS // 10**6} million pixels; make it smaller first") from error
    except UnidentifiedImageError as error:
        known = "" if is_heic(head) and has_heif() else recognise(head)
        what = f"is {known}" if known else "not an image file that can be read (damaged, or of another format)"
        raise InputError(f"{name}: {what}") from error
    except Exception as error:  # on a damaged file Pillow raises many kinds
        raise InputError(f"{name}: damaged or incomplete image ({error})") from error


def _is_raw_file(picture: Image.Image) -> bool:
    """Whether a TIFF is a camera's raw file, of which Pillow sees a small preview only."""
    tags = getattr(picture, "tag_v2", {})
    return _DNG_VERSION in tags or (_SUB_IMAGES in tags and int(tags.get(_SUBFILE_TYPE, 0)) & 1 == 1)


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = io.BytesIO()
    # zlib's run-length strategy was made for PNG: it is faster, and the files are no larger.
    picture.save(buffer, "PNG", compress_type=_ZLIB_RLE)
    return buffer.getvalue()


def checked_size(pixels: Tensor, name: str) -> Tensor:
    """The same pixels (3, H, W), if they can be matched. Raises InputError, naming ``name``, if there are too many, or
    if they are too narrow or too elongated."""
    height, width = pixels.shape[1:]
    if height * width > MAX_PIXELS:
        raise InputError(f"{name}: more than {MAX_PIXELS // 10**6} million pixels; make it smaller first")
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{name}: {width}x{height} pixels is too small; each side needs at least {MIN_SIDE}")
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise InputError(f"{name}: {width}x{height} pixels is too elongated; crop it to at most {MAX_ASPECT_RATIO}:1")
    return pixels


def to_pixels(image: Image.Image, name: str = "image") -> Tensor:
    """A Pillow picture of any mode as (3, H, W) uint8 RGB, upright, transparent pixels put over white.

    Warns, calling it ``name``, of a deep image whose contrast is stretched.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values, done = to_eight_bits(np.asarray(image))
        _say(name, done)
        image = Image.fromarray(values)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    pixels: NDArray[np.uint8] = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _deep_colours(picture: Image.Image, file: IO[bytes], name: str) -> Image.Image | None:
    """A picture of 16-bit colours in 8 bits, if they have to be stretched; Pillow keeps their high bytes only.

    The low bytes are read by taking the file for one of the other byte order.
    """
    stored = stored_mode(picture)
    if picture.mode not in ("RGB", "RGBA") or not stored.endswith((";16L", ";16B", ";16N")):
        return None
    with Image.open(file) as other:
        assert isinstance(other, ImageFile.ImageFile), "it has tiles"
        swapped = stored[:-1] + _OTHER_BYTE_ORDER[stored[-1]]
        other.tile = [
            tile._replace(args=swapped if isinstance(tile.args, str) else (swapped, *(tile.args or ())[1:]))
            for tile in other.tile
        ]
        low, high = np.asarray(other).astype(np.uint16), np.asarray(picture).astype(np.uint16)
    values, done = to_eight_bits((high << 8 | low)[..., :3])
    if not done:
        return None
    _say(name, done)
    stretched = Image.fromarray(values)
    stretched.info = {key: value for key, value in picture.info.items() if key == "exif"}
    if picture.mode == "RGBA":
        stretched.putalpha(picture.getchannel("A"))
    return stretched


def stored_mode(picture: Image.Image) -> str:
    """How a picture's pixels are stored in its file, as Pillow calls it ("L;2", "RGB;16B"); "" if it is loaded."""
    tiles = getattr(picture, "tile", None)
    args = tiles[0].args if tiles else None
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _say(name: str, done: str) -> None:
    if done:
        warnings.warn(f"{name}: {done}", GeomatchWarning, stacklevel=3)
