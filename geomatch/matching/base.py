"""What goes in and out of a matching method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from torch import Tensor

from geomatch.correspondence import FeatureMap, RegionMatches
from geomatch.errors import InputError
from geomatch.geometry.grid import Grid, read_cells


@dataclass(frozen=True)
class TargetPoints:
    """Where the points of a lattice over one image lie in another.

    grid: the lattice, in pixels of its own image. positions: (grid.height * grid.width, 2) float32, x then y, in
    pixels of the other image, in row-major order. found: (grid.height * grid.width,) bool, which of them were matched
    themselves, and not merely placed by their neighbours; None stands for all. regions: the matches of boxes that they
    were placed by, if they were.
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
"""Of the refinement of partners below a cell."""


class Method(ABC):
    """A way to match, and its parameters: a frozen dataclass whose fields ``--set`` changes by name.

    limits: the least and the most that each number may be. Raises InputError for others.
    """

    limits: ClassVar[Limits]

    def __post_init__(self) -> None:
        for name, (least, most) in self.limits.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"matcher's parameter {name} is {value}: it must be between {least:g} and {most:g}")

    @abstractmethod
    def __call__(self, source: FeatureMap, target: FeatureMap, max_bytes: int) -> tuple[TargetPoints, TargetPoints]:
        """Where the source lies in the target, and the target in the source.

        max_bytes: bound on the memory that the search takes besides features and result; raises OutOfMemoryError when
        it cannot hold even the smallest piece of work.
        """

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:  # noqa: ARG002
        """Add to an image's features what the method needs of the image (3, H, W) uint8 itself: nothing, mostly."""
        return features
