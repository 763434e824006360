"""Which photographs make a batch, and reading them in the background.

A batch is a function of the seed and its number alone, so training resumed at a step goes on as if never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Generic, TypeVar

import numpy as np
import torch

from geomatch.datasets.image_folder import ImageBatch, ImageReader
from geomatch.datasets.image_list import LabelledImage, background_of, by_label
from geomatch.errors import InputError
from geomatch.options import Batches
from geomatch.runtime.prefetch import Prefetch
from geomatch.training.augmentation import ViewPairs

Pairs = TypeVar("Pairs", bound=ViewPairs)

_TRIES = 100  # for each photograph of a batch, before all of them are taken to be damaged


class BatchSampler:
    """Draws batches of ``size`` photographs: of one label, of all, or each of a label drawn for it (``kind``).

    Raises InputError if no label has enough of them.
    """

    def __init__(self, photographs: Sequence[LabelledImage], kind: Batches, size: int, seed: int) -> None:
        self.kind, self.size, self.seed = kind, size, seed
        self.groups: list[Sequence[LabelledImage]] = [photographs]
        if kind is Batches.one_class:
            self.groups = [group for group in by_label(photographs).values() if len(group) >= size]
            if not self.groups:
                raise InputError(
                    f"no label has the {size} photographs that one step needs: "
                    f"give labelled data, or --set batches={Batches.mixed}"
                )
        elif kind is Batches.balanced:
            background = background_of(photographs)
            self.groups = [*by_label(photographs).values(), *([background] if background else [])]
            if not self.groups:
                raise InputError("no photograph has a label: give labelled data")
        # Between drawing photographs and drawing labels evenly: small classes are seen, but not too often.
        weights = np.sqrt([len(group) for group in self.groups])
        self.chances = weights / weights.sum()

    def draw(self, batch: int) -> tuple[Iterator[LabelledImage], int, torch.Generator]:
        """Photographs to try in order, how many readable ones make the batch, and a generator for the batch's views."""
        random = np.random.default_rng((self.seed, batch))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        if self.kind is Batches.balanced:
            return self._balanced(random), self.size, generator
        group = self.groups[self._label(random)]
        chosen = random.choice(len(group), size=min(self.size, len(group)), replace=False)
        taken = set(chosen.tolist())

        def replacements() -> Iterator[int]:  # a permutation of a million is drawn only if it is needed
            yield from (index for index in random.permutation(len(group)) if index not in taken)

        return (group[index] for index in chain(chosen, replacements())), len(chosen), generator

    def _balanced(self, random: np.random.Generator) -> Iterator[LabelledImage]:
        for _ in range(_TRIES * self.size):
            group = self.groups[self._label(random)]
            yield group[int(random.integers(len(group)))]

    def _label(self, random: np.random.Generator) -> int:
        return int(random.choice(len(self.groups), p=self.chances))


class BatchLoader(Generic[Pairs]):
    """Reads batches and has ``prepare`` draw their view pairs, in threads, which end on leaving ``upcoming``."""

    def __init__(
        self,
        sampler: BatchSampler,
        reader: ImageReader,
        device: torch.device,
        prepare: Callable[[ImageBatch, torch.Generator], Pairs],
        stride: int,
    ) -> None:
        """device: that of the training. stride: between the numbers of the batches asked for."""
        self.sampler, self.reader, self.device, self.prepare = sampler, reader, device, prepare
        self.upcoming = Prefetch(self._load, stride=stride)

    def __call__(self, batch: int) -> tuple[Pairs, tuple[str, ...]]:
        """A batch's view pairs, on the CPU, and the names of photographs newly found unreadable. Raises InputError."""
        known = len(self.reader.unreadable)
        images, pairs = self.upcoming(batch)
        self.reader.admit(images)
        assert pairs is not None  # else there was nothing to admit
        return pairs, tuple(self.reader.unreadable[known:])

    def _load(self, batch: int) -> tuple[ImageBatch, Pairs | None]:
        photographs, count, generator = self.sampler.draw(batch)
        images = self.reader.attempt(photographs, count)
        if not images.pixels:
            return images, None
        pairs = self.prepare(images, generator)
        return images, pairs.pinned() if self.device.type == "cuda" else pairs
