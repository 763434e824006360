"""A pair of images to match: their features, the similarity of their cells, and the memory to work in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from geomatch.correspondence import FeatureMap
from geomatch.matching.similarity import Similarity
from geomatch.options import DEFAULT_MAX_MEMORY


@dataclass(frozen=True)
class MatchContext:
    """What a matcher works on.

    source, target: features on the grids that are matched. max_bytes: bound on the memory that the search takes
    besides the features and the result.
    """

    source: FeatureMap
    target: FeatureMap
    max_bytes: int = DEFAULT_MAX_MEMORY
    _reverse_of: MatchContext | None = field(default=None, repr=False, compare=False)

    @property
    def similarity(self) -> Similarity:
        """Similarity of all source cells to all target cells, computed some rows at a time."""
        return Similarity.of(self.source, self.target)

    @cached_property
    def stored_similarity(self) -> Similarity:
        """The same, computed once for all who read it, if an eighth of ``max_bytes`` holds it."""
        if self._reverse_of is not None:
            return self._reverse_of.stored_similarity.back
        return self.similarity.kept(self.max_bytes)

    @cached_property
    def reversed(self) -> MatchContext:
        """The same pair, the other way round."""
        return self._reverse_of or MatchContext(self.target, self.source, self.max_bytes, self)
