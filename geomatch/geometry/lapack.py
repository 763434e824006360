"""Banded linear systems by LAPACK, while other threads run.

`scipy.linalg.solveh_banded` calls the same routine, but holds Python's lock meanwhile, so that no other thread of a
batch moves. Here it is called through the pointer that scipy keeps for Cython.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cython_lapack, solveh_banded

Values: TypeAlias = NDArray[np.float64]

_ROUTINE: Final = "dpbsv"
_KNOWN: Final = b"void (char *, int *, int *, int *,"
"""How the type of the routine begins: other builds of scipy may have longer integers."""


def solve_banded(lower: Values, wanted: Values) -> Values:
    """The X (N, C) of A X = B for a symmetric positive definite A of a band.

    Args:
        lower: (band + 1, N), the lower band: row k holds A[j + k, j] in column j. It is overwritten if its columns are
            contiguous, and copied otherwise.
        wanted: (N, C), B.

    Raises:
        numpy.linalg.LinAlgError: if A is not positive definite.
    """
    call = _released()
    if call is None:
        return np.asarray(solveh_banded(lower, wanted, lower=True, check_finite=False))
    band, found = np.asfortranarray(lower), np.array(wanted, order="F")
    rows, size = band.shape
    numbers = np.array([size, rows - 1, found.shape[1], rows, size, 0], dtype=np.intc)
    n, kd, nrhs, ldab, ldb, info = (numbers[place:].ctypes.data for place in range(6))
    call(b"L", n, kd, nrhs, band.ctypes.data, ldab, found.ctypes.data, ldb, info)
    if numbers[5]:
        raise LinAlgError(f"the matrix is not positive definite ({_ROUTINE}: {numbers[5]})")
    return found


@cache
def _released() -> Any | None:
    """LAPACK's routine as a function of pointers, which ctypes calls without Python's lock; None if unknown."""
    capsule = cython_lapack.__pyx_capi__[_ROUTINE]
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    if not (signature := name_of(capsule)).startswith(_KNOWN):
        return None
    return ctypes.CFUNCTYPE(None, ctypes.c_char_p, *[ctypes.c_void_p] * 8)(pointer_of(capsule, signature))
