"""Variables of Matlab's .mat files, versions 5 to 7.2, whose structure is checked before scipy reads them.

scipy trusts a file's headers: an unknown number type ends the process with a segmentation fault, and huge dimensions
exhaust the memory. So the elements of a file are checked here first, and scipy gets only those that are sound and of
kinds that annotations use: arrays of numbers, texts, cells and structs.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import scipy.io
from numpy.typing import NDArray

from geomatch.io.parsing import MAX_BYTES

MAX_MATRICES = 200_000
"""Arrays in a variable, with all its cells and fields: far more than annotations of an image have."""
MAX_DEPTH = 16
"""How deep cells and structs may be nested."""
MAX_FIELDS = 4096
MAX_FIELD_NAME = 64
"""In bytes, with the zero at its end: what Matlab itself allows."""
MAX_DIMENSIONS = 32

_HEADER_BYTES = 128
_NUMBER_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXTS = (1, 2, 4, 16, 17, 18)
_NAMES = (1, 16)
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_CELLS, _STRUCTS, _CHARACTERS = 1, 2, 4
_NUMBERS = range(6, 16)

ByteOrder = Literal["<", ">"]


def read_variables(content: bytes, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """The named variables of a .mat file, as `scipy.io.loadmat` gives them; those that it lacks are left out.

    Raises ValueError, saying why, if the content is damaged or not of such a file.
    """
    orders: dict[bytes, ByteOrder] = {b"IM": "<", b"MI": ">"}
    order = orders.get(content[126:_HEADER_BYTES])
    if order is None or struct.unpack(f"{order}H", content[124:126]) != (0x0100,):
        raise ValueError("it does not begin as those of versions 5 to 7.2 do")
    sound: dict[str, memoryview] = {}
    for data in _variables(memoryview(content)[_HEADER_BYTES:], order):
        name = _name_of(data, order)
        if name in names and name not in sound:
            _Check(order).matrix(data)
            sound[name] = data
    file = b"MATLAB 5.0 MAT-file".ljust(124) + content[124:_HEADER_BYTES]
    file += b"".join(struct.pack(f"{order}II", _MATRIX, len(data)) + data for data in sound.values())
    try:
        found = scipy.io.loadmat(io.BytesIO(file))  # type: ignore[arg-type]  # scipy's stubs leave out open files
        return {name: np.asarray(found[name]) for name in sound}
    except Exception as error:  # on a damaged file scipy raises many kinds
        raise ValueError(" ".join(str(error).split())) from error


@dataclass(frozen=True)
class _Element:
    """An element of a .mat file. kind: Matlab's number of its type. data: without tag and padding."""

    kind: int
    data: memoryview


def _elements(data: memoryview, order: ByteOrder) -> Iterator[_Element]:
    """The elements in ``data``, one after the other; all but compressed ones are padded to 8 bytes."""
    place = 0
    while place < len(data):
        if place + 8 > len(data):
            raise ValueError("it ends within an element")
        kind, length = struct.unpack_from(f"{order}II", data, place)
        begin, step = place + 8, 8 + length + (-length % 8 if kind != _COMPRESSED else 0)
        if kind >> 16:  # a small element: its length in the upper half, up to four bytes in the second word
            kind, length, begin, step = kind & 0xFFFF, kind >> 16, place + 4, 8
        if begin + length > min(len(data), place + step):
            raise ValueError("an element is longer than what holds it")
        yield _Element(kind, data[begin : begin + length])
        place += step


def _variables(data: memoryview, order: ByteOrder) -> Iterator[memoryview]:
    """The matrices of a file, unpacked."""
    room = MAX_BYTES
    for element in _elements(data, order):
        if element.kind == _COMPRESSED:
            unpacked = _unpack(element.data, room)
            room -= len(unpacked)
            element, *more = _elements(memoryview(unpacked), order)
            if more:
                raise ValueError("more than one variable is packed into one")
        if element.kind != _MATRIX:
            raise ValueError(f"it has an element of kind {element.kind} where a variable should be")
        yield element.data


