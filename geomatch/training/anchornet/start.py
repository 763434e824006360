"""The parts of an AnchorNet that are fitted or drawn: taps, means, and where the banks and the code start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.features.anchornet import AnchorNet
from geomatch.training.letterbox import Letterbox
from geomatch.training.pca import principal_components, set_projection


@torch.no_grad()
def draw_banks(network: AnchorNet, seed: int) -> None:
    """Draw random filters, so small that their strongest activations are about equal to the thresholds at first."""
    generator = torch.Generator().manual_seed(seed)
    network.banks.weight.normal_(0, 0.02, generator=generator)
    network.thresholds.fill_(0.3)


@torch.no_grad()
def fit_taps(network: AnchorNet, examples: Sequence[Letterbox]) -> None:
    """Set each tap to the centred principal components of its stage, over the cells that lie on photographs."""
    for stage, tap in zip(network.stages, network.taps, strict=True):
        lattice = network.trunk.strides[stage], network.trunk.offsets[stage]
        columns = (network.trunk(e.image, [stage])[stage][0].flatten(1)[:, e.cells(*lattice)[1]] for e in examples)
        directions, mean = principal_components(columns, network.config.tap_size)
        set_projection(cast("nn.Conv2d", tap), directions, mean)


@torch.no_grad()
def fit_code(network: AnchorNet, examples: Sequence[Letterbox]) -> None:
    """Set the mean responses, and the code to their principal components, the optimum of an auto-encoder without noise.

    The paper keeps a running mean while the code is learnt; the banks no longer change by then, so one mean suffices.
    """

    def responses(example: Letterbox) -> Tensor:
        on_photograph = example.cells(network.config.stride)[1]
        return F.softplus(network(example.image))[0].flatten(1)[:, on_photograph]

    config = network.config
    directions, mean = principal_components(map(responses, examples), config.code_size, mean_share=config.mean_share)
    network.mean_response.copy_(mean)
    network.encoder.weight.copy_(directions[:, :, None, None])


@torch.no_grad()
def fit_means(network: AnchorNet, examples: Sequence[Letterbox]) -> None:
    """Set the means of unit codes and unit banks over the cells that lie on photographs."""
    code, bank = torch.zeros_like(network.mean_code), torch.zeros_like(network.mean_bank)
    cells = 0
    for example in examples:
        on_photograph = example.cells(network.config.stride)[1]
        responses = F.softplus(network(example.image))
        code += network.unit_code(responses)[0].flatten(1)[:, on_photograph].sum(dim=1)
        bank += network.unit_banks(responses)[0].flatten(1)[:, on_photograph].sum(dim=1)
        cells += int(on_photograph.sum())
    network.mean_code.copy_(code / cells)
    network.mean_bank.copy_(bank / cells)
