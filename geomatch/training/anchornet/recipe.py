"""The settings of a training of AnchorNet, and the memory it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from geomatch.features.anchornet import AnchorConfig
from geomatch.geometry.homography import WarpRanges
from geomatch.options import Discriminability
from geomatch.parameters import check_limits
from geomatch.training.augmentation import ColourRanges


@dataclass(frozen=True)
class AnchorRecipe:
    """All that decides what is learnt from given photographs and initial weights, but for the optimiser.

    view_size: side of the square views, in pixels. batch_size: photographs of a batch, of which each gives two views.
    auxiliary, filter_diversity, response_diversity: weights of the losses (2), (3) and (4), ours; they multiply means
    over filters and pairs of filters, so they do not depend on K. max_filter_norm: the norm that no filter may exceed
    after a step, 0 for any; loss (1) as printed falls without end as filters grow. dropout, code_steps,
    code_learning_rate: of the auto-encoder, the first the share of channels left out. held_out: share of the
    photographs kept for measuring. example_size: side of the square, in pixels, in which `fit_taps` and `fit_code` see
    whole photographs.
    """

    network: AnchorConfig
    view_size: int = 225
    batch_size: int = 8
    discriminability: Discriminability = Discriminability.bounded
    auxiliary: float = 0.3
    filter_diversity: float = 1.0
    response_diversity: float = 1.0
    max_filter_norm: float = 0.0
    dropout: float = 0.25
    code_steps: int = 100
    code_learning_rate: float = 1e-4
    held_out: float = 0.05
    example_size: int = 321
    warps: WarpRanges = field(default_factory=WarpRanges)
    colours: ColourRanges = field(default_factory=ColourRanges)
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InputError for a value beyond its limits."""
        owner = "training anchornet"
        weights = "auxiliary filter_diversity response_diversity max_filter_norm"
        check_limits(self, owner, f"{weights} code_steps code_learning_rate seed")
        check_limits(self, owner, "batch_size", 1)
        check_limits(self, owner, "view_size example_size", 64)
        check_limits(self, owner, "dropout", 0, 1)
        check_limits(self, owner, "held_out", 0, 0.9)
        check_limits(self.network, owner, "filters code_size tap_size", 1)
        check_limits(self.network, owner, "stride", 4)
        check_limits(self.network, owner, "mean_share", 0, 1)

    @property
    def bytes_needed(self) -> int:
        """A rough estimate of the memory that training the banks takes, without the trunk's."""
        config = self.network
        cells = (-(-self.view_size // config.stride)) ** 2
        weights = config.responses * (9 * config.column_size + config.code_size)
        a_view = cells * (6 * config.responses + 12 * config.column_size)
        return 4 * (4 * weights + 2 * self.batch_size * a_view + 4 * config.responses**2)
