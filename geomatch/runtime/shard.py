"""A list shared out among the processes that ``torchrun`` starts, or anything else that sets RANK and WORLD_SIZE."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from geomatch.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` processes that do a list together, each its own part, without a word to each other."""

    number: int = 0
    count: int = 1

    @classmethod
    def of_torchrun(cls) -> Shard:
        """The share that the variables RANK and WORLD_SIZE give to this process. Raises InputError for nonsense."""
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
            raise InputError(f"RANK={rank} and WORLD_SIZE={size} in the environment: the rank must be below the size")
        return cls(int(rank), int(size))

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """This share of a list: as long as the others, to one, and in one piece, since neighbours share images."""
        start, stop = (len(items) * number // self.count for number in (self.number, self.number + 1))
        return items[start:stop]

    def await_others(self) -> None:
        """Say that this share is done, and wait until all are, where torchrun is what has started them.

        For torchrun stops the other processes as soon as one ends with a status other than 0. One that ends so because
        of its own failures must be the last.
        """
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or self.count == 1:
            return
        done = f"geomatch-shares-done-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        try:
            store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
            store.add(done, 1)
            while store.add(done, 0) < self.count:
                time.sleep(0.1)
        except DistError:  # torchrun itself has gone, and with it all reason to wait
            return
