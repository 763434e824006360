"""Each image of a collection with those most similar to it, so that many are matched without all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomatch.batch.match_pairs import ExtractedImage, extract_image
from geomatch.correspondence import FeatureMap
from geomatch.errors import GeomatchError
from geomatch.pipeline import Pipeline
from geomatch.runtime.feature_cache import MAX_BYTES
from geomatch.runtime.parallel_map import map_in_order

_SCORE_BYTES = 1 << 26
_UNREADABLE = -2.0  # less than any cosine


@dataclass(frozen=True)
class Neighbours:
    """pairs: of a collection's images, each as source with its most similar ones, the most similar first.
    extracted: those of the images, by path, whose features were kept."""

    pairs: Sequence[tuple[Path, Path]]
    extracted: Mapping[Path, ExtractedImage]


def find_neighbours(
    images: Sequence[Path], pipeline: Pipeline, count: int, on_image: Callable[[], object] = lambda: None
) -> Neighbours:
    """Pair each image with the ``count`` images most similar to it, or with all others if there are fewer.

    Images are as similar as the cosine of their mean descriptors, less those of all images together. Equally similar
    ones come in the order of the list. An image that cannot be used is nobody's neighbour before all others, and is
    itself paired with the first of them, so that its pairs fail as those of any list do.

    on_image: called after each image.
    """
    means: list[NDArray[np.float64] | None] = []
    kept: dict[Path, ExtractedImage] = {}
    room = MAX_BYTES

    def extract(image: Path) -> ExtractedImage | None:
        try:
            return extract_image(image, pipeline)
        except GeomatchError:
            return None

    for image, found in zip(images, map_in_order(extract, images), strict=True):
        means.append(None if found is None else mean_descriptor(found.features))
        if found is not None and found.nbytes <= room:
            kept[image] = found
            room -= found.nbytes
        on_image()
    partners = most_similar(_centred(means), count, [place for place, mean in enumerate(means) if mean is None])
    pairs = [(image, images[partner]) for image, row in zip(images, partners, strict=True) for partner in row]
    return Neighbours(pairs, kept)


def mean_descriptor(features: FeatureMap) -> NDArray[np.float64]:
    """The mean (C,) of an image's descriptors."""
    return features.descriptors.flatten(1).double().mean(dim=1).cpu().numpy()


def most_similar(
    vectors: NDArray[np.float64], count: int, unusable: Iterable[int] = (), max_bytes: int = _SCORE_BYTES
) -> NDArray[np.intp]:
    """The places of the ``count`` other rows of (n, C) with the largest products with each row: (n, min(count, n - 1)).

    The largest come first, and of equal ones the first; those ``unusable`` come last. The search is exact, up to the
    rounding of products to float32, in blocks of rows whose scores take ``max_bytes`` or a single row's.
    """
    total = len(vectors)
    count = min(count, total - 1)
    found = np.empty((total, count), np.intp)
    rows = max(1, max_bytes // (total * 24))
    for start in range(0, total, rows):
        stop = min(start + rows, total)
        # Products in float64 do not depend on how they are summed, once they are rounded to float32.
        scores = (vectors[start:stop] @ vectors.T).astype(np.float32)
        scores[:, list(unusable)] = _UNREADABLE
        scores[np.arange(stop - start), np.arange(start, stop)] = -np.inf
        least = np.partition(scores, total - count, axis=1)[:, total - count, None]
        row, column = np.nonzero(scores >= least)
        order = np.lexsort((column, -scores[row, column], row))
        first = np.searchsorted(row, np.arange(stop - start))
        found[start:stop] = column[order][first[:, None] + np.arange(count)]
    return found


def _centred(means: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """Vectors (n, C) of unit length, less their mean; zeros where there is none."""
    known = [mean for mean in means if mean is not None]
    middle = np.mean(known, axis=0) if known else np.zeros(1)
    vectors = np.stack([np.zeros_like(middle) if mean is None else mean - middle for mean in means])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))
