import ctypes
from typing import Literal

import numpy as np
import pytest
from scipy.linalg import LinAlgError, solveh_banded

from geomatch.geometry import lapack
from geomatch.geometry.lapack import solve_banded


def system(band: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(0)
    lower = dice.normal(size=(band + 1, size))
    lower[0] += 4 * band
    return lower, dice.normal(size=(size, 2))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("known", [True, False])
def test_solve_banded_is_what_scipy_finds(
    monkeypatch: pytest.MonkeyPatch, known: bool, order: Literal["C", "F"]
) -> None:
    if not known:
        monkeypatch.setattr(lapack, "_released", lambda: None)
    lower, wanted = system(7, 50)
    before = lower.copy(), wanted.copy()
    expected = solveh_banded(lower, wanted, lower=True)
    assert (solve_banded(lower.copy(order=order), wanted) == expected).all()
    assert (solve_banded(lower, wanted) == expected).all()
    assert (lower == before[0]).all(), "its columns are not contiguous"
    assert (wanted == before[1]).all()


def test_solve_banded_refuses_what_is_not_positive_definite() -> None:
    lower, wanted = system(3, 20)
    lower[0, 12] = -1
    with pytest.raises(LinAlgError, match="not positive definite"):
        solve_banded(lower, wanted)


def test_solve_banded_calls_lapack_without_pythons_lock() -> None:
    routine = lapack._released()
    assert routine is not None, "this scipy's routine has another type"
    assert not routine._flags_ & ctypes.PyDLL._func_flags_ & ~ctypes.CDLL._func_flags_
