"""Pickles of arrays: those of numpy are read as written, and whatever would run code is refused."""

import io
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from geomatch.io.formats.pickled_arrays import read_pickled_arrays

VALUE = {
    "car": {
        "video": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
        "points": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 2, 2),
        "occluded": np.eye(3, 2, dtype=bool),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "swapped": np.arange(3).astype(">i4"),
        "number": np.float32(3),
        "empty": np.zeros((0, 2)),
    },
    "plain": [1, (2.5, "text"), None, True, b""],
}


def read(content: bytes) -> object:
    return read_pickled_arrays(io.BytesIO(content))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_are_read_as_numpy_pickles_them(protocol: int) -> None:
    found = read(pickle.dumps(VALUE, protocol))
    assert isinstance(found, dict)
    assert found["plain"] == VALUE["plain"]
    for name, array in VALUE["car"].items():
        np.testing.assert_array_equal(found["car"][name], array)
        assert found["car"][name].dtype == array.dtype


def test_names_of_older_and_newer_numpy_are_known() -> None:
    content = pickle.dumps(np.arange(3.0), 2)
    other = {b"numpy._core.multiarray": b"numpy.core.multiarray", b"numpy.core.multiarray": b"numpy._core.multiarray"}
    (own,) = (name for name in other if name in content)
    assert read(content.replace(own, other[own])).tolist() == [0, 1, 2]


class RunsCode:
    """Its pickle, unpickled as usual, makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_code_is_not_run(tmp_path: Path) -> None:
    """Neither that of an object, nor that of one in an array."""
    trap = RunsCode(tmp_path / "ran")
    for value in (trap, {"car": trap}, np.array([trap], dtype=object)):
        with pytest.raises(ValueError, match=r"it asks for \w+\.\w+.*which is not an array of numbers"):
            read(pickle.dumps(value))
    assert not trap.file.exists()


@pytest.mark.parametrize(
    "value",
    [{1}, 1j, np.array(["text"]), np.zeros(2, complex), np.array([None]), np.ndarray, np.dtype("f4"), [slice(1)]],
)
def test_what_is_no_array_of_numbers_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"not an array of numbers|not of numbers|not as numpy writes it"):
        read(pickle.dumps(value))


def test_list_in_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="not a whole pickle"):
        read(pickle.dumps(endless))


def test_damage_is_a_value_error() -> None:
    """Bytes changed and the end cut off, at random with a fixed seed: read, or refused, but nothing else."""
    content, chance, refused = pickle.dumps(VALUE, 4), random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            read(bytes(damaged[: chance.randint(1, len(damaged))]))
        except ValueError:
            refused += 1
    assert refused > 200
    with pytest.raises(ValueError, match="truncated"):
        read(content[:200])
