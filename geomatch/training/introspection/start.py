"""The descriptor head that training starts from. Ours: the paper leaves it open."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.image_list import LabelledImage
from geomatch.features.introspection import IntrospectionNet
from geomatch.geometry.homography import WarpRanges, random_view, warp_image
from geomatch.training.introspection.teacher import Teacher
from geomatch.training.letterbox import Letterbox
from geomatch.training.pca import in_double, principal_components, set_projection


@torch.no_grad()
def start_from_principal_components(
    network: IntrospectionNet,
    photographs: Sequence[LabelledImage],
    reader: ImageReader,
    view_size: int,
    seed: int,
    *,
    sample: int = 256,
) -> None:
    """Set the descriptor head to the centred principal components of the trunk's features, over some photographs."""
    random = np.random.default_rng((seed, 0, 2))
    generator = torch.Generator().manual_seed(seed)
    order = random.permutation(len(photographs))
    device = network.descriptor.weight.device

    def columns_of(pixels: Tensor) -> Tensor:
        view = random_view((pixels.shape[1], pixels.shape[2]), view_size, WarpRanges(), generator)
        image = warp_image(pixels.float() / 255, view, (view_size, view_size))[None]
        return network.columns(image.to(device))[0].flatten(1)

    columns = map(columns_of, reader.read((photographs[index] for index in order), sample))
    set_projection(network.descriptor, *principal_components(columns, network.config.descriptor_size))


@torch.no_grad()
def start_from_teacher(
    network: IntrospectionNet, teacher: Teacher, examples: Sequence[Letterbox], *, ridge: float = 1e-3
) -> None:
    """Set the descriptor head to the best linear prediction of the teacher's descriptors from the trunk's features.

    Ridge regression from a cell's column x to the teacher's descriptor t, over the cells that lie on a photograph; the
    head gives the principal components of the prediction B (x - mean), up to scale.
    """

    def moments(example: Letterbox) -> Tensor:
        """(x, 1) times (x, 1, t), summed over the cells."""
        positions, on_photograph = example.cells(network.stride, network.offset)
        x = F.pad(in_double(network.columns(example.image)[0].flatten(1)[:, on_photograph]), (0, 0, 0, 1), value=1.0)
        target = teacher(example.image, positions[on_photograph].float()[None].to(example.image.device))[0]
        return x @ torch.cat((x.mT, in_double(target)), dim=1)

    size = network.descriptor.in_channels
    total = sum(map(moments, examples), start=torch.zeros((), dtype=torch.float64))
    total = total / total[size, size]
    x_mean, t_mean = total[:size, size], total[size, size + 1 :]
    covariance = total[:size, :size] - torch.outer(x_mean, x_mean)
    damping = ridge * covariance.diagonal().mean() * torch.eye(size, dtype=torch.float64, device=total.device)
    regression = torch.linalg.solve(covariance + damping, total[:size, size + 1 :] - torch.outer(x_mean, t_mean))
    predicted = regression.mT @ covariance @ regression
    components = torch.linalg.eigh(predicted).eigenvectors.flip(1)[:, : network.config.descriptor_size]
    weight = (regression @ components).mT
    # Descriptors are normalised, so the scale is free. With the scale of orthonormal rows, the optimiser's steps, whose
    # size does not depend on the gradient's, are as small relative to the weights as they are in other layers.
    set_projection(network.descriptor, weight * (math.sqrt(len(weight)) / weight.norm()), x_mean)
