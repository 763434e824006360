"""Image files: any common format to RGB pixels, and pictures to PNG. Files are untrusted input."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.parsing import opening

MAX_PIXELS = 100_000_000
MIN_SIDE = 16
MAX_ASPECT_RATIO = 10
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})
_ZLIB_RLE = 3
_WARNING_FILTERS = Lock()  # filters belong to the process, and images are decoded in several threads


@dataclass(frozen=True)
class InputImage:
    """The content of an image file: pixels (3, H, W) uint8, and the hexadecimal SHA-256 of its bytes."""

    path: Path
    pixels: Tensor
    sha256: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes


def load_image(path: Path) -> Tensor:
    """The pixels of an image file: (3, H, W) uint8 RGB, upright according to its EXIF orientation.

    Grey, palette, CMYK and 16-bit images are converted. Transparent pixels are put over white. Of an animation the
    first frame is taken, with a GeomatchWarning.

    Raises InputError, naming the file, if it is missing, empty, damaged, not an image, larger than MAX_PIXELS, narrower
    than MIN_SIDE or more elongated than MAX_ASPECT_RATIO.
    """
    return read_image(path).pixels


def read_image(path: Path) -> InputImage:
    """The pixels and the checksum of an image file or pipe. Raises InputError as `load_image` does."""
    with opening(path), path.open("rb") as file:
        content = file if file.seekable() else io.BytesIO(file.read())
        pixels = checked_size(decode_image(content, str(path)), str(path))
        content.seek(0)
        return InputImage(path, pixels, hashlib.file_digest(content, "sha256").hexdigest())


def decode_image(file: IO[bytes], name: str) -> Tensor:
    """The pixels of an open image file, as `load_image` gives them, but of any shape. ``name`` is for messages."""
    with open_picture(file, name) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            warnings.warn(f"{name}: an animation; its first frame is used", GeomatchWarning, stacklevel=2)
            picture.seek(0)
        return to_pixels(picture)


@contextmanager
def open_picture(file: IO[bytes], name: str) -> Iterator[Image.Image]:
    """Open a picture with Pillow. Raises InputError, which begins with ``name``, also for errors while it is read."""
    try:
        # Pillow only warns of a decompression bomb; MAX_PIXELS is checked before any pixel is decoded.
        with _WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(file)
        with picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield picture
    except (InputError, GeomatchWarning):
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: more than {MAX_PIXELS // 10**6} million pixels; make it smaller first") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image file that can be read (empty, damaged or another format)") from error
    except Exception as error:  # on a damaged file Pillow raises many kinds
        raise InputError(f"{name}: damaged or incomplete image ({error})") from error


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


def to_pixels(image: Image.Image) -> Tensor:
    """A Pillow picture of any mode as (3, H, W) uint8 RGB, upright, transparent pixels put over white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    pixels: NDArray[np.uint8] = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits in 8 bits. Integers are read as 16-bit values, floats as [0, 1] or [0, 255]."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values *= 255 if values.max(initial=0) <= 1 else 1
    else:
        values /= 257
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))
