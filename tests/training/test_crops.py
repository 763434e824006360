"""The weakly supervised detector: its parts by slow references, the whole on objects painted at known places."""

from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.correspondence import FeatureMap
from geomatch.datasets.crops import Crop
from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.datasets.image_list import LabelledImage
from geomatch.errors import InputError
from geomatch.evaluation.metrics.localisation import Localisation, is_correct
from geomatch.features.base import FeatureExtractor
from geomatch.geometry.grid import Grid
from geomatch.training.objects.crops import (
    CELLS,
    CandidateBoxes,
    CellDescriptors,
    extract_descriptors,
    find_crops,
    fixed_crops,
    interval_lengths,
    label_evidence,
)
from tests.datasets.layouts import png, write_shard

CPU = torch.device("cpu")
NOWHERE = Path("nowhere")


def test_interval_lengths_overlap_with_cells() -> None:
    lengths = interval_lengths(torch.tensor([[0.0, 1.0], [0.125, 0.625], [0.3, 0.4]], dtype=torch.float64), 4)
    expected = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.125, 0.25, 0.125, 0], [0, 0.1, 0, 0]])
    torch.testing.assert_close(lengths, expected)


def test_boxes_best_matches_exhaustive_search() -> None:
    intervals = torch.tensor([[0.0, 0.5], [0.25, 0.75], [0.5, 1.0], [0.0, 1.0]], dtype=torch.float64)
    evidence = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 4, 4))).float()
    for map_, (box, score) in zip(evidence, CandidateBoxes(intervals).best(evidence), strict=True):
        sums = {}
        for top, bottom in intervals.tolist():
            for left, right in intervals.tolist():
                inside = map_[int(4 * top) : int(4 * bottom), int(4 * left) : int(4 * right)]
                sums[left, top, right, bottom] = (float(inside.sum()), float(inside.clamp(min=0).sum()))
        assert box == max(sums, key=lambda each: sums[each][0])
        assert score == pytest.approx(sums[box][1] / float(map_.clamp(min=0).sum()), abs=1e-5)


def test_boxes_best_of_equal_boxes_is_first() -> None:
    boxes = CandidateBoxes.of_unit_square()
    [(box, score)] = boxes.best(torch.zeros(1, CELLS, CELLS))
    assert box == pytest.approx((0, 0, 0.3, 0.3))
    assert score == 0
    corners = boxes.intervals
    assert corners.min() >= 0
    assert corners.max() <= 1 + 1e-9


def test_label_evidence_matches_definition() -> None:
    descriptors = np.random.default_rng(0).normal(size=(5, 3, 20, 20))
    # 20 cells: the centred box is cells 3 to 16 exactly.
    inside = np.zeros((20, 20), bool)
    inside[3:17, 3:17] = True
    m, o = (descriptors[:, :, where].mean(axis=(0, 2))[:, None, None] for where in (inside, ~inside))
    expected = (np.square(descriptors - o).sum(axis=1) - np.square(descriptors - m).sum(axis=1)) / 2
    np.testing.assert_allclose(label_evidence(torch.from_numpy(descriptors).half()), expected, atol=1e-3)


def painted(count: int, seed: int = 0) -> tuple[CellDescriptors, list[tuple[float, float, float, float]]]:
    """Descriptors of one texture on a box not far from the middle and another around it, with noise; and the boxes."""
    random = np.random.default_rng(seed)
    descriptors = random.normal(scale=0.3, size=(count, 8, CELLS, CELLS))
    boxes = []
    for maps in descriptors:
        left, top = random.integers(1, 6, 2)
        right, bottom = left + random.integers(5, 8), top + random.integers(5, 8)
        maps[0] -= 1
        maps[0, top:bottom, left:right] += 2
        boxes.append((left * 20 - 0.5, top * 10 - 0.5, right * 20 - 0.5, bottom * 10 - 0.5))
    photographs = [LabelledImage(f"{index:02}.png", NOWHERE, ("cat",)) for index in range(count)]
    return CellDescriptors(photographs, [(CELLS * 10, CELLS * 20)] * count, torch.from_numpy(descriptors).half()), boxes


