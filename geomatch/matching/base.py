"""What a matcher takes, a pair of images as a `MatchContext`, and what it gives, `TargetPoints` both ways."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final

from torch import Tensor

from geomatch.correspondence import FeatureMap, RegionMatches
from geomatch.errors import InputError
from geomatch.geometry.grid import Grid, read_cells
from geomatch.matching.similarity import Similarity
from geomatch.options import DEFAULT_MAX_MEMORY


@dataclass(frozen=True)
class TargetPoints:
    """Where the points of a grid over one image lie in another image.

    grid: in pixels of its own image.
    positions: (grid.height * grid.width, 2) float32, x then y, in pixels of the other image, in row-major order.
    found: (grid.height * grid.width,) bool, the points that were matched themselves, not filled in from their
        neighbours; None: all.
    regions: the matched boxes that the points were computed from, if any.
    """

    grid: Grid
    positions: Tensor
    found: Tensor | None = None
    regions: RegionMatches | None = None

    def displacements(self) -> Tensor:
        """(grid.height * grid.width, 2) float32: position in the other image less position in this one, in pixels."""
        return self.positions - self.grid.centres(self.positions.device)

    def at(self, pixels: Tensor) -> Tensor:
        """Where pixels (N, 2) of this image lie in the other, (N, 2); displacements are interpolated bilinearly."""
        displacements = self.displacements().mT.reshape(1, 2, *self.grid.shape)
        return pixels + read_cells(displacements, self.grid.to_cells(pixels)[None])[0].mT


@dataclass(frozen=True)
class MatchContext:
    """A pair of images to match.

    source, target: features on the grids whose cells are matched.
    max_bytes: bound on the memory that matching takes, features and result excluded.
    """

    source: FeatureMap
    target: FeatureMap
    max_bytes: int = DEFAULT_MAX_MEMORY
    _reverse_of: MatchContext | None = field(default=None, repr=False, compare=False)

    @property
    def similarity(self) -> Similarity:
        """Similarity of all source cells to all target cells, computed a block of rows at a time."""
        return Similarity.of(self.source, self.target)

    @cached_property
    def stored_similarity(self) -> Similarity:
        """The same, computed once and shared by all readers if an eighth of ``max_bytes`` holds it."""
        if self._reverse_of is not None:
            return self._reverse_of._transposed_similarity
        return self.similarity.store_if_small(self.max_bytes)

    @cached_property
    def _transposed_similarity(self) -> Similarity:
        return self.stored_similarity.reversed

    @property
    def reversed(self) -> MatchContext:
        """The same pair with source and target swapped; its reversed is this context again.

        It is made anew: kept, the two would hold each other, and their similarities, until Python collects cycles.
        """
        return self._reverse_of or MatchContext(self.target, self.source, self.max_bytes, self)


def expected_bytes(source: FeatureMap, target: FeatureMap) -> int:
    """What matching takes, features and result excluded: as much as eight times the similarities of all cells."""
    return 8 * 4 * math.prod((*source.grid.shape, *target.grid.shape))


Limits = Mapping[str, tuple[float, float]]

REFINEMENT_LIMITS: Final[Limits] = {"window": (0, 10), "temperature": (1e-3, 100)}
"""Limits of the parameters of `geomatch.matching.refinement.sub_cell`."""


class Matcher(ABC):
    """Finds target points, both ways. A frozen dataclass whose fields are its parameters, set by name.

    limits: the smallest and the largest value of each numeric parameter. Raises InputError for a value outside.
    """

    limits: ClassVar[Limits] = {}

    def __post_init__(self) -> None:
        for name, (least, most) in self.limits.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"matcher's parameter {name} is {value}: it must be between {least:g} and {most:g}")

    @abstractmethod
    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        """Where the source lies in the target, and the target in the source.

        Raises:
            OutOfMemoryError: if ``context.max_bytes`` cannot hold even the smallest piece of work.
            InputError: if the features lack what `prepare` adds.
        """

    @property
    def reads_image(self) -> bool:
        """Whether it reads more of an image than its features; see `prepare`."""
        return type(self).prepare is not Matcher.prepare

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:  # noqa: ARG002
        """Add what the matcher reads from the image (3, H, W) uint8 itself to its features; by default nothing."""
        return features
