import threading
import time

import pytest

from geomatch.runtime.prefetch import Prefetch


def test_prefetch_returns_the_value_asked_for() -> None:
    """Of the values computed together, the earlier ones are ready last."""

    def slower_if_early(number: int) -> int:
        time.sleep(0.01 * (3 - number % 4))
        return number**2

    with Prefetch(slower_if_early, stride=2) as squares:
        assert [squares(number) for number in range(5, 25, 2)] == [number**2 for number in range(5, 25, 2)]


def test_prefetch_computes_ahead() -> None:
    computed = [threading.Event() for _ in range(8)]
    with Prefetch(lambda number: computed[number].set(), stride=3, depth=2) as ahead:
        ahead(0)
        assert all(computed[number].wait(10) for number in (0, 3, 6))
    assert not any(computed[number].is_set() for number in (1, 2, 4, 5, 7))


def test_prefetch_computes_other_numbers_on_demand() -> None:
    with Prefetch(lambda number: -number) as ahead:
        assert [ahead(number) for number in (7, 7, 2, 100, 3, 4)] == [-7, -7, -2, -100, -3, -4]


def test_prefetch_raises_an_error_only_at_its_number() -> None:
    def fail_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    with Prefetch(fail_at_three) as ahead:
        assert [ahead(number) for number in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            ahead(3)
        assert ahead(4) == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_prefetch_stops_its_threads_on_an_error(error: type[BaseException]) -> None:
    before = threading.active_count()
    started: list[int] = []
    hold = threading.Event()

    def compute(number: int) -> None:
        started.append(number)
        if number:
            hold.wait(10)

    def use() -> None:
        with Prefetch(compute, depth=50, threads=2) as ahead:
            ahead(0)
            threading.Timer(0.05, hold.set).start()
            raise error

    with pytest.raises(error):
        use()
    assert len(started) <= 3
    hold.set()
    while any(isinstance(thread, threading.Timer) for thread in threading.enumerate()):
        time.sleep(0.01)
    assert threading.active_count() == before
