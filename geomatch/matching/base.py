"""The contract of a matcher, and the registry of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.errors import InputError
from geomatch.matching.densify import Densification, densify
from geomatch.matching.hough import hough_partners
from geomatch.matching.nearest import nearest_partners
from geomatch.matching.search import Partners

# source features, target features, bytes of working memory -> partners
PartnerSearch = Callable[[FeatureMap, FeatureMap, int], Partners]

MATCHERS: dict[str, PartnerSearch] = {"nn": nearest_partners, "hough": hough_partners}


@dataclass(frozen=True)
class Matcher:
    """Two feature maps to a correspondence: find partners, then make them dense.

    name: one of MATCHERS. cells: about how many cells, at least, partners are sought on along an image's longer side;
    coarser features are interpolated to a whole multiple of their grid. max_bytes: bound on the memory that the search
    takes besides features and result.
    """

    name: str = "nn"
    cells: int = 0
    max_bytes: int = 2 << 30
    densification: Densification = field(default_factory=Densification)

    def __post_init__(self) -> None:
        if self.name not in MATCHERS:
            raise InputError(f"unknown matcher '{self.name}': the known ones are {', '.join(MATCHERS)}")

    def __call__(self, source: FeatureMap, target: FeatureMap) -> Correspondence:
        """Raises OutOfMemoryError when ``max_bytes`` cannot hold even the smallest piece of work."""
        return densify(*self.search(source, target), self.densification, self.max_bytes)

    def search(self, source: FeatureMap, target: FeatureMap) -> tuple[FeatureMap, FeatureMap, Partners]:
        """The features on the grids that partners are sought on, and the partners. Raises OutOfMemoryError."""
        factor = max(1, round(self.cells / max(source.grid.shape)))
        source, target = source.upsampled(factor), target.upsampled(factor)
        return source, target, MATCHERS[self.name](source, target, self.max_bytes)
