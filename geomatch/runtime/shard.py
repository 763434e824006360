"""A list divided among processes that ``torchrun``, or another launcher that sets RANK and WORLD_SIZE, has started."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from geomatch.runtime.launcher import process_number

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Process ``number`` of ``count`` processes, each of which works on its own part of a list."""

    number: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls) -> Shard:
        """This process's shard by the variables RANK and WORLD_SIZE. Raises InputError if they are not valid."""
        return cls(*process_number())

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """This shard's part of a list.

        Parts differ in length by at most one item, and each is one slice, since neighbouring items share images.

        >>> Shard(1, 3).part("abcdefg")
        'cd'
        """
        start, stop = (len(items) * number // self.count for number in (self.number, self.number + 1))
        return items[start:stop]

    def wait_for_others(self) -> None:
        """Wait until all shards are done, if torchrun has started the processes.

        torchrun stops all others as soon as one exits with a status other than 0, so none may exit early.
        """
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or self.count == 1:
            return
        done = f"geomatch-shards-done-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        try:
            store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
            store.add(done, 1)
            while store.add(done, 0) < self.count:
                time.sleep(0.1)
        except DistError:  # torchrun has ended, so there is nobody to wait for
            return
