"""The fine map of an image: a trunk's last stage with a cell every four pixels, in its principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FineMap
from geomatch.features.backbones.base import Trunk
from geomatch.geometry.canvas import Canvas
from geomatch.geometry.grid import Grid

STRIDE: Final = 4
COMPONENTS: Final = 32
"""Principal components that are kept. Known warps are found as well with 32 as with all 256 channels."""

_ROUNDS = 3  # of subspace iteration


def with_fine_stage(trunk: Trunk, stages: Sequence[Any], *, fine: bool = True) -> list[Any]:
    """The stages to compute in a trunk: ``stages``, and that of a fine map if one is wanted and the trunk has it."""
    return list(dict.fromkeys((*(_fine_stages(trunk) if fine else ()), *stages)))


def fine_map(canvas: Canvas, trunk: Trunk, taps: Mapping[Any, Tensor]) -> FineMap | None:
    """The fine map of the canvas's image, if the trunk has a stage of stride 4.

    taps: the trunk's stages (1, C, h, w), as `with_fine_stage` lists them.
    """
    for stage in _fine_stages(trunk):
        lattice = trunk.strides[stage], trunk.offsets[stage]
        return compress(canvas.crop(taps[stage][0], *lattice).float(), canvas.grid(*lattice))
    return None


def compress(cells: Tensor, grid: Grid) -> FineMap:
    """A map (C, h, w), less its mean, in its first principal components, of unit length at every cell."""
    columns = cells.flatten(1)
    centred = columns - columns.mean(dim=1, keepdim=True)
    basis = principal_components(centred, min(COMPONENTS, *centred.shape))
    values = F.normalize(basis.mT @ centred, dim=0).reshape(-1, *grid.shape)
    return FineMap(values, basis, grid)


def principal_components(columns: Tensor, count: int) -> Tensor:
    """Orthonormal columns (C, count) that span nearly the first principal components of the columns of (C, n).

    By subspace iteration (Golub and Van Loan, *Matrix Computations*, section 8.2) on every eighth column, from the
    first channels. It is deterministic, and several times faster than all eigenvectors.
    """
    sample = columns[:, ::8]
    covariance = sample @ sample.mT
    basis = torch.eye(len(columns), count, device=columns.device)
    for _ in range(_ROUNDS):
        basis = torch.linalg.qr(covariance @ basis).Q
    return basis


def _fine_stages(trunk: Trunk) -> list[Any]:
    return [stage for stage, stride in trunk.strides.items() if stride == STRIDE][-1:]
