"""The settings of a training from corresponding keypoints."""

from __future__ import annotations

from dataclasses import dataclass, field

from geomatch.geometry.homography import WarpRanges
from geomatch.parameters import check_limits
from geomatch.training.augmentation import ColourRanges


@dataclass(frozen=True)
class KeypointRecipe:
    """All that decides what is learnt from given keypoints and initial weights, but for the optimiser.

    view_size: side of the square views, in pixels. batch_size: pairs of photographs of a batch, each shown in one view.
    classes: categories to learn from; empty: all. left_out: names of keypoints that are not learnt from. across: share
    of the pairs that are of two categories, where keypoints have names. least_shared: keypoints that a pair must share.
    contrastive_weight, temperature, spread: of the contrastive loss, see `contrastive_loss`; spread in cells.
    hardest: cells of a view whose negatives count in the likelihood; positive_radius, negative_radius: pixels of the
    view, as for `label_pairs`. similarity_weight, similarity_cells, similarity_views: of the loss that keeps the
    initial similarities, between cells of the first views of a batch.
    warps: views relative to the square round an object's box.
    """

    view_size: int = 193
    batch_size: int = 2
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    across: float = 0.5
    least_shared: int = 3
    contrastive_weight: float = 1.0
    temperature: float = 0.05
    spread: float = 0.7
    hardest: int = 30
    positive_radius: float = 4.0
    negative_radius: float = 30.0
    similarity_weight: float = 20.0
    similarity_cells: int = 1000
    similarity_views: int = 2
    warps: WarpRanges = field(default_factory=lambda: WarpRanges(smallest_view=0.8, largest_view=1.5))
    colours: ColourRanges = field(default_factory=ColourRanges)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InputError for a value beyond its limits."""
        owner = "training keypoints"
        check_limits(self, owner, "contrastive_weight similarity_weight positive_radius negative_radius seed")
        check_limits(self, owner, "batch_size least_shared hardest similarity_cells similarity_views", 1)
        check_limits(self, owner, "across", 0, 1)
        check_limits(self, owner, "temperature spread", 0.01)
        check_limits(self, owner, "view_size", 64)
