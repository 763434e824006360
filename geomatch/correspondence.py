"""The two values every room of the house trades in: FeatureMap and Correspondence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.geometry import Grid, read_cells


@dataclass(frozen=True)
class FeatureMap:
    """What a feature extractor says of one image.

    descriptors: (C, h, w) float32, unit length at every cell.
    image_size: (height, width) of the image it was computed from, in pixels.
    grid: where the cells lie on that image.
    inverse_confidence: (h, w) float32, positive, small where the descriptor is to be trusted (the sigma of
        Probabilistic Introspection); None for features that do not know.
    """

    descriptors: Tensor
    image_size: tuple[int, int]
    grid: Grid
    inverse_confidence: Tensor | None = None

    def __post_init__(self) -> None:
        if tuple(self.descriptors.shape[1:]) != self.grid.shape:
            raise ValueError(f"descriptors {tuple(self.descriptors.shape)} do not fit a grid of {self.grid.shape}")

    def upsampled(self, factor: int) -> FeatureMap:
        """The same features interpolated bilinearly onto a grid ``factor`` times finer in each axis."""
        if factor == 1:
            return self
        grid = self.grid.upsampled(factor)
        cells = self.grid.to_cells(grid.centres(self.descriptors.device)).reshape(1, *grid.shape, 2)
        sigma = self.inverse_confidence
        return replace(
            self,
            descriptors=F.normalize(read_cells(self.descriptors[None], cells)[0], dim=0),
            grid=grid,
            inverse_confidence=None if sigma is None else read_cells(sigma[None, None], cells)[0, 0],
        )


@dataclass(frozen=True)
class Correspondence:
    """For every pixel of a source image, the place in a target image that means the same.

    flow: (2, H, W) float32, x then y, in pixels: source pixel (x, y) corresponds to the target position
        (x, y) + flow[:, y, x]. H, W are the source's; the position is in the target's own pixels.
    confidence: (H, W) float32 in [0, 1]: the model's probability that the match is right.
    valid: (H, W) bool: the position lies inside the target, and matching back from there returns to the pixel
        within the matcher's stated tolerance.
    source_size, target_size: (height, width) in pixels.
    """

    flow: Tensor
    confidence: Tensor
    valid: Tensor
    source_size: tuple[int, int]
    target_size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.flow.shape != (2, *self.source_size):
            raise ValueError(f"flow {tuple(self.flow.shape)} does not fit a source of {self.source_size}")

    def transfer(self, points: Tensor) -> Tensor:
        """Where source points (K, 2), fractional pixels x, y, lie in the target: (K, 2) float32, the flow read
        bilinearly."""
        points = points.float()
        return points + read_cells(self.flow[None], points[None])[0].mT


@dataclass(frozen=True)
class MatchPosterior:
    """The one meaning of confidence: the model's probability that two points correspond.

    The likelihood of Probabilistic Introspection, p(s | y, sigma) ~ exp((1 - loss) / sigma) with loss 1 - s for points
    that correspond and s for others, gives at equal priors the log-odds (2 s - 1) / sigma. It is learnt from views of
    one photograph. For photographs of different objects it is tempered, points picked as best get the prior that such
    picks have, and matching back from the target is a second witness:

        log-odds = (2 s - 1) / (temperature sigma) + prior + return_weight exp(-d / return_scale)

    with d how far from where it started matching there and back ends. The defaults are logistic regression on the
    validation pairs of SPair-71k and animal-parts (nn and hough, preset default, right at alpha = 0.1).
    """

    temperature: float = 2.24
    prior: float = -1.04
    return_weight: float = 0.92
    return_scale: float = 0.1

    def __call__(self, score: Tensor, sigma: Tensor, return_error: Tensor) -> Tensor:
        """Probabilities in [0, 1], of the shape of the arguments.

        score: max(0, <phi_u, phi_v>) in [0, 1]. sigma: the mean of both points' inverse confidences. return_error: d,
        as a share of the source's longer side.
        """
        witness = self.return_weight * torch.exp(-return_error / self.return_scale)
        return torch.sigmoid((2 * score - 1) / (self.temperature * sigma) + self.prior + witness)
