import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geomatch.io.annotations.rle import decode_runs, encode_runs, pack_runs, unpack_runs

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: st.lists(st.booleans(), min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
        lambda values: np.array(values).reshape(size)
    )
)


def painted(runs: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """A mask painted pixel by pixel, down one column after another."""
    mask = np.zeros((height, width), bool)
    place, value = 0, False
    for run in runs:
        for _ in range(run):
            mask[place % height, place // height] = value
            place += 1
        value = not value
    return mask


def test_encode_runs_of_a_mask_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)  # down the columns: 0 0, 1 1, 1 0
    assert encode_runs(mask) == [2, 3, 1]
    assert encode_runs(~mask) == [0, 2, 3, 1]
    assert encode_runs(np.zeros((2, 3), bool)) == [6]
    assert encode_runs(np.ones((2, 3), bool)) == [0, 6]


def test_pack_runs_equals_cocos_example() -> None:
    runs = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    assert pack_runs(runs) == "61X13mN000`0"
    assert unpack_runs("61X13mN000`0") == runs


@given(masks)
def test_decode_runs_undoes_encode_runs(mask: NDArray[np.bool_]) -> None:
    runs = encode_runs(mask)
    assert all(run > 0 for run in runs[1:])
    np.testing.assert_array_equal(painted(runs, *mask.shape), mask)
    np.testing.assert_array_equal(decode_runs(runs, mask.shape), mask)


@given(st.lists(st.integers(0, 2**40)))
def test_unpack_runs_undoes_pack_runs(runs: list[int]) -> None:
    assert unpack_runs(pack_runs(runs)) == runs


@pytest.mark.parametrize("runs", [[5], [3, 4], [-1, 7], [6.0], [True, 5], ["6"], []])
def test_decode_runs_refuses_runs_that_do_not_fit(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="runs"):
        decode_runs(runs, (2, 3))


@given(st.text(max_size=30))
def test_unpack_runs_of_any_text(text: str) -> None:
    try:
        runs = unpack_runs(text)
    except ValueError:
        return
    assert all(type(run) is int for run in runs)
