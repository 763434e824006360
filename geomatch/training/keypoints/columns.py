"""Columns of a frozen trunk on views of objects, reduced to their principal components and kept on disk."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.keypoint_pairs import KeypointView, PairSource
from geomatch.errors import InputError
from geomatch.features.introspection import IntrospectionNet
from geomatch.geometry.homography import warp_image
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.keypoints.views import draw_pair, draw_view
from geomatch.training.letterbox import cell_centres
from geomatch.training.pca import principal_components

EXAMPLES = 150  # pairs whose first views the principal components are those of

Autocast = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Projection:
    """z = D (x - m) of columns x: directions D (K, C) of orthonormal rows, mean m (C,), float32, on the CPU."""

    directions: Tensor
    mean: Tensor

    def __call__(self, columns: Tensor) -> Tensor:
        """Columns (C, h, w) to (K, h, w)."""
        directions, mean = self.directions.to(columns), self.mean.to(columns)
        return torch.einsum("kc,chw->khw", directions, columns - mean[:, None, None])


class ColumnStore:
    """A view of each object, drawn when it is first asked for, as the reduced columns of a network.

    The view is random, but always the same for an object and its mirror image. The file has no name: it is gone when
    the store is left, or the process ends. centres: (N, 2), the centres of the cells, in pixels of a view.
    """

    def __init__(self, network: IntrospectionNet, recipe: KeypointRecipe, folder: Path, autocast: Autocast) -> None:
        """autocast: what the trunk is run in. Raises InputError if the folder cannot be written to."""
        self.network, self.recipe, self.autocast = network, recipe, autocast
        self.centres = cell_centres(recipe.view_size, network.stride, network.offset)
        self.projection = Projection(torch.empty(0, 0), torch.empty(0))
        self._slots: dict[KeypointKey, int] = {}
        self._homographies: list[Tensor] = []
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{folder}: no file can be made here ({error.strerror})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fit(self, sources: Sequence[PairSource], reader: ImageReader) -> None:
        """Fit the projection to views of some pairs. Raises InputError if too many photographs are damaged."""
        random = np.random.default_rng((self.recipe.seed, 0, 3))
        views = [draw_pair(sources, random).first for _ in range(EXAMPLES)]
        directions, mean = principal_components(self._examples(views, reader), self.recipe.column_size)
        self.projection = Projection(directions.float().cpu(), mean.float().cpu())

    def prepare(self, views: Iterable[KeypointView]) -> dict[str, InputError]:
        """Compute the columns of views that have none yet; the errors of damaged photographs, by name.

        Raises InputError if the disk is full.
        """
        for view in views:
            if _key(view) in self._slots:
                continue
            try:
                homography, columns = self._read(view)
            except InputError as error:
                return {view.image.name: error}
            self._write(self.projection(columns).half().cpu().numpy())
            self._slots[_key(view)] = len(self._homographies)
            self._homographies.append(homography)
        return {}

    def homography(self, view: KeypointView) -> Tensor:
        """The homography (3, 3) float64 from a prepared view to its photograph."""
        return self._homographies[self._slots[_key(view)]]

    def columns(self, view: KeypointView) -> Tensor:
        """The reduced columns (K, h, w) float16 of a prepared view."""
        side = round(len(self.centres) ** 0.5)
        shape = (len(self.projection.directions), side, side)
        size = 2 * shape[0] * side * side
        self._file.seek(size * self._slots[_key(view)])
        return torch.frombuffer(bytearray(self._file.read(size)), dtype=torch.float16).reshape(shape)

    def _write(self, columns: np.ndarray) -> None:
        try:
            self._file.seek(columns.nbytes * len(self._homographies))
            self._file.write(columns.tobytes())
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"no room beside the weights for {len(self._homographies) + 1} views ({error.strerror}): "
                "reduce --size or --set column_size, or write --out to another disk"
            ) from error

    def _examples(self, views: Iterable[KeypointView], reader: ImageReader) -> Iterable[Tensor]:
        for view in views:
            try:
                yield self._read(view)[1].flatten(1)
            except InputError as error:
                reader.record({view.image.name: error})

    @torch.no_grad()
    def _read(self, view: KeypointView) -> tuple[Tensor, Tensor]:
        """The homography of a view and its columns (C, h, w) float32. Raises InputError for a damaged photograph."""
        pixels, size = view.image.load(), self.recipe.view_size
        about = f"{self.recipe.seed} {view.image.name} {view.box} {view.mirrored}"
        seed = int.from_bytes(hashlib.sha256(about.encode()).digest()[:7])
        homography = draw_view(view, pixels, self.recipe, torch.Generator().manual_seed(seed))
        image = warp_image(pixels.float() / 255, homography, (size, size))[None]
        image = image.to(self.network.descriptor.weight.device, memory_format=torch.channels_last)
        with self.autocast():
            return homography, self.network.columns(image)[0].float()


KeypointKey = tuple[object, object, bool]


def _key(view: KeypointView) -> KeypointKey:
    return view.image, view.box, view.mirrored
