"""What goes in and out of a matcher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from torch import Tensor

from geomatch.correspondence import FeatureMap, RegionMatches
from geomatch.errors import InputError
from geomatch.geometry.grid import Grid, read_cells

if TYPE_CHECKING:
    from geomatch.matching.context import MatchContext


@dataclass(frozen=True)
class TargetPoints:
    """Where the points of a grid over one image lie in another.

    grid: in pixels of its own image.
    positions: (grid.height * grid.width, 2) float32, x then y, in pixels of the other image, in row-major order.
    found: (grid.height * grid.width,) bool, which points were matched themselves and not filled in from their
        neighbours; None: all.
    regions: the matches of boxes that the points were derived from, if they were.
    """

    grid: Grid
    positions: Tensor
    found: Tensor | None = None
    regions: RegionMatches | None = None

    def displacements(self) -> Tensor:
        """(grid.height * grid.width, 2) float32: how far each point moves, in pixels."""
        return self.positions - self.grid.centres(self.positions.device)

    def at(self, pixels: Tensor) -> Tensor:
        """Where any points (N, 2) of the image lie in the other: (N, 2), displacements read bilinearly."""
        moves = self.displacements().mT.reshape(1, 2, *self.grid.shape)
        return pixels + read_cells(moves, self.grid.to_cells(pixels)[None])[0].mT


Limits = Mapping[str, tuple[float, float]]

REFINEMENT_LIMITS: Final[Limits] = {"window": (0, 10), "temperature": (1e-3, 100)}
"""Of the refinement to sub-cell accuracy."""


class Matcher(ABC):
    """Finds target points, both ways. A frozen dataclass whose fields are its parameters, set by name.

    limits: the smallest and the largest value of each number. Raises InputError for others.
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

        Raises OutOfMemoryError when the context's bound on memory cannot hold even the smallest piece of work.
        """

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:  # noqa: ARG002
        """Add to an image's features what the matcher needs of the image (3, H, W) uint8 itself; by default nothing."""
        return features
