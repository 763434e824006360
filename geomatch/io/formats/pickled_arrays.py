"""Pickles of numpy arrays in dictionaries and lists, read without running anything that they ask for.

Unpickling calls what a file names, so that a file can run any program. Here the few names by which numpy pickles arrays
stand for records of ours, every other name is refused, and the arrays are made afterwards from the recorded bytes,
shapes and types, which are checked. Arrays of objects are refused, too.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import IO, Any, Literal

import numpy as np

_MOST_VALUES = 1 << 20
"""In all dictionaries and lists together."""


def read_pickled_arrays(file: IO[bytes]) -> Any:
    """The dictionaries, lists, tuples, texts, numbers and arrays that an open pickle holds.

    Raises ValueError for a damaged or cut file, and for one that holds or asks for anything else.
    """
    try:
        return _finished(_Unpickler(file).load(), [0])
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle raises exceptions of any type
        raise ValueError(f"not a whole pickle ({error})") from error


class _Type:
    """A recorded numpy.dtype."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code
        self.order: Literal["<", ">", "|", "="] = "="

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("an array of an unknown type")
        self.order = state[1]

    def made(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or self.code[:1] not in "biuf":
            raise ValueError(f"an array of {self.code!r:.40}, not of numbers")
        try:
            return np.dtype(self.code).newbyteorder(self.order)
        except TypeError as error:
            raise ValueError(f"an array of {self.code!r:.40}, not of numbers") from error


class _Array:
    """A recorded numpy.ndarray, or a number of numpy's: an array without axes."""

    def __init__(self, *state: object) -> None:
        self.state: tuple[Any, ...] = state

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array that is not as numpy writes it")
        _, shape, kind, fortran, raw = state
        self.state = (raw, kind, shape, "F" if fortran else "C")

    def made(self) -> np.ndarray[Any, Any]:
        if len(self.state) != 4:
            raise ValueError("an array without content")
        raw, kind, shape, order = self.state
        if not (isinstance(kind, _Type) and isinstance(raw, bytes | bytearray) and isinstance(shape, tuple)):
            raise ValueError("an array that is not as numpy writes it")
        if not all(isinstance(length, int) and length >= 0 for length in shape) or order not in ("C", "F"):
            raise ValueError("an array of an impossible shape")
        made = kind.made()
        if math.prod(shape) * made.itemsize != len(raw):
            raise ValueError(f"an array of {shape} with {len(raw)} bytes")
        return np.frombuffer(raw, made).reshape(shape, order=order)


def _latin(text: object, encoding: object = "latin1") -> bytes:
    """``_codecs.encode``, as pickles of protocol 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes in an encoding other than latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """``bytes()``, as they write none."""
    return b""


def _empty(*_: object) -> _Array:
    return _Array()


def _scalar(kind: object, raw: object) -> _Array:
    return _Array(raw, kind, (), "C")


class _ArrayType:
    """Stands for the class numpy.ndarray, which is only named."""


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _empty),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _Array),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise ValueError(f"it asks for {module}.{name}, which is not an array of numbers") from None

    def persistent_load(self, _: object) -> Any:
        raise ValueError("it asks for an object outside the file")


def _finished(value: Any, seen: list[int]) -> Any:
    """The value with arrays in place of their records. Raises ValueError for what is neither plain nor an array."""
    seen[0] += 1
    if seen[0] > _MOST_VALUES:
        raise ValueError("too many values")
    match value:
        case _Array():
            return value.made()
        case dict():
            return {_finished(key, seen): _finished(each, seen) for key, each in value.items()}
        case list() | tuple():
            return type(value)(_finished(each, seen) for each in value)
        case bool() | int() | float() | str() | bytes() | None:
            return value
    raise ValueError(f"it holds a {type(value).__name__.lstrip('_')}, which is not an array of numbers")
