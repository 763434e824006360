"""Find labelled objects on photographs from image labels alone: a weakly supervised detector.

A labelled object tends to lie in the middle of its photograph. So the cells of all photographs of a label are split
into those inside and outside a centred box. A cell's evidence for the label is how much closer its descriptor is to the
mean inside than to the mean outside. The object is the box with the largest sum of evidence; evidence can be negative,
so whole objects win, not small distinctive parts. Each photograph is divided into ``CELLS`` x ``CELLS`` cells, so the
candidate boxes are the same for all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomatch.annotations import Box
from geomatch.datasets.crops import Crop
from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.image_list import LabelledImage, by_label
from geomatch.errors import InputError
from geomatch.features.base import FeatureExtractor
from geomatch.geometry.grid import Grid, read_cells

CELLS = 14
CENTRE = (0.15, 0.85)  # the centred box, along either axis
SIDES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of boxes, as shares of the photograph's
STEP = 0.1  # at most, between boxes of one size
_READ_AT_ONCE = 32
_CHUNK = 256  # photographs whose descriptors are converted to float32 at a time


@dataclass(frozen=True)
class CellDescriptors:
    """Photographs, their sizes (height, width) and descriptors (N, C, CELLS, CELLS) float16, in the same order."""

    photographs: list[LabelledImage]
    sizes: list[tuple[int, int]]
    descriptors: Tensor


def extract_descriptors(
    photographs: Sequence[LabelledImage],
    extractor: FeatureExtractor,
    reader: ImageReader,
    on_progress: Callable[[int], object],
) -> CellDescriptors:
    """Extract the descriptors of the labelled photographs that can be read.

    on_progress: called with how many more photographs are done.

    Raises InputError if no photograph has a label besides the background, two have one name, or too many are damaged.
    """
    wanted = [photograph for photograph in photographs if by_label([photograph])]
    if not wanted:
        raise InputError(
            "no photograph has a label: put them into sub-folders named after what they show, "
            "or give tar shards beside a labels.csv"
        )
    twice = [name for name, count in Counter(photograph.name for photograph in wanted).items() if count > 1]
    if twice:
        raise InputError(f"two photographs are called {twice[0]}: make one crop table for each folder")
    kept: list[LabelledImage] = []
    sizes: list[tuple[int, int]] = []
    descriptors: list[Tensor] = []
    for start in range(0, len(wanted), _READ_AT_ONCE):
        batch = wanted[start : start + _READ_AT_ONCE]
        for pixels in reader.read(batch, len(batch)):
            sizes.append((pixels.shape[1], pixels.shape[2]))
            descriptors.append(_extract_one(pixels, extractor))
        kept += [photograph for photograph in batch if photograph.name not in reader.unreadable]
        on_progress(len(batch))
    return CellDescriptors(kept, sizes, torch.stack(descriptors))


def find_crops(cells: CellDescriptors) -> list[Crop]:
    """The box with the largest sum of evidence, of each photograph for each of its labels, ordered by file and label.

    A crop's score is the share of the photograph's positive evidence that the box holds, in [0, 1]; 0 if there is none.
    """
    boxes = CandidateBoxes.of_unit_square()
    crops = []
    for label in by_label(cells.photographs):
        having = [index for index, photograph in enumerate(cells.photographs) if label in photograph.labels]
        evidence = label_evidence(cells.descriptors[having])
        for index, (box, score) in zip(having, boxes.best(evidence), strict=True):
            crops.append(Crop(cells.photographs[index].name, label, box_in_pixels(box, cells.sizes[index]), score))
    return _in_order(crops)


def coverage(cells: CellDescriptors, crops: Iterable[Crop]) -> Tensor:
    """The share of each cell (N, CELLS, CELLS) that lies in one of its photograph's boxes, the one that holds most."""
    places = {photograph.name: place for place, photograph in enumerate(cells.photographs)}
    shares = torch.zeros(len(places), CELLS, CELLS)
    for crop in crops:
        place = places[crop.file]
        height, width = cells.sizes[place]
        edges = torch.tensor(crop.box, dtype=torch.float64) + 0.5
        across = CELLS * interval_lengths(edges[None, 0::2] / width, CELLS)[0]
        down = CELLS * interval_lengths(edges[None, 1::2] / height, CELLS)[0]
        shares[place] = torch.maximum(shares[place], down[:, None] * across)
    return shares


def fixed_crops(cells: CellDescriptors, box: Box) -> list[Crop]:
    """The same box, in shares of the photograph's sides, for all photographs: a baseline of `find_crops`."""
    return _in_order(
        Crop(photograph.name, label, box_in_pixels(box, size), 1.0)
        for photograph, size in zip(cells.photographs, cells.sizes, strict=True)
        for label in by_label([photograph])
    )


