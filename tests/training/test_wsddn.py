"""WSDDN's scores and loss against loops, and the whole on objects painted at known places."""

import math

import numpy as np
import pytest
import torch

from geomatch.datasets.crops import Crop
from geomatch.datasets.image_list import LabelledImage
from geomatch.training.objects import wsddn
from geomatch.training.objects.crops import CELLS, CandidateBoxes, CellDescriptors
from geomatch.training.objects.wsddn import BATCH, DetectionNetwork, detect_crops, image_loss
from tests.training.test_crops import NOWHERE, painted


def test_detection_network_equals_a_slow_loop() -> None:
    """Maxima of each quarter of a box, one linear layer for each stream, and the two softmaxes."""
    intervals = torch.tensor([[0.0, 0.5], [0.25, 0.75], [0.0, 1.0]], dtype=torch.float64)
    network = DetectionNetwork(5, 2, CandidateBoxes(intervals), 8, seed=3)
    torch.nn.init.normal_(network.streams.bias, generator=torch.Generator().manual_seed(1))
    descriptors = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = network(descriptors).exp().numpy()
        hidden = (network.hidden(descriptors * math.sqrt(5))).relu()
        raw = np.zeros((2, 4, 9))
        for image in range(2):
            for row, (top, bottom) in enumerate((8 * intervals).long().tolist()):
                for column, (left, right) in enumerate((8 * intervals).long().tolist()):
                    y, x = (top + bottom) // 2, (left + right) // 2
                    quarters = [
                        hidden[image, :, rows, columns].amax(dim=(1, 2))
                        for rows in (slice(top, y), slice(y, bottom))
                        for columns in (slice(left, x), slice(x, right))
                    ]
                    raw[image, :, 3 * row + column] = network.streams(torch.cat(quarters)).numpy()
    classes, boxes = np.exp(raw[:, :2]), np.exp(raw[:, 2:])
    expected = classes / classes.sum(axis=1, keepdims=True) * boxes / boxes.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_image_loss_is_cross_entropy_of_summed_scores() -> None:
    scores = torch.tensor([[[0.25, 0.25], [0.125, 0.125]], [[0.5, 0.25], [0.0625, 0.0625]]])
    shown = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = -(math.log(0.5) + math.log(0.75) + math.log(0.25) + math.log(0.125)) / 2
    assert float(image_loss(scores.log(), shown)) == torch.tensor(expected)


def two_labels(count: int) -> tuple[CellDescriptors, list[tuple[float, float, float, float]]]:
    """Objects of two labels, each of a texture of its own, before one background."""
    (cats, first), (dogs, second) = painted(count, seed=0), painted(count, seed=1)
    turned = dogs.descriptors.clone()
    inside = turned[:, :1] > 0
    turned[:, 1:2] = torch.where(inside, 1.0, turned[:, 1:2].float()).half()
    turned[:, :1] = torch.where(inside, 0.0, turned[:, :1].float()).half()
    photographs = [LabelledImage(f"{n:03}.png", NOWHERE, (("cat", "dog")[n // count],)) for n in range(2 * count)]
    return CellDescriptors(photographs, cats.sizes + dogs.sizes, torch.cat((cats.descriptors, turned))), first + second


def lies_on(crop: Crop, box: tuple[float, float, float, float]) -> bool:
    """Whether the crop's middle lies in the box."""
    x, y = (crop.box[0] + crop.box[2]) / 2, (crop.box[1] + crop.box[3]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def test_detect_crops_on_painted_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 30 steps, which are therefore larger than usual."""
    monkeypatch.setattr(wsddn, "LEARNING_RATE", 1e-2)
    cells, boxes = two_labels(BATCH // 4)
    found = detect_crops(cells, epochs=30)
    assert [(crop.file, crop.label) for crop in found] == [(each.name, *each.labels) for each in cells.photographs]
    assert sum(map(lies_on, found, boxes)) >= 0.9 * len(boxes)
    assert all(0 <= crop.score <= 1 for crop in found)


def test_detect_crops_one_per_label_none_for_background() -> None:
    cells, _ = painted(3)
    labels = (("dog", "cat"), ("cat",), ("background", "cat"))
    photographs = [LabelledImage(each.name, NOWHERE, own) for each, own in zip(cells.photographs, labels, strict=True)]
    found = detect_crops(CellDescriptors(photographs, cells.sizes, cells.descriptors), epochs=1)
    assert [(crop.file, crop.label) for crop in found] == [
        ("00.png", "cat"), ("00.png", "dog"), ("01.png", "cat"), ("02.png", "cat"),
    ]  # fmt: skip
    for left, top, right, bottom in (crop.box for crop in found):
        assert -0.5 <= left < right <= 20 * CELLS - 0.5
        assert -0.5 <= top < bottom <= 10 * CELLS - 0.5
