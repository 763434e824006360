"""TIFF files of float32 pages, one for each channel."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

MOST_PAGES = 8


def encode_pages(pages: Sequence[NDArray[np.float32]]) -> bytes:
    """Pages (H, W) as a TIFF file, compressed without loss."""
    first, *others = (Image.fromarray(np.ascontiguousarray(page, np.float32)) for page in pages)
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=others, compression="tiff_adobe_deflate")
    return buffer.getvalue()


def decode_pages(content: bytes, max_pixels: int) -> list[NDArray[np.float32]]:
    """The pages (H, W) of a TIFF file. Raises ValueError for pages of other numbers, sizes or counts."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=["TIFF"]) as picture:
            if picture.width * picture.height > max_pixels:
                raise ValueError(f"more than {max_pixels // 10**6} million pixels")
            if not 2 <= getattr(picture, "n_frames", 1) <= MOST_PAGES:
                raise ValueError(f"it has {getattr(picture, 'n_frames', 1)} pages")
            pages: list[NDArray[np.float32]] = []
            for page in ImageSequence.Iterator(picture):
                if page.mode != "F" or page.size != picture.size or (pages and page.size != pages[0].shape[::-1]):
                    raise ValueError("its pages are not of 32-bit floating point and one size")
                pages.append(np.array(page, dtype=np.float32))
    except ValueError:
        raise
    except Exception as error:  # on a damaged file Pillow raises many kinds
        raise ValueError(f"not a .tiff file ({error})") from error
    return pages
