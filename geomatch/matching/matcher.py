"""Matchers by name, ours and other packages', and the road from two feature maps to a correspondence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.matching.affine_consistency.affine import AffineConsistency
from geomatch.matching.base import Method, TargetPoints
from geomatch.matching.densify import Densification, densify
from geomatch.matching.fusion import Fusion
from geomatch.matching.hough import HoughVoting
from geomatch.matching.mutual import MutualNeighbours
from geomatch.matching.nearest import NearestNeighbours
from geomatch.matching.proposal_flow.proposal_flow import LocalOffsets, NaiveAppearance, ProbabilisticHough
from geomatch.matching.spatial_pyramid.spatial_pyramid import SpatialPyramid
from geomatch.options import DEFAULT_MAX_MEMORY
from geomatch.parameters import parse_parameters, with_parameters
from geomatch.runtime.plugins import Kind, make_plugin

METHODS: Mapping[str, Method] = {
    "nn": NearestNeighbours(),
    "mutual": MutualNeighbours(),
    "hough": HoughVoting(),
    "dsp": SpatialPyramid(),
    "pf-nam": NaiveAppearance(),
    "pf-phm": ProbabilisticHough(),
    "pf-lom": LocalOffsets(),
    "coherence": AffineConsistency(),
    "fusion": Fusion(),
}


def find_method(name: str) -> Method:
    """A method by name, with its defaults. Raises InputError for an unknown name."""
    return METHODS[name] if name in METHODS else make_plugin(Kind.matcher, name, METHODS, Method)  # type: ignore[type-abstract]


def parse_method_parameters(name: str, texts: Mapping[str, str]) -> dict[str, object]:
    """The parameters of a method as the user wrote them, parsed by their types. Raises InputError."""
    return parse_parameters(type(find_method(name)), texts, f"matcher {name}")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Matcher:
    """Two feature maps to a correspondence: place the cells of either in the other, then make that dense.

    name: as in `named`. method: what has its parameters. cells: about how many cells, at least,
    are matched along an image's longer side; coarser features are interpolated to a whole multiple of their grid.
    max_bytes: bound on the memory that the search takes besides features and result.
    """

    name: str
    method: Method
    cells: int = 0
    max_bytes: int = DEFAULT_MAX_MEMORY
    densification: Densification = field(default_factory=Densification)

    @classmethod
    def named(cls, name: str, parameters: Mapping[str, object] | None = None) -> Matcher:
        """A matcher of METHODS, or one that an installed package adds under the entry points ``geomatch.matchers``.

        parameters: the method's, by name. Raises InputError for an unknown name or a value that does not fit.
        """
        return cls(name, with_parameters(find_method(name), parameters or {}, f"matcher {name}"))  # type: ignore[type-var]

    def __call__(self, source: FeatureMap, target: FeatureMap) -> Correspondence:
        """Raises OutOfMemoryError when ``max_bytes`` cannot hold even the smallest piece of work."""
        return densify(*self.place(source, target), self.densification, self.max_bytes)

    def place(
        self, source: FeatureMap, target: FeatureMap
    ) -> tuple[FeatureMap, FeatureMap, TargetPoints, TargetPoints]:
        """The features on the grids that are matched, and where either image lies in the other."""
        source, target = self.refine(source, target)
        return source, target, *self.method(source, target, self.max_bytes)

    def refine(self, source: FeatureMap, target: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
        """The features on the grids that are matched."""
        factor = max(1, round(self.cells / max(source.grid.shape)))
        return source.upsampled(factor), target.upsampled(factor)