def label_evidence(descriptors: Tensor) -> Tensor:
    """How much closer each cell is to a label's objects than to their surroundings: (N, S, S).

    descriptors: (N, C, S, S), of photographs that all have the label. With m and o their means inside and outside of
    the centred box it is (|x - o|^2 - |x - m|^2) / 2 = (m - o) . (x - (m + o) / 2), positive nearer to m. (Whitening
    by the descriptors' covariance, a full linear discriminant, locates less well.)
    """
    size = descriptors.shape[-1]
    share = interval_lengths(torch.tensor([CENTRE], dtype=torch.float64), size)[0] * size
    inside = share[:, None] * share
    total = torch.zeros(2, descriptors.shape[1])
    for chunk in torch.split(descriptors, _CHUNK):
        summed = chunk.float().sum(dim=0)
        total += torch.stack([(summed * weight).sum(dim=(1, 2)) for weight in (inside, 1 - inside)])
    mean_inside = total[0] / (inside.sum() * len(descriptors))
    mean_outside = total[1] / ((1 - inside).sum() * len(descriptors))
    direction = mean_inside - mean_outside
    threshold = direction @ (mean_inside + mean_outside) / 2
    maps = [torch.einsum("c,nchw->nhw", direction, chunk.float()) for chunk in torch.split(descriptors, _CHUNK)]
    return torch.cat(maps) - threshold


@dataclass(frozen=True)
class CandidateBoxes:
    """All boxes whose sides are among ``intervals`` (K, 2) of [0, 1]: K x K of them, in the order of top and left."""

    intervals: Tensor

    @classmethod
    def of_unit_square(cls) -> CandidateBoxes:
        """Boxes with the sides ``SIDES``, spread evenly over the square, ``STEP`` or less apart."""
        starts = [
            torch.linspace(0, 1 - side, 1 + math.ceil((1 - side) / STEP - 1e-9), dtype=torch.float64) for side in SIDES
        ]
        return cls(torch.cat([torch.stack((s, s + side), dim=1) for s, side in zip(starts, SIDES, strict=True)]))

    def best(self, evidence: Tensor) -> list[tuple[Box, float]]:
        """The box (left, top, right, bottom) with the largest sum in each map (N, S, S), and its score as a crop."""
        lengths = interval_lengths(self.intervals, evidence.shape[-1])
        # Integrals over all boxes, (N, K, K): vertical times horizontal intervals.
        sums = (lengths @ chunk @ lengths.mT for chunk in torch.split(evidence, _CHUNK))
        chosen = torch.cat([chunk.flatten(1).argmax(dim=1) for chunk in sums])
        rows, columns = chosen // len(lengths), chosen % len(lengths)
        positive = evidence.clamp(min=0)
        held = torch.einsum("ns,nst,nt->n", lengths[rows], positive, lengths[columns])
        whole = positive.mean(dim=(1, 2))
        shares = torch.where(whole > 0, held / whole.clamp(min=1e-12), 0).clamp(0, 1)
        return list(zip(self.boxes(chosen), shares.tolist(), strict=True))

    def boxes(self, numbers: Tensor) -> list[Box]:
        """The boxes (left, top, right, bottom) of these numbers (N,)."""
        top_bottom, left_right = (
            self.intervals[each].tolist() for each in (numbers // len(self.intervals), numbers % len(self.intervals))
        )
        return [(left, top, right, bottom) for (top, bottom), (left, right) in zip(top_bottom, left_right, strict=True)]


def interval_lengths(intervals: Tensor, cells: int) -> Tensor:
    """How much of each of ``cells`` equal cells of [0, 1] lies in each interval (K, 2): (K, cells) float32."""
    edges = torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    overlap = torch.minimum(intervals[:, 1:], edges[1:]) - torch.maximum(intervals[:, :1], edges[:-1])
    return overlap.clamp(min=0).float()


def _extract_one(pixels: Tensor, extractor: FeatureExtractor) -> Tensor:
    """Descriptors (C, CELLS, CELLS) float16, on the CPU, of a photograph (3, H, W) uint8."""
    found = extractor(pixels)
    centres = Grid.over(found.image_size, CELLS, CELLS).centres(found.descriptors.device)
    cells = read_cells(found.descriptors.float()[None], found.grid.to_cells(centres)[None])[0]
    return cells.reshape(-1, CELLS, CELLS).half().cpu()


def box_in_pixels(box: Box, size: tuple[int, int]) -> Box:
    """A box in shares of the sides of a photograph of ``size`` (height, width), in its pixels, centres at integers."""
    height, width = size
    left, top, right, bottom = box
    return left * width - 0.5, top * height - 0.5, right * width - 0.5, bottom * height - 0.5


def _in_order(crops: Iterable[Crop]) -> list[Crop]:
    return sorted(crops, key=lambda crop: (crop.file, crop.label))