def _unpack(data: memoryview, room: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data, max(room, 1))
    except zlib.error as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error
    if unpacker.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
    if not unpacker.eof or not unpacked:
        raise ValueError("it ends within a packed variable")
    return unpacked


def _name_of(data: memoryview, order: ByteOrder) -> str:
    """A matrix's name, its third element."""
    for place, element in enumerate(_elements(data, order)):
        if place == 2:
            return str(element.data, "latin1")
    return ""


@dataclass
class _Check:
    """Checks a variable and all that is nested in it. matrices: how many it has checked."""

    order: ByteOrder
    matrices: int = field(default=0, init=False)

    def matrix(self, data: memoryview, depth: int = 0) -> None:
        """Raise ValueError unless ``data`` is a matrix that scipy can safely read."""
        self.matrices += 1
        if self.matrices > MAX_MATRICES or depth > MAX_DEPTH:
            raise ValueError("it holds too many arrays, or too deeply nested")
        elements = _elements(data, self.order)
        flags, dimensions = self._one(elements, _UINT32), self._one(elements, _INT32, _UINT32)
        self._one(elements, *_NAMES)
        if len(flags) != 8:
            raise ValueError("an array lacks its kind")
        (type_flags,) = struct.unpack(f"{self.order}I4x", flags)
        size = self._size(dimensions)
        if size > len(data):
            raise ValueError("an array is larger than what holds it")
        kind, is_complex = type_flags & 0xFF, type_flags >> 11 & 1
        if kind in _NUMBERS:
            for _ in range(1 + is_complex):
                self._numbers(elements, size)
        elif kind == _CHARACTERS:
            self._one(elements, *_TEXTS)
        elif kind == _CELLS:
            self._matrices(elements, size, depth)
        elif kind == _STRUCTS:
            self._matrices(elements, size * self._count_fields(elements), depth)
        else:
            raise ValueError(f"it holds an array of Matlab's class {kind}, which is not supported")
        if next(elements, None) is not None:
            raise ValueError("an array holds more than it should")

    def _one(self, elements: Iterator[_Element], *kinds: int) -> memoryview:
        element = next(elements, None)
        if element is None or element.kind not in kinds:
            raise ValueError("an array lacks a part")
        return element.data

    def _size(self, dimensions: memoryview) -> int:
        """The number of items in an array of these dimensions."""
        count, odd = divmod(len(dimensions), 4)
        sides = struct.unpack(f"{self.order}{count}i", dimensions) if not odd else ()
        if not 1 <= len(sides) <= MAX_DIMENSIONS or min(sides) < 0:
            raise ValueError("an array has impossible dimensions")
        return math.prod(sides)

    def _numbers(self, elements: Iterator[_Element], size: int) -> None:
        element = next(elements, None)
        if element is None or len(element.data) != size * _NUMBER_BYTES.get(element.kind, -1):
            raise ValueError("an array of numbers is not as large as it says")

    def _count_fields(self, elements: Iterator[_Element]) -> int:
        stored, names = self._one(elements, _INT32), self._one(elements, *_NAMES)
        length: int = struct.unpack(f"{self.order}i", stored)[0] if len(stored) == 4 else 0
        if not 1 <= length <= MAX_FIELD_NAME:
            raise ValueError("the fields of a struct have names of impossible length")
        count, odd = divmod(len(names), length)
        if odd or count > MAX_FIELDS or any(names[length - 1 :: length]):
            raise ValueError("the names of a struct's fields are damaged")
        return count

    def _matrices(self, elements: Iterator[_Element], count: int, depth: int) -> None:
        for _ in range(count):
            inner = self._one(elements, _MATRIX)
            if len(inner) % 8:
                raise ValueError("an array is not padded")
            if inner:
                self.matrix(inner, depth + 1)
