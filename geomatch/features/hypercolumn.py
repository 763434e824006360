"""Hypercolumns (Hariharan et al., CVPR 2015): stages of a trunk stacked, each of unit length at every cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.features.backbones.base import Trunk, parse_stage
from geomatch.features.base import FeatureExtractor, TrunkReading, read_trunk
from geomatch.features.fine_map import fine_map, with_fine_stage
from geomatch.features.load import pretrained_trunk
from geomatch.features.weights import read_weights_file, shipped_weights
from geomatch.geometry.grid import read_cells
from geomatch.io.inputs import Input


class HypercolumnFeatures(FeatureExtractor):
    """Stages read bilinearly at the cells of the finest one, each L2-normalised, concatenated, L2-normalised."""

    def __init__(
        self, trunk: Trunk, stages: Sequence[int | str], working_size: int, weights_sha256: str | None = None
    ) -> None:
        trunk.check_stages("hypercolumn: this trunk", stages)
        self.name = "hypercolumn:" + "+".join(map(str, stages))
        self.trunk = trunk.eval()
        self.stages = tuple(stages)
        self.working_size = working_size
        self.weights_sha256 = weights_sha256

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    @torch.no_grad()
    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        stages = with_fine_stage(self.trunk, self.stages, fine=self.fine)
        return list(map(self._stack, read_trunk(images, self.trunk, stages, self.working_size, self.arithmetic)))

    def _stack(self, reading: TrunkReading) -> FeatureMap:
        canvas, taps = reading.canvas, reading.taps
        finest = min(self.stages, key=self.trunk.strides.__getitem__)
        grid = canvas.grid(self.trunk.strides[finest], self.trunk.offsets[finest])
        centres = grid.centres(reading.pixels.device)
        columns = []
        for stage in self.stages:
            cells = canvas.to_cells(centres, self.trunk.strides[stage], self.trunk.offsets[stage])
            columns.append(F.normalize(read_cells(taps[stage], cells[None])[0], dim=0))
        descriptors = F.normalize(torch.cat(columns), dim=0).reshape(-1, *grid.shape)
        fine = fine_map(canvas, self.trunk, taps) if self.fine else None
        return FeatureMap(descriptors, canvas.image_size, grid, calibration=self.calibration, fine=fine)


def load(argument: str, working_size: int, device: torch.device, weights: Input | None) -> HypercolumnFeatures:
    names = (argument or "2+3").split("+")
    if not all(name.removeprefix("vit").removesuffix("k").isdecimal() for name in names):
        raise InputError(
            f"hypercolumn:{argument}: give stages joined by '+', as hypercolumn:2+3; a transformer's are its blocks, "
            "as 7 for tokens and 7k for keys"
        )
    stages = [parse_stage(name) for name in names]
    file = read_weights_file(weights) if weights else shipped_weights("introspection")
    trunk = pretrained_trunk(file)[1].to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return HypercolumnFeatures(trunk, stages, working_size, file.sha256)
