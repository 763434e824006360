"""A list divided into chunks of about equal work, whose items share images."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

WINDOW = 4096
"""Items that chunks are chosen among at a time. Results are reported in order, so at most two windows wait for it."""
MOST_WORK = 48
"""Of a chunk: its images and its items together, since an image takes about as long to extract as a pair to match."""
LEAST_CHUNKS = 8
"""For each process, if the list is long enough: so that all processes end at about the same time."""


@dataclass(frozen=True)
class Chunk:
    """Items that one process works on, by their places in the list, and how many processes were lost over a single."""

    places: Sequence[int]
    losses: int = 0

    def halves(self) -> list[Chunk]:
        """The chunk in two, or the same if it is a single item, which has then lost another process."""
        if len(self.places) == 1:
            return [Chunk(self.places, self.losses + 1)]
        middle = len(self.places) // 2
        return [Chunk(self.places[:middle]), Chunk(self.places[middle:])]


def chunk_work(items: int, processes: int) -> int:
    """How much work a chunk has, in items and images, given the length of the list and the number of processes."""
    return max(1, min(MOST_WORK, 3 * items // (LEAST_CHUNKS * max(1, processes))))


def chunks_of(images: Sequence[Sequence[Hashable]], work: int, window: int = WINDOW) -> Iterator[Chunk]:
    """Divide a list, each item of which needs ``images``, into chunks of about ``work`` items and images.

    Of each ``window`` of the list, a chunk begins with the first item that is left. It grows by the image that
    completes the most items, the first in the list of several, until the work is enough.
    """
    for start in range(0, len(images), window):
        places = range(start, min(start + window, len(images)))
        left = _Window({place: list(dict.fromkeys(images[place])) for place in places})
        while left.images:
            yield Chunk(left.take(work))


class _Window:
    """Items that are in no chunk yet. images: of each, by place. users: the places that need an image."""

    def __init__(self, images: dict[int, list[Hashable]]) -> None:
        self.images = images
        self.users: defaultdict[Hashable, dict[int, None]] = defaultdict(dict)
        for place, needed in images.items():
            for image in needed:
                self.users[image][place] = None

    def take(self, work: int) -> list[int]:
        """Remove a chunk; the places of its items, in order."""
        chosen: list[int] = []
        inside: set[Hashable] = set()
        gains: defaultdict[Hashable, int] = defaultdict(int)
        heap: list[tuple[int, int, Hashable]] = []
        while self.images and len(chosen) + len(inside) < work:
            image = self._best(heap, gains, inside)
            inside.add(image)
            for place in list(self.users[image]):
                missing = [other for other in self.images[place] if other not in inside]
                if not missing and len(chosen) + len(inside) < work:
                    self._remove(place)
                    chosen.append(place)
                elif len(missing) == 1:
                    gains[missing[0]] += 1
                    heapq.heappush(heap, (-gains[missing[0]], place, missing[0]))
        if not chosen:  # a single item's images are more than the work of a chunk
            chosen.append(first := next(iter(self.images)))
            self._remove(first)
        return sorted(chosen)

    def _best(
        self, heap: list[tuple[int, int, Hashable]], gains: dict[Hashable, int], inside: set[Hashable]
    ) -> Hashable:
        """The image outside that completes the most items, else the first that the first item needs."""
        while heap:
            gain, _, image = heapq.heappop(heap)
            if image not in inside and -gain == gains[image]:
                return image
        first = next(iter(self.images.values()))
        return next(image for image in first if image not in inside)

    def _remove(self, place: int) -> None:
        for image in self.images.pop(place):
            del self.users[image][place]
