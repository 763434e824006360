"""Computations of several threads side by side, each on its share of torch's threads and of the memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

import torch


@contextmanager
def torch_threads(count: int, usual: int) -> Iterator[None]:
    """Let torch compute on ``count`` threads for the block, and on ``usual`` ones after it.

    Torch's count belongs to the thread that sets it, and to those that compute for the first time after it. So what the
    calling thread had before says nothing.
    """
    _set_threads(count)
    try:
        yield
    finally:
        _set_threads(usual)


class SideBySide:
    """Lets computations of several threads run at the same time, at most ``most`` of them.

    One that begins alone has all ``threads`` of torch, one that begins beside others its share: small operations hardly
    gain from several threads, and two computations on one each are done sooner than one after the other on both. What
    is computed must not depend on how many threads torch has.

    max_bytes: what they may take together. One that takes more runs alone.
    """

    def __init__(self, threads: int, most: int, max_bytes: int) -> None:
        self.threads, self.most, self._free = threads, most, max_bytes
        self._running, self._changed = 0, Condition()

    @contextmanager
    def __call__(self, nbytes: int) -> Iterator[None]:
        """Wait for a place, and hold it for the block. nbytes: what the computation takes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running or (self._running < self.most and self._free >= nbytes))
            self._running += 1
            self._free -= nbytes
            share = max(1, self.threads // self._running)
        try:
            with torch_threads(share, self.threads):
                yield
        finally:
            with self._changed:
                self._running -= 1
                self._free += nbytes
                self._changed.notify_all()


def _set_threads(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
