"""The settings of a training from corresponding keypoints."""

from __future__ import annotations

from dataclasses import dataclass, field

from geomatch.parameters import check_limits
from geomatch.training.keypoints.pseudo_labels import PseudoLabelRecipe
from geomatch.training.keypoints.views import ViewRecipe


@dataclass(frozen=True, kw_only=True)
class KeypointRecipe(ViewRecipe):
    """All that decides what is learnt from given keypoints and initial weights, but for the optimiser.

    context: channels of the descriptors' `Context`, if the initial network has none. column_size: principal components
    of the trunk's columns that the heads learn on, while the trunk is frozen.
    contrastive_weight, temperature, spread: of the contrastive loss, see `contrastive_loss`; spread in cells.
    hardest: cells of a view whose negatives count in the likelihood; positive_radius, negative_radius: pixels of the
    view, as for `label_pairs`. similarity_weight, similarity_cells, similarity_views: of the loss that keeps the
    initial similarities, between cells of the first views of a batch. pseudo_labels: of photographs without keypoints.
    """

    view_size: int = 225
    batch_size: int = 8
    context: int = 256
    column_size: int = 512
    contrastive_weight: float = 1.0
    temperature: float = 0.05
    spread: float = 0.7
    hardest: int = 30
    positive_radius: float = 4.0
    negative_radius: float = 30.0
    similarity_weight: float = 0.0
    similarity_cells: int = 1000
    similarity_views: int = 2
    pseudo_labels: PseudoLabelRecipe = field(default_factory=PseudoLabelRecipe)

    def __post_init__(self) -> None:
        """Raises InputError for a value beyond its limits."""
        owner = "training keypoints"
        self.check_views(owner)
        check_limits(self, owner, "context contrastive_weight similarity_weight positive_radius negative_radius")
        check_limits(self, owner, "column_size hardest similarity_cells similarity_views", 1)
        check_limits(self, owner, "temperature spread", 0.01)
