"""The values that all parts of geomatch exchange: `FeatureMap` and `Correspondence`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geomatch.errors import InputError
from geomatch.geometry.grid import Grid, read_cells
from geomatch.geometry.inverse_flow import invert_flow
from geomatch.geometry.mask import cells_inside
from geomatch.geometry.view import View, flip_view, longer_side
from geomatch.options import Beyond
from geomatch.runtime.torch_state import standard_torch_state
from geomatch.tensor_value import TensorValue

Points: TypeAlias = NDArray[Any] | Tensor | Sequence[Sequence[float]]
Mask: TypeAlias = NDArray[Any] | Tensor | Sequence[Sequence[bool]]

_PIXELS_AT_ONCE = 1 << 20  # that `Correspondence.warp` reads
_INVERSE_TOLERANCE = 1.0
"""Pixels of the target: an inverse is valid if the flow takes its position this near to the pixel."""

_SMOOTH_TOLERANCE = {Beyond.match: 1 / 40, Beyond.plate: 1 / 16}
"""Of matches to the smooth flow of `Correspondence.smooth`."""


@dataclass(frozen=True)
class CueWeights:
    """What each cue weighs in the log-odds of a match; `geomatch.matching.confidence.match_log_odds` is the formula."""

    temperature: float
    inverse_sigma: float
    peakedness: float
    agreement: float
    hubness: float
    prior: float


@dataclass(frozen=True)
class ConfidenceModel:
    """The constants that turn the cues of a match into the probability that it is right.

    They belong to the features: an extractor fits its own and puts them on every `FeatureMap` that it makes. The
    defaults are introspection's, fitted by logistic regression on the validation pairs of SPair-71k and animal-parts
    (150 pairs of each at most, whole images of 320 pixels, nn and fusion) with ``scripts/fit_calibration.py``.

    alone: of the cues of a match of any pair. Matchers weigh matches by it.
    in_pair, consistency, extent, cells: of the cues of a match, and of those of its pair. They give the confidence:
        `geomatch.matching.confidence.probability_in_pair`.
    fixed_sigma: the inverse confidence of features that have none.
    """

    alone: CueWeights = CueWeights(9.772, 0.295, 2.852, 3.402, 0.64, -4.847)
    in_pair: CueWeights = CueWeights(10.485, 0.275, 2.658, 3.171, 0.596, -6.218)
    consistency: float = 3.221
    extent: float = 1.894
    cells: float = 0.0
    fixed_sigma: float = 0.159


@dataclass(frozen=True, eq=False, repr=False)
class FineMap(TensorValue):
    """What an early stage of a trunk sees of one image, on a grid finer than that of the descriptors.

    values: (K, h, w) float32, unit length at every cell: coefficients of the image's own K principal components.
    basis: (C, K) float32, orthonormal columns: these components, in the C channels of the stage.
    grid: where the cells lie on the image.
    """

    values: Tensor
    basis: Tensor
    grid: Grid

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.basis.nbytes

    def in_basis_of(self, other: FineMap) -> FineMap:
        """The same with the components of another image, so that products of both values are those of the stages."""
        values = torch.tensordot(other.basis.mT @ self.basis, self.values, dims=1)
        return FineMap(values, other.basis, self.grid)

    def flipped(self, width: int) -> FineMap:
        """The same where its cells lie on the image, of ``width`` pixels, flipped left to right."""
        return FineMap(self.values.flip(-1), self.basis, self.grid.flipped(width))

    def pooled(self, factor: int) -> FineMap:
        """Averages of ``factor`` x ``factor`` cells, over fewer at the lower and right edge, scaled to unit length."""
        if factor == 1:
            return self
        pooled = F.avg_pool2d(self.values[None], factor, ceil_mode=True, count_include_pad=False)[0]
        return FineMap(F.normalize(pooled, dim=0), self.basis, self.grid.pooled(factor))


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMap(TensorValue):
    """The features of one image, a descriptor for each cell of a grid.

    descriptors: (C, h, w) float32, unit length at every cell.
    image_size: (height, width) of the image, in pixels.
    grid: where the cells lie on the image.
    inverse_confidence: (h, w) float32, positive, small where the descriptor is reliable (the sigma of Probabilistic
        Introspection); None if the extractor has none.
    calibration: the constants of the confidence model for matches of these features.
    origin: what extracted them, as `Pipeline.extract` notes it; "" if that is not known.
    mirrored: the features of the image flipped left to right, in the frame of the flipped image; None if they were not
        extracted.
    fine: a finer map, on which matches are searched again; None if the extractor has none.
    mask: (H, W) bool, the pixels of the image that are matched; None: all. See `masked`.
    view: the part of the image that the grid covers, left, top, right, bottom; None: all of it.
    overview: features of all of the image on a coarser grid, for what lies outside the view; None: there are none.

    Raises InputError if the descriptors do not fit the grid, or the mask does not fit the image.

    >>> features = FeatureMap(torch.ones(1, 2, 3), (20, 30), Grid.over((20, 30), 2, 3))
    >>> features.upsampled(2).descriptors.shape
    torch.Size([1, 4, 6])
    """

    descriptors: Tensor
    image_size: tuple[int, int]
    grid: Grid
    inverse_confidence: Tensor | None = None
    calibration: ConfidenceModel = ConfidenceModel()
    origin: str = ""
    mirrored: FeatureMap | None = None
    fine: FineMap | None = None
    mask: Tensor | None = None
    view: View | None = None
    overview: FeatureMap | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.descriptors, Tensor) and isinstance(self.grid, Grid)):
            raise InputError("descriptors must be a tensor (C, h, w), and grid a Grid of h x w cells")
        if tuple(self.descriptors.shape[1:]) != self.grid.shape:
            raise InputError(f"descriptors {tuple(self.descriptors.shape)} do not fit a grid of {self.grid.shape}")
        if self.mask is not None and tuple(self.mask.shape) != tuple(self.image_size):
            raise InputError(f"a mask {tuple(self.mask.shape)} does not fit an image of {self.image_size}")

    @property
    def nbytes(self) -> int:
        """The memory that its tensors take, those of a subclass included."""
        return sum(each.nbytes for each in vars(self).values() if isinstance(each, Tensor | FeatureMap | FineMap))

    @property
    def longer_side(self) -> float:
        """Of the view, in pixels: what distances are shares of in matching."""
        return max(self.image_size) if self.view is None else longer_side(self.view)

    def masked(self, mask: Tensor | None) -> FeatureMap:
        """The features of the same image, of which only the pixels of a mask (H, W) bool are matched; None: all."""
        mask = None if mask is None else mask.to(self.descriptors.device)
        mirrored = self.mirrored and self.mirrored.masked(None if mask is None else mask.flip(-1))
        return replace(self, mask=mask, mirrored=mirrored, overview=self.overview and self.overview.masked(mask))

    @cached_property
    def inside(self) -> Tensor | None:
        """The cells (h * w,) bool that lie mostly in the mask, in row-major order; None without a mask."""
        return None if self.mask is None else cells_inside(self.mask, self.grid)

    @standard_torch_state()
    def flipped(self) -> FeatureMap:
        """The same descriptors, without ``mirrored``, where their cells lie on the image flipped left to right."""
        sigma, width = self.inverse_confidence, self.image_size[1]
        return replace(
            self,
            descriptors=self.descriptors.flip(-1),
            grid=self.grid.flipped(width),
            inverse_confidence=None if sigma is None else sigma.flip(-1),
            mirrored=None,
            fine=None if self.fine is None else self.fine.flipped(width),
            mask=None if self.mask is None else self.mask.flip(-1),
            view=self.view and flip_view(self.view, width),
            overview=self.overview and self.overview.flipped(),
        )

    @standard_torch_state()
    def read_on(self, grid: Grid) -> FeatureMap:
        """The features, without ``mirrored``, interpolated bilinearly at the cells of another grid over the image."""
        cells = self.grid.to_cells(grid.centres(self.descriptors.device)).reshape(1, *grid.shape, 2)
        sigma = self.inverse_confidence
        return replace(
            self,
            descriptors=F.normalize(read_cells(self.descriptors[None], cells)[0], dim=0),
            grid=grid,
            inverse_confidence=None if sigma is None else read_cells(sigma[None, None], cells)[0, 0],
            mirrored=None,
        )

    @standard_torch_state()
    def upsampled(self, factor: int) -> FeatureMap:
        """The features interpolated bilinearly onto a grid ``factor`` times finer along either axis."""
        if factor == 1:
            return self
        return replace(
            self.read_on(self.grid.upsampled(factor)), mirrored=self.mirrored and self.mirrored.upsampled(factor)
        )

    @standard_torch_state()
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


@dataclass(frozen=True, eq=False, repr=False)
class RegionMatches(TensorValue):
    """Boxes of a source image and the corresponding boxes of a target image, best first.

    source, target: (R, 4) float32, left, top, right, bottom in pixels of their own image; sides lie between pixels, so
        that a box round a whole image of W x H runs from -1/2 to W - 1/2 and H - 1/2.
    score: (R,) float32, falling, comparable within one pair of images only. Zero: the source box has no match, and the
        target box has no meaning.
    candidates: (M, 4) float32, all boxes of the target that a match could be made with, if they are known.
    """

    source: Tensor
    target: Tensor
    score: Tensor
    candidates: Tensor | None = None

    def found(self) -> RegionMatches:
        """Only the boxes that have a match."""
        matched = self.score > 0
        return RegionMatches(self.source[matched], self.target[matched], self.score[matched], self.candidates)


@dataclass(frozen=True)
class MirrorChoice:
    """Whether a pair was matched with its source flipped left to right.

    probability: that this matches better, in [0, 1]; None if it was not asked.
    """

    mirrored: bool
    probability: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class MappedPoints(TensorValue):
    """Where points of a source image lie in a target, as `Correspondence.map_points` finds them.

    positions: (K, 2) float64, x then y, in pixels of the target. confidence: (K,) float64 in [0, 1]. valid: (K,) bool.
    """

    positions: NDArray[np.float64]
    confidence: NDArray[np.float64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, repr=False)
class Correspondence(TensorValue):
    """For every pixel of a source image, the corresponding position in a target image.

    flow: (2, H, W) float32, x then y, in pixels: source pixel (x, y) corresponds to the target position
        (x, y) + flow[:, y, x]. H, W are the source's; the position is in the target's own pixels.
    confidence: (H, W) float32 in [0, 1]: the probability that the match is right, that is, within a tenth of the
        object's size of the truth; see `geomatch.matching.confidence`.
    valid: (H, W) bool: the position lies inside the target, matching back from it ends near the pixel, and the
        confidence is at least the pipeline's minimum.
    source_size, target_size: (height, width) in pixels.
    regions: the matched boxes that the flow was computed from, if the matcher matches boxes.
    mirror: whether the pair was matched with its source flipped; None if that was ruled out. All of the above is in
        the frame of the images as given.
    source_mask, target_mask: (H, W) and (h, w) bool, the pixels that were matched; None: all. No pixel outside the
        source's mask is valid, and none whose position lies outside the target's.

    Raises InputError if flow, confidence or validity do not fit the source's size.
    """

    flow: Tensor
    confidence: Tensor
    valid: Tensor
    source_size: tuple[int, int]
    target_size: tuple[int, int]
    regions: RegionMatches | None = None
    mirror: MirrorChoice | None = None
    source_mask: Tensor | None = None
    target_mask: Tensor | None = None

    def __post_init__(self) -> None:
        size = tuple(self.source_size)
        for name, shape in (("flow", (2, *size)), ("confidence", size), ("valid", size)):
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                raise InputError(f"{name} must be a tensor, not {type(value).__name__}")
            if value.shape != shape:
                raise InputError(f"{name} {tuple(value.shape)} does not fit a source of {self.source_size}")

    @property
    def valid_share(self) -> float:
        """The share of the source's pixels, or of those in its mask, that are valid."""
        return float(self._in_mask(self.valid).float().mean())

    @property
    def mean_confidence(self) -> float:
        """The mean confidence of the source's pixels, or of those in its mask."""
        return float(self._in_mask(self.confidence).mean())

    def _in_mask(self, values: Tensor) -> Tensor:
        return values if self.source_mask is None else values[self.source_mask]

    @standard_torch_state()
    def map_points(self, points: Points) -> MappedPoints:
        """Where points of the source lie in the target.

        Flow and confidence are read bilinearly, validity at the nearest pixel. A point outside the source moves as the
        nearest pixel does, and is not valid; one that is not a number stays so, without confidence.

        Args:
            points: (K, 2), x then y, in pixels of the source; they may lie between pixels. An array, a tensor, or a
                sequence of pairs.

        Returns:
            Positions in the target, confidence and validity of each point, as NumPy arrays.

        Raises:
            InputError: for anything else.

        >>> found = Correspondence(torch.ones(2, 4, 6), torch.ones(4, 6), torch.ones(4, 6).bool(), (4, 6), (8, 8))
        >>> found.map_points(np.array([[2.5, 1.0]])).positions
        array([[3.5, 2. ]])
        """
        at = _as_points(points).to(self.flow.device)
        height, width = self.source_size
        x, y = at.nan_to_num(-1).clamp(-1, max(height, width)).round().long().unbind(dim=1)
        inside = ((at >= -0.5) & (at <= at.new_tensor([width, height]) - 0.5)).all(dim=1)
        positions = at + read_cells(self.flow[None], at[None])[0].mT
        confidence = read_cells(self.confidence[None, None], at[None])[0, 0]
        confidence = torch.where(at.isnan().any(dim=1), 0, confidence)
        return MappedPoints(
            positions.double().cpu().numpy(),
            confidence.double().clamp(0, 1).cpu().numpy(),
            (inside & self.valid[y.clamp(0, height - 1), x.clamp(0, width - 1)]).cpu().numpy(),
        )

    @standard_torch_state()
    def inverse(self) -> Correspondence:
        """The correspondence from the target to the source that follows from this one; regions are left out.

        The target pixels that no source pixel flows to get the position of the nearest that one does, and are not
        valid. `Pipeline.match_both_ways` instead matches the other way, too, which is better where the two differ.

        >>> found = Correspondence(torch.ones(2, 4, 6), torch.ones(4, 6), torch.ones(4, 6).bool(), (4, 6), (5, 7))
        >>> found.inverse().flow[:, 2, 3]
        tensor([-1., -1.])
        """
        positions, distance = invert_flow(self.flow.cpu().numpy(), self.confidence.cpu().numpy(), self.target_size)
        at = np.moveaxis(positions, 0, -1).reshape(-1, 2)
        mapped = self.map_points(at)
        row, column = np.indices(self.target_size)
        device = self.flow.device
        flow = torch.from_numpy((positions - (column, row)).astype(np.float32)).to(device)
        valid = torch.from_numpy(mapped.valid.reshape(self.target_size) & (distance <= _INVERSE_TOLERANCE)).to(device)
        if self.source_mask is not None or self.target_mask is not None:
            valid &= pixels_allowed(flow, self.source_size, self.target_mask, self.source_mask)
        return Correspondence(
            flow,
            torch.from_numpy(mapped.confidence.reshape(self.target_size).astype(np.float32)).to(device),
            valid,
            self.target_size,
            self.source_size,
            mirror=self.mirror,
            source_mask=self.target_mask,
            target_mask=self.source_mask,
        )

    def smooth(self, source: Tensor | None = None, beyond: Beyond = Beyond.match) -> Correspondence:
        """The correspondence with a smooth flow, by which images are warped without terraces and folds.

        A thin plate is fitted to the confident matches; see `geomatch.geometry.smooth_flow`. Valid is a calm region in
        which it has no fold and most matches lie near it: within a fortieth of the target's longer side, or, if the
        plate goes on beyond it, a sixteenth. Confidence stays that of the matches.

        Args:
            source: (3, H, W) uint8, the source image, whose edges the valid region follows; it may be left out.
            beyond: what the flow is where it is not valid: that of the matches, or the plate's.

        Raises:
            InputError: for an image of another size.

        >>> found = Correspondence(torch.ones(2, 8, 9), torch.ones(8, 9), torch.ones(8, 9).bool(), (8, 9), (9, 10))
        >>> torch.allclose(found.smooth().flow, found.flow, atol=1e-3)
        True
        """
        if source is not None and source.shape != (3, *self.source_size):
            raise InputError(
                f"the image is {source.shape[-1]}x{source.shape[-2]} pixels, the source of this match "
                f"{self.source_size[1]}x{self.source_size[0]}"
            )
        from geomatch.geometry.smooth_flow import fit_smooth_flow  # scipy takes longer to load than a match to compute

        matched, confidence, known = (each.cpu().numpy() for each in (self.flow, self.confidence, self.valid))
        image = None if source is None else source.cpu().numpy()
        fit = fit_smooth_flow(matched, confidence, known, self.target_size, image)
        masks = (None if each is None else each.cpu() for each in (self.source_mask, self.target_mask))
        allowed = pixels_allowed(torch.from_numpy(fit.flow), self.target_size, *masks).numpy()
        valid = fit.supported(_SMOOTH_TOLERANCE[beyond], image) & allowed
        flow = fit.flow if beyond is Beyond.plate else np.where(valid, fit.flow, matched)
        device = self.flow.device
        return replace(self, flow=torch.from_numpy(flow).to(device), valid=torch.from_numpy(valid).to(device))

    def warp_mask(self, mask: Mask) -> NDArray[np.bool_]:
        """A mask of the target in the frame of the source.

        Each source pixel reads the target pixel nearest to its match (halves round up).

        Args:
            mask: (..., h, w), a mask or a stack of them, of the target's size: an array, a tensor or nested lists.
                What is not 0 is in the mask.

        Returns:
            (..., H, W) bool, False where the match lies outside the target or the flow is not a number. Validity has
            no influence.

        Raises:
            InputError: for a mask of another size.

        >>> found = Correspondence(torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(1, 3).bool(), (1, 3), (2, 4))
        >>> found.warp_mask(np.array([[True, True, True, True], [True, False, True, False]]))
        array([[False,  True, False]])
        """
        return self.warp_labels(_as_mask(mask, self.target_size))

    def warp_labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        """A label map of the target in the frame of the source, read as `warp_mask` reads a mask.

        Args:
            labels: (..., h, w), of the target's size and any dtype.

        Returns:
            (..., H, W) of the same dtype, 0 where the match lies outside the target or the flow is not a number.

        Raises:
            InputError: for labels of another size.
        """
        if labels.shape[-2:] != self.target_size:
            raise InputError(f"the labels have the shape {labels.shape}: give (height, width) = {self.target_size}")
        height, width = self.target_size
        flow = self.flow.cpu().numpy()
        row, column = np.indices(flow.shape[1:])
        x, y = np.floor(column + flow[0] + 0.5), np.floor(row + flow[1] + 0.5)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        warped = np.zeros((*labels.shape[:-2], *inside.shape), labels.dtype)
        warped[..., inside] = labels[..., y[inside].astype(np.intp), x[inside].astype(np.intp)]
        return warped

    @standard_torch_state()
    def warp(self, image: Tensor, feathering: float = 0.0) -> Tensor:
        """The target image in the frame of the source.

        Args:
            image: (3, h, w) uint8, of the target's size.
            feathering: width of the valid region's edge, in which opacity rises, as a share of the source's longer
                side; 0: the edge is hard.

        Returns:
            (4, H, W) uint8 RGBA on the CPU. Colours are read bilinearly; pixels without a valid match are transparent.

        Raises:
            InputError: for an image of another size.

        >>> found = Correspondence(torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(1, 3).bool(), (1, 3), (2, 4))
        >>> found.warp(torch.arange(8, dtype=torch.uint8).expand(3, 8).reshape(3, 2, 4))[:, 0].tolist()
        [[5, 6, 7], [5, 6, 7], [5, 6, 7], [255, 255, 255]]
        """
        height, width = self.source_size
        target_height, target_width = self.target_size
        if image.shape != (3, target_height, target_width):
            raise InputError(
                f"the image to warp is {image.shape[-1]}x{image.shape[-2]} pixels, the target of this match "
                f"{target_width}x{target_height}: give the target"
            )
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
        from geomatch.geometry.region import feather

        opacity = feather(valid.numpy(), round(feathering * max(height, width)))
        warped[3] = torch.from_numpy((255 * opacity).round().astype(np.uint8))
        return warped


