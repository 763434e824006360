"""The settings of a training of Probabilistic Introspection."""

from __future__ import annotations

from dataclasses import dataclass, field

from geomatch.errors import InputError
from geomatch.features.introspection import IntrospectionConfig
from geomatch.geometry.homography import WarpRanges
from geomatch.options import Batches
from geomatch.parameters import check_limits
from geomatch.training.augmentation import ColourRanges


@dataclass(frozen=True)
class IntrospectionRecipe:
    """All that decides what is learnt from given photographs and initial weights, but for the optimiser.

    view_size: side of the square views, in pixels. batch_size: photographs of a batch, of which each gives two views.
    classes: labels to learn from; empty: all photographs. points: corresponding points of a view pair. hardest: second
    points of a pair whose negatives count. positive_radius, negative_radius: pixels of the view. similarity_weight,
    similarity_cells: of our loss (`similarity_loss`); weight 0 is the paper's loss alone. teacher_size: side of the
    square, in pixels, in which the teacher sees whole photographs; teacher_shares: of that size, at which it sees them.
    teacher_weight: length of its descriptors of all but the initial network, or that trunk's first stage, whose are of
    length 1. classifier_block, transformer_stages: where further teachers
    are read, a MobileNet and a vision transformer.
    """

    network: IntrospectionConfig = field(default_factory=IntrospectionConfig)
    view_size: int = 224
    batch_size: int = 4
    batches: Batches = Batches.one_class
    classes: tuple[str, ...] = ()
    points: int = 700
    hardest: int = 30
    positive_radius: float = 1.0
    negative_radius: float = 30.0
    similarity_weight: float = 100.0
    similarity_cells: int = 1400
    teacher_size: int = 321
    teacher_shares: tuple[float, ...] = (1.0,)
    teacher_weight: float = 0.7
    classifier_block: int = 12
    transformer_stages: tuple[str, ...] = ("7", "8k")
    warps: WarpRanges = field(default_factory=WarpRanges)
    colours: ColourRanges = field(default_factory=ColourRanges)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InputError for a value beyond its limits."""
        owner = "training introspection"
        check_limits(self, owner, "positive_radius negative_radius similarity_weight teacher_weight seed")
        check_limits(self, owner, "batch_size points hardest similarity_cells", 1)
        check_limits(self, owner, "view_size teacher_size", 64)
        check_limits(self.network, owner, "descriptor_size", 1)
        if not self.teacher_shares or not all(0.25 <= share <= 2 for share in self.teacher_shares):
            raise InputError(
                f"parameter teacher_shares of {owner}: needs one or several shares, each between 0.25 and 2"
            )
