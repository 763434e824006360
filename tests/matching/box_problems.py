"""Random boxes of two images, for the tests of Proposal Flow."""

import numpy as np
import torch

from geomatch.matching.proposal_flow.regions import Regions

SIZES = (180, 240), (300, 200)


def random_boxes(count: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Of at least some pixels a side, so that aspects stay within reach of each other."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 0.6, (count, 2)) * size[::-1]
    return np.hstack((corner, corner + random.uniform(0.1, 0.4, (count, 2)) * min(size))).astype(np.float32)


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes of two images of SIZES and their similarities, some of them zero."""
    a, b = random_boxes(14, SIZES[0], seed), random_boxes(17, SIZES[1], seed + 1000)
    similarity = np.random.default_rng(seed).uniform(-0.3, 1, (14, 17)).clip(0).astype(np.float32)
    return a, b, similarity


def scaled(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """In an image whose longer side is 300 pixels and that begins at 0."""
    return (boxes.astype(np.float64) + 0.5) * 300 / max(size)


def admissible(first: np.ndarray, second: np.ndarray) -> bool:
    aspects = [(box[2] - box[0]) / (box[3] - box[1]) for box in (first, second)]
    return 0.5 < aspects[0] / aspects[1] < 2


def area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


def as_regions(a: np.ndarray, b: np.ndarray) -> tuple[Regions, Regions]:
    return Regions.of(torch.from_numpy(a), SIZES[0]), Regions.of(torch.from_numpy(b), SIZES[1])
