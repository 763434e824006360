from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from geomatch.errors import GeomatchWarning, InputError, OutOfMemoryError
from geomatch.runtime.threads.gathered import Gathered


class Squares:
    """Squares of numbers; the first call waits until all the others stand in line."""

    def __init__(self, most: int, calls: int, memory: int = 100) -> None:
        self.gathered = Gathered(self.compute, most)
        self.calls, self.memory = calls, memory
        self.sizes: list[int] = []
        self.started = Event()

    def compute(self, numbers: Sequence[int]) -> list[int]:
        if not self.sizes:
            self.sizes.append(len(numbers))
            self.started.set()
            while len(self.gathered._waiting) < self.calls - 1:
                pass
        else:
            self.sizes.append(len(numbers))
        if len(numbers) > self.memory:
            raise OutOfMemoryError("out of memory")
        if 3 in numbers:
            raise InputError("3 is not to be squared")
        return [number * number for number in numbers]

    def all(self, numbers: Sequence[int]) -> list[int | str]:
        def square(number: int) -> int | str:
            try:
                return self.gathered(number)
            except InputError as error:
                return str(error)

        with ThreadPoolExecutor(self.calls) as threads:
            first = threads.submit(square, numbers[0])
            self.started.wait()
            others = [threads.submit(square, number) for number in numbers[1:]]
            return [each.result() for each in (first, *others)]


def test_gathered_computes_what_waits_together() -> None:
    squares = Squares(most=3, calls=6)
    assert squares.all([10, 11, 12, 13, 14, 15]) == [100, 121, 144, 169, 196, 225]
    assert squares.sizes == [1, 3, 2]


def test_gathered_computes_one_by_one() -> None:
    squares = Squares(most=1, calls=4)
    assert squares.all([4, 5, 6, 7]) == [16, 25, 36, 49]
    assert squares.sizes == [1, 1, 1, 1]


def test_gathered_raises_for_the_item_at_fault_only() -> None:
    assert Squares(most=4, calls=5).all([1, 2, 3, 4, 5]) == [1, 4, "3 is not to be squared", 16, 25]


def test_gathered_takes_half_as_many_once_memory_runs_out() -> None:
    squares = Squares(most=8, calls=9, memory=2)
    with pytest.warns(GeomatchWarning) as said:
        assert squares.all(list(range(10, 19))) == [number**2 for number in range(10, 19)]
    assert [str(each.message) for each in said] == [
        f"out of memory: no more than {count} images are extracted together" for count in (4, 2)
    ]
    assert squares.gathered.most == 2
    assert squares.sizes == [1, 8, 4, 2, 2, 4, 2, 2]


def test_gathered_raises_where_memory_is_short_for_one() -> None:
    with pytest.raises(OutOfMemoryError):
        Squares(most=4, calls=1, memory=0).gathered(7)
