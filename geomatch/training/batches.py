"""Which photographs make a batch: a function of the seed and the batch's number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from geomatch.datasets.photographs import Photograph, by_label
from geomatch.errors import InputError
from geomatch.settings import Batches


class BatchSampler:
    """Draws batches of ``size`` photographs, of one label or of all as ``kind`` says.

    Raises InputError if no label has enough of them.
    """

    def __init__(self, photographs: Sequence[Photograph], kind: Batches, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self.groups = [list(photographs)]
        if kind is Batches.one_class:
            self.groups = [group for group in by_label(photographs).values() if len(group) >= size]
            if not self.groups:
                raise InputError(
                    f"no label has the {size} photographs that one step needs: "
                    f"give labelled data, or --batches {Batches.mixed}"
                )

    def draw(self, batch: int) -> tuple[Iterator[Photograph], int, torch.Generator]:
        """Photographs in the order in which to try them, how many of them make the batch (the further ones stand in
        for those that cannot be read), and the source of all else that is random in it."""
        random = np.random.default_rng((self.seed, batch))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        # Between drawing photographs and drawing classes evenly: thin classes are seen, but not to death.
        weights = np.sqrt([len(group) for group in self.groups])
        group = self.groups[random.choice(len(self.groups), p=weights / weights.sum())]
        chosen = random.choice(len(group), size=min(self.size, len(group)), replace=False)
        instead = (index for index in random.permutation(len(group)) if index not in chosen)
        return (group[index] for index in (*chosen, *instead)), len(chosen), generator
