"""Arguments of the Python API: whatever does not fit is an InputError that says so in one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from geomatch.errors import InputError, unknown_name
from geomatch.io.annotations.label_image import mask_of_picture, read_mask
from geomatch.io.images import checked_size, load_image, to_pixels
from geomatch.io.inputs import InputFile

Image: TypeAlias = str | os.PathLike[str] | Pillow.Image | NDArray[np.uint8] | Tensor
"""A path; a Pillow image of any mode; an array (H, W, 3) or (H, W), or a tensor (3, H, W), both uint8, RGB or grey."""

ImageMask: TypeAlias = (
    str | os.PathLike[str] | Pillow.Image | NDArray[Any] | Tensor | Sequence[Sequence[bool]] | tuple[float, ...]
)
"""A part of an image: the path of a mask image or a Pillow image (see `read_mask`); an array, a tensor or nested lists
(H, W), of which what is not 0 belongs to it; or a box (x, y, width, height) in pixels, x and y of its first pixel."""

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")
Choice = TypeVar("Choice", bound=StrEnum)


def refuse_unknown_keywords(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """A function that raises InputError, with a similar name, for a keyword argument that it does not have."""
    known = [name for name, each in signature(function).parameters.items() if each.kind is each.KEYWORD_ONLY]
    positional = signature(function).parameters.keys() - known
    owner = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        for name in kwargs.keys() - known - positional:
            raise InputError(unknown_name(f"keyword argument of {owner}", name, known))
        return function(*args, **kwargs)

    return checked


def pixels_of(image: Image) -> Tensor:
    """An image of any accepted type as (3, H, W) uint8 RGB. Raises InputError if it cannot be matched.

    >>> pixels_of(np.zeros((32, 48), np.uint8)).shape
    torch.Size([3, 32, 48])
    """
    match image:
        case str() | os.PathLike():
            return load_image(Path(image))
        case Pillow.Image():
            pixels = _pixels_of_picture(image)
        case np.ndarray(dtype=np.uint8, ndim=2):
            pixels = torch.from_numpy(np.array(image)).expand(3, -1, -1)
        case np.ndarray(dtype=np.uint8, shape=(_, _, 3)):
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        case Tensor(dtype=torch.uint8, shape=(3, _, _)):
            pixels = image
        case _:
            raise InputError(
                f"{described(image)} is not an image: give a path, a Pillow image, an array (H, W, 3) or (H, W) of "
                f"uint8, or a tensor (3, H, W) of uint8"
            )
    return checked_size(pixels, described(image))


def mask_of(name: str, mask: ImageMask, size: tuple[int, int]) -> Tensor:
    """A mask of an image of this (height, width), of any accepted type, as (H, W) bool.

    Raises InputError, calling it ``name``, if it is of another size, empty, or not a mask.

    >>> mask_of("mask", (1, 0, 2, 9), (2, 4)).tolist()
    [[False, True, True, False], [False, True, True, False]]
    """
    height, width = size
    match mask:
        case str() | os.PathLike():
            found = read_mask(mask if isinstance(mask, InputFile) else Path(mask))
        case Pillow.Image():
            found = mask_of_picture(mask)
        case Tensor() | np.ndarray():
            found = (mask.cpu().numpy() if isinstance(mask, Tensor) else mask).astype(np.bool_)
        case (int() | float() as x, int() | float() as y, int() | float() as wide, int() | float() as high):
            row, column = np.indices(size)
            found = (column >= x - 0.5) & (column < x + wide - 0.5) & (row >= y - 0.5) & (row < y + high - 0.5)
            if not found.any():
                raise InputError(
                    f"{name} {x:g},{y:g},{wide:g},{high:g}: holds no pixel of an image of {width}x{height}"
                )
        case _:
            found = np.zeros(0, np.bool_)
            with suppress(TypeError, ValueError):
                found = np.asarray(mask).astype(np.bool_)
    if found.ndim != 2:
        raise InputError(f"{name} is {described(mask)}: give a path, a box (x, y, width, height) or an array (H, W)")
    what = str(mask) if isinstance(mask, str | os.PathLike) else name
    if found.shape != size:
        raise InputError(f"{what}: is {found.shape[1]}x{found.shape[0]} pixels, the image it masks {width}x{height}")
    if not found.any():
        raise InputError(f"{what}: is empty, so that nothing is left to match")
    return torch.from_numpy(np.ascontiguousarray(found))


def choice_of(kind: type[Choice], name: str, value: object) -> Choice:
    """The member of an enumeration with this value. Raises InputError, with a similar one, if there is none."""
    for member in kind:
        if member == value:
            return member
    raise InputError(unknown_name(name, str(value), list(kind)))


def path_of(name: str, value: object) -> Path:
    """A path given as text or an os.PathLike. Raises InputError for anything else."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name} is {described(value)}: give the path of a file or folder")
    return Path(value)


def whole_number_of(name: str, value: object) -> int:
    """A positive whole number. Raises InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}: give a positive whole number")
    return int(value)


def described(value: object) -> str:
    """A value's type, with its shape and dtype if it has them, for messages."""
    kind = type(value).__name__
    if isinstance(value, np.ndarray | Tensor):
        return f"{kind} of shape {tuple(value.shape)} and dtype {str(value.dtype).removeprefix('torch.')}"
    return f"{kind} of size {value.size}" if isinstance(value, Pillow.Image) else kind


def _pixels_of_picture(picture: Pillow.Image) -> Tensor:
    try:
        return to_pixels(picture)
    except Exception as error:  # on a damaged or closed file Pillow raises many kinds
        raise InputError(
            f"{described(picture)} cannot be read ({error}): its file is damaged, or was closed before it was read"
        ) from error
