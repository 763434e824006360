"""Which photographs make a batch: a function of the seed and the batch's number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch

from geomatch.datasets.image_folder import BACKGROUND, LabelledImage, by_label
from geomatch.errors import InputError
from geomatch.options import Batches

_TRIES = 100  # a photograph of a batch, before damaged ones are all there seems to be


class BatchSampler:
    """Draws batches of ``size`` photographs: of one label, of all, or each of a label drawn for it, as ``kind`` says.

    Raises InputError if no label has enough of them.
    """

    def __init__(self, photographs: Sequence[LabelledImage], kind: Batches, size: int, seed: int) -> None:
        self.kind, self.size, self.seed = kind, size, seed
        self.groups = [list(photographs)]
        if kind is Batches.one_class:
            self.groups = [group for group in by_label(photographs).values() if len(group) >= size]
            if not self.groups:
                raise InputError(
                    f"no label has the {size} photographs that one step needs: "
                    f"give labelled data, or --set batches={Batches.mixed}"
                )
        elif kind is Batches.balanced:
            background = [photograph for photograph in photographs if BACKGROUND in photograph.labels]
            self.groups = [*by_label(photographs).values(), *([background] if background else [])]
            if not self.groups:
                raise InputError("no photograph has a label: give labelled data")
        # Between drawing photographs and drawing labels evenly: thin labels are seen, but not to death.
        weights = np.sqrt([len(group) for group in self.groups])
        self.chances = weights / weights.sum()

    def draw(self, batch: int) -> tuple[Iterator[LabelledImage], int, torch.Generator]:
        """Photographs in the order in which to try them, how many of them make the batch (the further ones stand in
        for those that cannot be read), and the source of all else that is random in it."""
        random = np.random.default_rng((self.seed, batch))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        if self.kind is Batches.balanced:
            return self._one_after_the_other(random), self.size, generator
        group = self.groups[self._label(random)]
        chosen = random.choice(len(group), size=min(self.size, len(group)), replace=False)
        taken = set(chosen.tolist())
        instead = (index for index in random.permutation(len(group)) if index not in taken)
        return (group[index] for index in chain(chosen, instead)), len(chosen), generator

    def _one_after_the_other(self, random: np.random.Generator) -> Iterator[LabelledImage]:
        for _ in range(_TRIES * self.size):
            group = self.groups[self._label(random)]
            yield group[random.integers(len(group))]

    def _label(self, random: np.random.Generator) -> int:
        return int(random.choice(len(self.groups), p=self.chances))
