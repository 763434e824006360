"""The variables that `torchrun`, or another launcher of several processes, sets in the environment."""

from __future__ import annotations

import os
import warnings

from geomatch.errors import GeomatchWarning, InputError


def process_number() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are, by RANK and WORLD_SIZE; (0, 1) without a launcher.

    One of the two alone was left over by a launcher and is ignored, with a GeomatchWarning if it would have divided the
    work. Raises InputError if they are not valid.
    """
    rank, size = os.environ.get("RANK") or None, os.environ.get("WORLD_SIZE") or None
    if rank is None or size is None:
        if rank not in (None, "0") or size not in (None, "1"):
            left, lacking = (f"WORLD_SIZE={size}", "RANK") if rank is None else (f"RANK={rank}", "WORLD_SIZE")
            warnings.warn(
                f"{left} in the environment is ignored, since {lacking} is not set: this process does all",
                GeomatchWarning,
                stacklevel=2,
            )
        return 0, 1
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise InputError(f"RANK={rank} and WORLD_SIZE={size} in the environment: the rank must be below the size")
    return int(rank), int(size)