def test_find_crops_on_painted_objects() -> None:
    cells, boxes = painted(40)

    def right(crops: list[Crop]) -> int:
        return sum(is_correct(Localisation("cat", crop.box, [box])) for crop, box in zip(crops, boxes, strict=True))

    found = find_crops(cells)
    assert [crop.file for crop in found] == [photograph.name for photograph in cells.photographs]
    assert right(found) >= 38
    assert right(fixed_crops(cells, (0.15, 0.15, 0.85, 0.85))) < 30
    assert all(0.8 < crop.score <= 1 for crop in found)


def test_find_crops_one_per_label_none_for_background() -> None:
    cells, _ = painted(3)
    labels = (("dog", "cat"), ("cat",), ("background", "cat"))
    photographs = [
        LabelledImage(photograph.name, photograph.path, each)
        for photograph, each in zip(cells.photographs, labels, strict=True)
    ]
    cells = CellDescriptors(photographs, cells.sizes, cells.descriptors)
    expected = [("00.png", "cat"), ("00.png", "dog"), ("01.png", "cat"), ("02.png", "cat")]
    assert [(crop.file, crop.label) for crop in find_crops(cells)] == expected
    assert [(crop.file, crop.label) for crop in fixed_crops(cells, (0, 0, 1, 1))] == expected
    assert {crop.box for crop in fixed_crops(cells, (0, 0, 1, 1))} == {(-0.5, -0.5, 279.5, 139.5)}


class Columns(FeatureExtractor):
    """One number a cell of 4 pixels: the red of its middle."""

    name, working_size = "columns", 0

    def __call__(self, image: torch.Tensor) -> FeatureMap:
        size = (image.shape[1], image.shape[2])
        reds = torch.nn.functional.avg_pool2d(image[:1].float(), 4)
        return FeatureMap(reds, size, Grid.over(size, *reds.shape[1:]))


def test_extract_features_any_photograph_shape(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(140, dtype=np.uint8)[None, :, None], (28, 140, 3))
    pixels = {"a.png": png(ramp), "b.png": b"damaged", "c.png": png(ramp[:, :56]), "d.png": png(ramp)}
    labels = {"a.png": ("cat", ""), "b.png": ("cat", ""), "c.png": ("dog", ""), "d.png": ("background", "")}
    write_shard(tmp_path, labels, pixels)
    reader, steps = ImageReader(4, tolerated=0.5), []
    cells = extract_descriptors(find_images([tmp_path]), Columns(), reader, steps.append)
    assert [photograph.name for photograph in cells.photographs] == ["a.png", "c.png"]
    assert cells.sizes == [(28, 140), (28, 56)]
    assert (reader.unreadable, sum(steps)) == (["b.png"], 3)
    # Inner cells: a ramp read at the centres of 14 equal cells; its ends are held beyond the outermost centres.
    for maps, width in zip(cells.descriptors, (140, 56), strict=True):
        centres = (np.arange(CELLS) + 0.5) * width / CELLS - 0.5
        np.testing.assert_allclose(maps[0, 3, 1:-1].float(), centres[1:-1], atol=0.1)


def test_extract_features_refuses_unusable_data() -> None:
    reader = ImageReader(2, tolerated=0)
    with pytest.raises(InputError, match="no photograph has a label"):
        extract_descriptors(
            [LabelledImage("a", NOWHERE, ()), LabelledImage("b", NOWHERE, ("background",))],
            Columns(),
            reader,
            print,
        )
    with pytest.raises(InputError, match="two photographs are called a"):
        extract_descriptors([LabelledImage("a", NOWHERE, ("cat",))] * 2, Columns(), reader, print)
