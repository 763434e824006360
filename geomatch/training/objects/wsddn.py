"""A weakly supervised deep detection network, WSDDN (Bilen and Vedaldi, CVPR 2016), on descriptors of a frozen trunk.

Each candidate box r gets two numbers for each label k, by linear layers on its pooled descriptors:

    score s_kr = softmax over labels of c_kr  *  softmax over boxes of d_kr,    y_k = sum over r of s_kr

and the loss of an image is the binary cross-entropy of all y_k. The object of label k is the box of largest s_kr.

Departures: candidates are the boxes of `crops`, in place of selective search; maxima are taken over 2 x 2 bins, in
place of 6 x 6; a 1 x 1 layer before pooling takes the place of fc6 and fc7. The trunk is not trained. There is no
spatial regulariser.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.datasets.crops import Crop
from geomatch.datasets.image_list import by_label
from geomatch.training.objects.crops import CandidateBoxes, CellDescriptors, box_in_pixels

HIDDEN = 64
BATCH = 32
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-4


class DetectionNetwork(nn.Module):
    """Descriptors (B, C, S, S) float32 to log s (B, K, R) of K labels and R boxes, numbered as in `CandidateBoxes`."""

    def __init__(self, channels: int, labels: int, boxes: CandidateBoxes, cells: int, seed: int) -> None:
        super().__init__()
        self.ranges, self.halves = _cell_ranges(boxes.intervals, cells)
        self.labels = labels
        self.hidden = nn.Conv2d(channels, HIDDEN, 1)
        self.streams = nn.Linear(4 * HIDDEN, 2 * labels)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer, inputs in ((self.hidden, channels), (self.streams, 4 * HIDDEN)):
                layer.weight.normal_(0, inputs**-0.5, generator=generator)
                torch.nn.init.zeros_(cast("Tensor", layer.bias))

    def forward(self, descriptors: Tensor) -> Tensor:
        hidden = self.hidden(math.sqrt(descriptors.shape[1]) * descriptors).relu()
        rows = torch.stack([hidden[:, :, begin:end].amax(dim=2) for begin, end in self.ranges], dim=1)
        pooled = torch.stack([rows[..., begin:end].amax(dim=3) for begin, end in self.ranges], dim=2)
        # The layer is applied to each quarter of a box before these are put together: boxes share quarters.
        weights = self.streams.weight.reshape(2 * self.labels, 2, 2, HIDDEN)
        quarters = [
            torch.einsum("bpqh,kh->bkpq", pooled, weights[:, y, x])[:, :, self.halves[:, y]][..., self.halves[:, x]]
            for y in range(2)
            for x in range(2)
        ]
        both = torch.stack(quarters).sum(dim=0) + self.streams.bias[:, None, None]
        classes, boxes = both.flatten(2).unflatten(1, (2, self.labels)).unbind(dim=1)  # type: ignore[no-untyped-call]
        scores: Tensor = classes.log_softmax(dim=1) + boxes.log_softmax(dim=2)
        return scores


def _cell_ranges(intervals: Tensor, cells: int) -> tuple[list[tuple[int, int]], Tensor]:
    """The different ranges of cells that halves of intervals (K, 2) cover, and which of them each half is: (K, 2)."""
    middle = intervals.mean(dim=1)
    begin = (cells * torch.stack((intervals[:, 0], middle), dim=1)).round().long().clamp(max=cells - 1)
    end = (cells * torch.stack((middle, intervals[:, 1]), dim=1)).round().long()
    ranges, which = torch.unique(
        torch.stack((begin, torch.maximum(end, begin + 1)), dim=2).flatten(0, 1), dim=0, return_inverse=True
    )
    return [(first, last) for first, last in ranges.tolist()], which.reshape(-1, 2)


def image_loss(log_scores: Tensor, shown: Tensor) -> Tensor:
    """The binary cross-entropy of y_k = sum over boxes of s_kr, summed over labels: the mean over images, a scalar.

    log_scores: (B, K, R). shown: (B, K), 1 where an image has the label, else 0.
    """
    probability = log_scores.logsumexp(dim=2).exp().clamp(1e-6, 1 - 1e-6)
    return F.binary_cross_entropy(probability, shown, reduction="none").sum(dim=1).mean()


def train_detector(descriptors: Tensor, shown: Tensor, *, epochs: int, seed: int) -> DetectionNetwork:
    """A network trained on descriptors (N, C, S, S) float16 and labels (N, K), by Adam with a cosine schedule."""
    boxes = CandidateBoxes.of_unit_square()
    network = DetectionNetwork(descriptors.shape[1], shown.shape[1], boxes, descriptors.shape[-1], seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = -(-len(descriptors) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, epochs * batches))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(descriptors), generator=generator), BATCH):
            loss = image_loss(network(descriptors[chosen].float()), shown[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return network


def detect_crops(cells: CellDescriptors, *, epochs: int, seed: int = 0) -> list[Crop]:
    """The box of each photograph for each of its labels, ordered by file and label; its score is s_kr, in [0, 1]."""
    labels = sorted(by_label(cells.photographs))
    shown = torch.tensor([[float(label in photograph.labels) for label in labels] for photograph in cells.photographs])
    network = train_detector(cells.descriptors, shown, epochs=epochs, seed=seed)
    with torch.no_grad():
        best = [network(chunk.float()).max(dim=2) for chunk in torch.split(cells.descriptors, BATCH)]
    scores, numbers = torch.cat([each.values for each in best]).exp(), torch.cat([each.indices for each in best])
    boxes = CandidateBoxes.of_unit_square()
    crops = []
    for row, (photograph, size) in enumerate(zip(cells.photographs, cells.sizes, strict=True)):
        for label, box, score in zip(labels, boxes.boxes(numbers[row]), scores[row].tolist(), strict=True):
            if label in photograph.labels:
                crops.append(Crop(photograph.name, label, box_in_pixels(box, size), score))
    return sorted(crops, key=lambda crop: (crop.file, crop.label))
