"""Matlab's files: read as scipy reads them, and refused where scipy would end the process or fill the memory."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from geomatch.io.formats import mat as matlab
from geomatch.io.formats.mat import read_variables

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100)
PART = np.zeros((1, 2), dtype=[("part_name", object), ("mask", object)])
PART[0, 0], PART[0, 1] = ("head", np.eye(3, dtype=np.uint8)), ("tail", np.zeros((0, 2)))
VARIABLES = {
    "points": np.array([[1.5, np.nan, -3], [4, 5, 1e300]]),
    "volume": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "waves": np.array([[1 + 2j, -3j]]),
    "shown": np.array([[True, False]]),
    "class": "motörbike",
    "names": np.array([["a", np.array([[1.0, 2.0]]), ""]], dtype=object),
    "anno": {"objects": PART, "count": 2},
    "nothing": np.zeros((0, 2)),
}


def saved(*, compressed: bool = False, **variables: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compressed)
    return file.getvalue()


def element(kind: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, sides: tuple[int, ...], rest: bytes, name: bytes = b"a", order: str = "<") -> bytes:
    flags = element(6, struct.pack(f"{order}II", kind, 0), order)
    dimensions = element(5, struct.pack(f"{order}{len(sides)}i", *sides), order)
    return element(14, flags + dimensions + element(1, name, order) + rest, order)


def file_of(*variables: bytes) -> bytes:
    return HEADER + b"IM" + b"".join(variables)


DOUBLE = element(9, struct.pack("<d", 2.5))


def assert_same(found: object, expected: object) -> None:
    assert isinstance(found, np.ndarray)
    assert isinstance(expected, np.ndarray)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if found.dtype == object:
        for one, other in zip(found.ravel(), expected.ravel(), strict=True):
            assert_same(one, other)
    elif found.dtype.names:
        for name in found.dtype.names:
            assert_same(found[name], expected[name])
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_equals_scipy(compressed: bool) -> None:
    content = saved(compressed=compressed, **VARIABLES)
    found, expected = read_variables(content, list(VARIABLES)), scipy.io.loadmat(io.BytesIO(content))
    assert found.keys() == VARIABLES.keys()
    for name, value in found.items():
        assert_same(value, expected[name])


def test_mat_of_matlab_equals_scipy() -> None:
    files = Path(scipy.io.matlab.__file__).parent / "tests" / "data"
    plain = ("double", "string", "complex", "matrix", "minus", "multi", "cell", "cellnest", "struct", "structnest")
    paths = [path for name in plain for path in files.glob(f"test{name}_[5-7]*.mat")]
    if not paths:
        pytest.skip("scipy came without the files of its own tests")
    for path in paths:
        expected = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}
        found = read_variables(path.read_bytes(), list(expected))
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert_same(value, expected[name])


def test_mat_big_endian() -> None:
    variable = matrix(6, (1, 2), element(9, struct.pack(">dd", 2.5, -1), ">"), order=">")
    content = HEADER[:124] + struct.pack(">H", 0x0100) + b"MI" + variable
    np.testing.assert_array_equal(read_variables(content, ["a"])["a"], [[2.5, -1]])


def test_mat_ignores_damage_in_other_variables() -> None:
    content = file_of(matrix(99, (1,), b"", b"b"), matrix(6, (1, 1), DOUBLE))
    assert read_variables(content, ["a", "c"])["a"].item() == 2.5


def test_mat_reads_first_of_equal_names() -> None:
    content = file_of(matrix(6, (1, 1), DOUBLE), matrix(6, (1, 1), element(2, b"\7")))
    assert read_variables(content, ["a"])["a"].item() == 2.5


def structs(length: int, names: bytes) -> bytes:
    field = matrix(6, (1, 1), DOUBLE, b"")
    return file_of(matrix(2, (1, 1), element(5, struct.pack("<i", length)) + element(1, names) + field))


def test_mat_reads_fields_by_name() -> None:
    assert read_variables(structs(8, b"field\0\0\0"), ["a"])["a"]["field"].item().item() == 2.5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin"),
        (HEADER[:124] + struct.pack("<H", 0x0200) + b"IM", "does not begin"),
        (file_of(b"\x0e\0\0"), "ends within"),
        (file_of(struct.pack("<II", 14, 2**32 - 1)), "longer than what holds it"),
        (file_of(element(9, bytes(8))), "kind 9 where a variable should be"),
        (
            file_of(matrix(6, (1, 1), element(77, bytes(8)))),
            "not as large as it says",
        ),  # on this scipy ends the process
        (file_of(matrix(6, (1, 1), element(14, bytes(8)))), "not as large as it says"),
        (file_of(matrix(6, (3, 1), DOUBLE)), "not as large as it says"),
        (file_of(matrix(6 | 1 << 11, (1, 1), DOUBLE)), "not as large as it says"),
        (file_of(matrix(6, (1, 1), DOUBLE + DOUBLE)), "more than it should"),
        (file_of(matrix(6, (-1, -1), DOUBLE)), "impossible dimensions"),
        (file_of(matrix(6, (1,) * 33, DOUBLE)), "impossible dimensions"),
        (file_of(matrix(1, (2**31 - 1, 2**31 - 1), DOUBLE)), "larger than what holds it"),
        (file_of(matrix(1, (1, 1), DOUBLE)), "lacks a part"),
        (file_of(matrix(5, (1, 1), DOUBLE)), "class 5"),
        (structs(4, b"one\0two\0"), "lacks a part"),
        (structs(-8, b"field\0\0\0"), "impossible length"),
        (structs(5, b"field"), "names of a struct's fields"),
        (structs(6, b"field\0\0\0"), "names of a struct's fields"),
        (file_of(element(15, b"abcdefgh")), "cannot be unpacked"),
        (file_of(element(15, zlib.compress(matrix(6, (1, 1), DOUBLE))[:-6])), "ends within a packed variable"),
    ],
)
def test_mat_refuses_damage_with_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_variables(content, ["a"])


def test_mat_refuses_deeply_nested_cells() -> None:
    nested = matrix(6, (1, 1), DOUBLE)
    for depth in range(matlab.MAX_DEPTH):
        nested = matrix(1, (1, 1), nested)
        assert read_variables(file_of(nested), ["a"])["a"].shape == (1, 1), depth
    with pytest.raises(ValueError, match="too deep"):
        read_variables(file_of(matrix(1, (1, 1), nested)), ["a"])


def test_mat_refuses_to_unpack_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MAX_BYTES", 1 << 20)
    bomb = saved(compressed=True, a=np.zeros(2 << 20, np.uint8))
    assert len(bomb) < 8192
    with pytest.raises(ValueError, match="unpacks to more than 1 MiB"):
        read_variables(bomb, ["a"])
    half = saved(compressed=True, a=np.zeros(600 << 10, np.uint8), b=np.zeros(600 << 10, np.uint8))
    with pytest.raises(ValueError, match="unpacks to more than 1 MiB"):
        read_variables(half, ["a"])


def test_mat_refuses_too_many_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MAX_MATRICES", 100)
    cells = [matrix(1, (1, count), matrix(6, (1, 1), DOUBLE) * count) for count in (99, 100)]
    assert read_variables(file_of(cells[0]), ["a"])["a"].shape == (1, 99)
    with pytest.raises(ValueError, match="too many arrays"):
        read_variables(file_of(cells[1]), ["a"])
