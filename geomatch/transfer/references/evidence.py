"""What the cells of a target say of each keypoint: their similarity to the places that references mark, summed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.annotations import Points
from geomatch.correspondence import FeatureMap
from geomatch.geometry.grid import read_cells

SHRINKAGE = 0.1
"""Of the covariance towards a multiple of the identity, as a share of its mean variance."""
BACKGROUND = 1e-2
"""Likelihood, per cell and relative to an even spread, that a keypoint lies where nothing speaks for it."""
_PARTS = 4  # of an image, along either axis, that are compared to choose references


def image_descriptor(features: FeatureMap) -> Tensor:
    """What images are compared by: the means of the descriptors in 4 x 4 parts of it, (16 C,) of unit length."""
    return F.normalize(F.adaptive_avg_pool2d(features.descriptors[None], _PARTS).flatten(), dim=0)


@dataclass(frozen=True)
class Whitening:
    """Descriptors x as differences from the mean m of all cells, in units of their covariance C:

        x' = W (x - m) / |W (x - m)|,    W = (C + SHRINKAGE tr(C) / n I)^(-1/2)

    What most cells share then counts little, so that a sum of similarities is a linear discriminant of a keypoint
    against them (Hariharan, Malik, Ramanan, ECCV 2012). mean: (n,); matrix: (n, n), symmetric.
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, descriptors: Tensor) -> Tensor:
        """(..., n) to (..., n) of unit length."""
        mean, matrix = self.mean.to(descriptors), self.matrix.to(descriptors)
        return F.normalize((descriptors - mean) @ matrix, dim=-1)


class WhiteningSums:
    """Sums over the cells of images, which `Whitening` follows from: images need not be kept for it."""

    def __init__(self) -> None:
        self._count, self._total, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, features: FeatureMap) -> None:
        cells = features.descriptors.flatten(1).cpu()
        self._count += cells.shape[1]
        self._total = self._total + cells.double().sum(dim=1)
        self._squares = self._squares + (cells @ cells.mT).double()

    def whitening(self) -> Whitening:
        mean = self._total / self._count
        values, vectors = torch.linalg.eigh(self._squares / self._count - torch.outer(mean, mean))
        scale = (values.clamp(min=0) + SHRINKAGE * values.mean().clamp(min=1e-12)).rsqrt()
        return Whitening(mean.float(), (vectors * scale @ vectors.mT).float())


def descriptors_at(features: FeatureMap, points: Points) -> Tensor:
    """The descriptors (K, C) of unit length at points (K, 2) in pixels of an image."""
    pixels = torch.from_numpy(points).to(features.descriptors)
    return F.normalize(read_cells(features.descriptors[None], features.grid.to_cells(pixels)[None])[0], dim=0).mT


def mean_similarity(marked: Tensor, seen: Tensor, target: Tensor) -> Tensor:
    """The mean, over the E references that mark a keypoint, of the similarity of that place to each cell.

    marked: (E, K, C) and target: (P, C), whitened. seen: (E, K) float. Returns (K, P) in [-1, 1].
    """
    count = seen.sum(dim=0).clamp(min=1)
    return torch.einsum("ekc,ek->kc", marked, seen) / count[:, None] @ target.mT  # the same as the mean of products


def average_of_neighbours(maps: Tensor) -> Tensor:
    """(K, h, w): the mean of the 3 x 3 cells around each cell, of those on the map at its border."""
    return F.avg_pool2d(maps[None], 3, stride=1, padding=1, count_include_pad=False)[0]


def log_likelihood(similarity: Tensor) -> Tensor:
    """How likely each cell is a keypoint's place, relative to an even spread: (K, P) of similarities (K, P).

    A softmax of the similarity in units of its own standard deviation over the target, and `BACKGROUND`, in logarithms.
    """
    scale = similarity.std(dim=1, keepdim=True).clamp(min=1e-6)
    return (torch.softmax(similarity / scale, dim=1) * similarity.shape[1] + BACKGROUND).log()
