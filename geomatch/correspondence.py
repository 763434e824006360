"""The values that all parts of geomatch exchange: `FeatureMap` and `Correspondence`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geomatch.geometry.grid import Grid, read_cells

_PIXELS_AT_ONCE = 1 << 20  # that `Correspondence.warp` reads


@dataclass(frozen=True)
class ConfidenceModel:
    """The constants that turn the cues of a match into the probability that it is right.

    They belong to the features: an extractor fits its own and puts them on every `FeatureMap` that it makes. The
    formula, and what each constant weighs, is `geomatch.matching.confidence.match_probability`. The defaults are
    introspection's, fitted by logistic regression on the validation pairs of SPair-71k and animal-parts (nn and hough,
    preset default), as ``scripts/fit_calibration.py`` prints them.

    fixed_sigma: the inverse confidence of features that have none.
    """

    temperature: float = 4.697
    inverse_sigma_weight: float = 0.624
    peakedness_weight: float = 2.367
    agreement_weight: float = 2.445
    hubness_weight: float = 0.493
    prior: float = -6.518
    fixed_sigma: float = 0.159


@dataclass(frozen=True)
class FeatureMap:
    """The features of one image, a descriptor for each cell of a grid.

    descriptors: (C, h, w) float32, unit length at every cell.
    image_size: (height, width) of the image, in pixels.
    grid: where the cells lie on the image.
    inverse_confidence: (h, w) float32, positive, small where the descriptor is reliable (the sigma of Probabilistic
        Introspection); None if the extractor has none.
    calibration: the constants of the confidence model for matches of these features.

    Raises ValueError if the descriptors do not fit the grid.

    >>> features = FeatureMap(torch.ones(1, 2, 3), (20, 30), Grid.over((20, 30), 2, 3))
    >>> features.upsampled(2).descriptors.shape
    torch.Size([1, 4, 6])
    """

    descriptors: Tensor
    image_size: tuple[int, int]
    grid: Grid
    inverse_confidence: Tensor | None = None
    calibration: ConfidenceModel = ConfidenceModel()

    def __post_init__(self) -> None:
        if tuple(self.descriptors.shape[1:]) != self.grid.shape:
            raise ValueError(f"descriptors {tuple(self.descriptors.shape)} do not fit a grid of {self.grid.shape}")

    @property
    def nbytes(self) -> int:
        """The memory that its tensors take, those of a subclass included."""
        return sum(each.nbytes for each in vars(self).values() if isinstance(each, Tensor))

    def read_on(self, grid: Grid) -> FeatureMap:
        """The features interpolated bilinearly at the cells of another grid over the same image."""
        cells = self.grid.to_cells(grid.centres(self.descriptors.device)).reshape(1, *grid.shape, 2)
        sigma = self.inverse_confidence
        return replace(
            self,
            descriptors=F.normalize(read_cells(self.descriptors[None], cells)[0], dim=0),
            grid=grid,
            inverse_confidence=None if sigma is None else read_cells(sigma[None, None], cells)[0, 0],
        )

    def upsampled(self, factor: int) -> FeatureMap:
        """The features interpolated bilinearly onto a grid ``factor`` times finer along either axis."""
        return self if factor == 1 else self.read_on(self.grid.upsampled(factor))

    def pooled(self, factor: int) -> FeatureMap:
        """The features averaged over ``factor`` x ``factor`` cells, over fewer at the lower and right edge."""
        if factor == 1:
            return self

        def averaged(maps: Tensor) -> Tensor:
            return F.avg_pool2d(maps[None], factor, ceil_mode=True, count_include_pad=False)[0]

        sigma = self.inverse_confidence
        return replace(
            self,
            descriptors=F.normalize(averaged(self.descriptors), dim=0),
            grid=self.grid.pooled(factor),
            inverse_confidence=None if sigma is None else averaged(sigma[None])[0],
        )


@dataclass(frozen=True)
class RegionMatches:
    """Boxes of a source image and the corresponding boxes of a target image, best first.

    source, target: (R, 4) float32, left, top, right, bottom in pixels of their own image; sides lie between pixels, so
        that a box round a whole image of W x H runs from -1/2 to W - 1/2 and H - 1/2.
    score: (R,) float32, falling, comparable within one pair of images only. Zero: the source box has no match, and the
        target box has no meaning.
    """

    source: Tensor
    target: Tensor
    score: Tensor

    def found(self) -> RegionMatches:
        """Only the boxes that have a match."""
        matched = self.score > 0
        return RegionMatches(self.source[matched], self.target[matched], self.score[matched])


@dataclass(frozen=True)
class MappedPoints:
    """Where points of a source image lie in a target, as `Correspondence.map_points` finds them.

    positions: (K, 2) float64, x then y, in pixels of the target. confidence: (K,) float64 in [0, 1]. valid: (K,) bool.
    """

    positions: NDArray[np.float64]
    confidence: NDArray[np.float64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Correspondence:
    """For every pixel of a source image, the corresponding position in a target image.

    flow: (2, H, W) float32, x then y, in pixels: source pixel (x, y) corresponds to the target position
        (x, y) + flow[:, y, x]. H, W are the source's; the position is in the target's own pixels.
    confidence: (H, W) float32 in [0, 1]: the probability that the match is right, that is, within a tenth of the
        object's size of the truth; see `geomatch.matching.confidence`.
    valid: (H, W) bool: the position lies inside the target, matching back from it ends near the pixel, and the
        confidence is at least the pipeline's minimum.
    source_size, target_size: (height, width) in pixels.
    regions: the matched boxes that the flow was computed from, if the matcher matches boxes.

    Raises ValueError if the flow does not fit the source's size.
    """

    flow: Tensor
    confidence: Tensor
    valid: Tensor
    source_size: tuple[int, int]
    target_size: tuple[int, int]
    regions: RegionMatches | None = None

    def __post_init__(self) -> None:
        if self.flow.shape != (2, *self.source_size):
            raise ValueError(f"flow {tuple(self.flow.shape)} does not fit a source of {self.source_size}")

    def map_points(self, points: NDArray[np.floating] | Tensor) -> MappedPoints:
        """Where points of the source lie in the target.

        Flow and confidence are read bilinearly, validity at the nearest pixel.

        Args:
            points: (K, 2), x then y, in pixels of the source; they may lie between pixels.

        Returns:
            Positions in the target, confidence and validity of each point, as NumPy arrays.

        >>> found = Correspondence(torch.ones(2, 4, 6), torch.ones(4, 6), torch.ones(4, 6).bool(), (4, 6), (8, 8))
        >>> found.map_points(np.array([[2.5, 1.0]])).positions
        array([[3.5, 2. ]])
        """
        at = torch.as_tensor(points).to(self.flow.device, torch.float32)
        height, width = self.source_size
        x, y = at.round().long().unbind(dim=1)
        positions = at + read_cells(self.flow[None], at[None])[0].mT
        confidence = read_cells(self.confidence[None, None], at[None])[0, 0]
        return MappedPoints(
            positions.double().cpu().numpy(),
            confidence.double().clamp(0, 1).cpu().numpy(),
            self.valid[y.clamp(0, height - 1), x.clamp(0, width - 1)].cpu().numpy(),
        )

    def warp_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask of the target in the frame of the source.

        Each source pixel reads the target pixel nearest to its match (halves round up).

        Args:
            mask: (..., h, w) bool, a mask or a stack of them, of the target's size.

        Returns:
            (..., H, W) bool, False where the match lies outside the target or the flow is not a number. Validity has
            no influence.

        >>> found = Correspondence(torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(1, 3).bool(), (1, 3), (2, 4))
        >>> found.warp_mask(np.array([[True, True, True, True], [True, False, True, False]]))
        array([[False,  True, False]])
        """
        height, width = mask.shape[-2:]
        flow = self.flow.cpu().numpy()
        row, column = np.indices(flow.shape[1:])
        x, y = np.floor(column + flow[0] + 0.5), np.floor(row + flow[1] + 0.5)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        warped = np.zeros((*mask.shape[:-2], *inside.shape), bool)
        warped[..., inside] = mask[..., y[inside].astype(np.intp), x[inside].astype(np.intp)]
        return warped

    def warp(self, image: Tensor) -> Tensor:
        """The target image in the frame of the source.

        Args:
            image: (3, h, w) uint8, of the target's size.

        Returns:
            (4, H, W) uint8 RGBA on the CPU. Colours are read bilinearly; pixels without a valid match are transparent.

        >>> found = Correspondence(torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(1, 3).bool(), (1, 3), (2, 4))
        >>> found.warp(torch.arange(8, dtype=torch.uint8).expand(3, 8).reshape(3, 2, 4))[:, 0].tolist()
        [[5, 6, 7], [5, 6, 7], [5, 6, 7], [255, 255, 255]]
        """
        height, width = self.source_size
        target_height, target_width = self.target_size
        flow, valid, colours = self.flow.cpu(), self.valid.cpu(), image.cpu().float()[None]
        warped = torch.empty(4, height, width, dtype=torch.uint8)
        column, row = torch.arange(width), torch.arange(height)[:, None]
        step = max(1, _PIXELS_AT_ONCE // width)
        for rows in (slice(start, start + step) for start in range(0, height, step)):
            x = (2 * (flow[0, rows] + column) + 1) / target_width - 1
            y = (2 * (flow[1, rows] + row[rows]) + 1) / target_height - 1
            positions = torch.stack((x, y), dim=-1)[None]
            read = F.grid_sample(colours, positions, padding_mode="border", align_corners=False)[0]
            warped[:3, rows] = read.round_().clamp_(0, 255).byte()
        warped[3] = valid.byte() * 255
        return warped
