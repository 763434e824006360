"""COCO's run-length encoding of masks: the lengths of runs of 0s and 1s in turn, 0s first, column by column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FIRST = 48  # the letter for 0
_BITS = 5  # of a number that a letter holds
_MORE = 1 << _BITS  # set in all letters of a number but the last
_NEGATIVE = 1 << (_BITS - 1)  # set in the last letter of a negative number


def encode_runs(mask: NDArray[np.bool_]) -> list[int]:
    """The lengths of the runs of a mask (H, W)."""
    column_wise = np.concatenate(([False], mask.ravel(order="F")))
    starts = np.flatnonzero(column_wise[1:] != column_wise[:-1])
    return [int(run) for run in np.diff(starts, prepend=0, append=mask.size)]


def decode_runs(runs: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of (height, width) that has these runs. Raises ValueError if they do not fit this size."""
    if not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("its runs should be whole numbers of pixels")
    if sum(runs) != size[0] * size[1]:
        raise ValueError(f"its runs add up to {sum(runs)} pixels, the image has {size[1]}x{size[0]}")
    ones = np.arange(len(runs)) % 2 == 1
    return np.repeat(ones, runs).reshape(size, order="F")


def pack_runs(runs: Sequence[int]) -> str:
    """Runs packed into a text. From the fourth on, each is written as its difference to the run two before. A number is
    split into pieces of five bits, lowest first, with a letter for each."""
    letters = []
    for place, run in enumerate(runs):
        number = run - runs[place - 2] if place > 2 else run
        while True:
            piece, number = number & (_MORE - 1), number >> _BITS
            last = number == (-1 if piece & _NEGATIVE else 0)
            letters.append(chr(_FIRST + (piece if last else piece | _MORE)))
            if last:
                break
    return "".join(letters)


def unpack_runs(text: str) -> list[int]:
    """The runs packed into a text. Raises ValueError if it is not such a text."""
    runs: list[int] = []
    number = shift = 0
    for letter in text:
        code = ord(letter) - _FIRST
        if not 0 <= code < 2 * _MORE:
            raise ValueError(f"'{letter}' is not a letter of packed runs")
        number |= (code & (_MORE - 1)) << shift
        shift += _BITS
        if shift > 10 * _BITS:
            raise ValueError("a run is longer than any image")
        if not code & _MORE:
            if code & _NEGATIVE:
                number -= 1 << shift
            runs.append(number + runs[-2] if len(runs) > 2 else number)
            number = shift = 0
    if shift:
        raise ValueError("the last run is cut off")
    return runs
