from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
import torch

from geomatch.runtime.parallel_map import map_in_order
from geomatch.runtime.threads.side_by_side import SideBySide, torch_threads

TIMEOUT = 20


@pytest.fixture(autouse=True)
def _four_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(usual)


def test_two_computations_meet_and_share_the_threads() -> None:
    gate, meeting = SideBySide(4, 4, max_bytes=100), Barrier(2)

    def compute(_: int) -> int:
        with gate(50):
            meeting.wait(TIMEOUT)
            return torch.get_num_threads()

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(compute, range(2))) == [2, 4]
    with gate(50):
        assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("most", "first", "second"), [(1, 10, 10), (4, 60, 60), (4, 60, 500), (4, 500, 10)])
def test_computations_take_turns_without_place_or_memory(most: int, first: int, second: int) -> None:
    gate, entered = SideBySide(4, most, max_bytes=100), Event()

    def compute() -> None:
        with gate(second):
            entered.set()

    with ThreadPoolExecutor(1) as threads:
        with gate(first):
            waiting = threads.submit(compute)
            assert not entered.wait(0.05)
        waiting.result(TIMEOUT)


def test_a_failed_computation_leaves_its_place() -> None:
    gate = SideBySide(4, 1, max_bytes=100)
    with pytest.raises(ValueError, match="broken"), gate(100):
        raise ValueError("broken")
    with gate(100):
        assert torch.get_num_threads() == 4


def test_threads_of_a_list_compute_like_the_one_that_asks() -> None:
    """Torch gives new threads the count that any thread has set last."""

    def set_one() -> None:
        torch.set_num_threads(1)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(set_one).result(TIMEOUT)
    assert set(map_in_order(lambda _: torch.get_num_threads(), range(20))) == {4}
    with torch_threads(2, usual=4):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4
