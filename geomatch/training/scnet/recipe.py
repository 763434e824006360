"""The settings of a training of SCNet."""

from __future__ import annotations

from dataclasses import dataclass, field

from geomatch.features.scnet import SCNetConfig
from geomatch.geometry.homography import WarpRanges
from geomatch.parameters import check_limits
from geomatch.training.keypoints.views import ViewRecipe


@dataclass(frozen=True, kw_only=True)
class SCNetRecipe(ViewRecipe):
    """All that decides what is learnt from given keypoints and initial weights, but for the optimiser.

    boxes: of each view, random ones. positive_overlap: a box above this IoU with a region's true box is a match of the
    region; one of at most negative_overlap is none. margin: of the ranking loss, see `ranking_loss`.
    """

    network: SCNetConfig = field(default_factory=SCNetConfig)
    view_size: int = 161
    batch_size: int = 1
    least_shared: int = 6
    boxes: int = 500
    positive_overlap: float = 0.6
    negative_overlap: float = 0.4
    margin: float = 1.0
    warps: WarpRanges = field(default_factory=lambda: WarpRanges(smallest_view=0.9, largest_view=1.6))

    def __post_init__(self) -> None:
        """Raises InputError for a value beyond its limits."""
        owner = "training scnet"
        self.check_views(owner)
        check_limits(self, owner, "boxes", 1, 10_000)
        check_limits(self, owner, "positive_overlap negative_overlap", 0, 1)
        check_limits(self, owner, "margin", 0)