def pixels_allowed(
    flow: Tensor, target_size: tuple[int, int], source_mask: Tensor | None = None, target_mask: Tensor | None = None
) -> Tensor:
    """Which pixels (H, W) of the source lie in its mask and are sent into the target and its mask, by a flow (2, H, W).

    source_mask, target_mask: (H, W) and (h, w) bool; None: all pixels. A position lies in the pixel nearest to it.
    """
    x = flow[0] + torch.arange(flow.shape[2], device=flow.device)
    y = flow[1] + torch.arange(flow.shape[1], device=flow.device)[:, None]
    height, width = target_size
    allowed = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    if source_mask is not None:
        allowed &= source_mask
    if target_mask is not None:
        column, row = ((each.nan_to_num(0) + 0.5).floor().long() for each in (x, y))
        allowed &= target_mask[row.clamp(0, height - 1), column.clamp(0, width - 1)]
    return allowed


def _as_points(points: Points) -> Tensor:
    """Points (K, 2) float32 of any type that holds them. Raises InputError."""
    try:
        at = torch.as_tensor(points if isinstance(points, Tensor) else np.asarray(points, np.float32)).float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"points are pairs of numbers, x and y: {type(points).__name__} has others") from error
    if at.numel() == 0:
        return at.reshape(0, 2)
    if at.ndim != 2 or at.shape[1] != 2:
        raise InputError(f"points have the shape {tuple(at.shape)}: give (K, 2), x and y of each, as [[x, y]] for one")
    return at


def _as_mask(mask: Mask, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (..., height, width) bool of any type that holds one. Raises InputError."""
    try:
        array = (mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)).astype(np.bool_)
    except (TypeError, ValueError) as error:
        raise InputError(f"a mask is an array (height, width) of truth values, not {type(mask).__name__}") from error
    if array.shape[-2:] != size:
        raise InputError(f"the mask has the shape {array.shape}: give (height, width) = {size}, that of the target")
    return array
