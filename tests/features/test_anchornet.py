"""The network of AnchorNet at the paper's sizes, and its descriptors by their definition."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from geomatch.features.anchornet import AnchorConfig, AnchorFeatures, AnchorNet
from geomatch.training.recipes import PAPER_ANCHORS
from tests.features.test_extractors import photograph

PAPER = replace(PAPER_ANCHORS[0].network, trunk="resnet50")  # as `--init` would name it


def small_network(mean_share: float) -> AnchorNet:
    """Two classes of three filters, with random means."""
    torch.manual_seed(0)
    config = AnchorConfig(("cat", "dog"), stages=("1", "2"), tap_size=8, filters=3, code_size=4, mean_share=mean_share)
    network = AnchorNet(config).eval()
    network.mean_response.copy_(torch.rand(6))
    return network


def test_paper_hypercolumn_is_56_by_56_by_768() -> None:
    """What the banks read, of a view of the paper's size, with fewer filters than the paper's."""
    torch.manual_seed(0)
    network = AnchorNet(replace(PAPER, classes=("cat",), filters=4, code_size=4)).eval()
    columns = []
    network.banks.register_forward_pre_hook(lambda _, inputs: columns.append(inputs[0]))
    with torch.no_grad():
        network(torch.rand(1, 3, 224, 224))
    assert columns[0].shape == (1, 768, 56, 56)
    torch.testing.assert_close(columns[0].unflatten(1, (3, 256)).norm(dim=2), torch.ones(1, 3, 56, 56))


def test_paper_has_20_banks_of_200_filters() -> None:
    with torch.device("meta"):
        network = AnchorNet(PAPER)
    assert len(PAPER.classes) == 20
    assert network.banks.weight.shape == (20 * 200, 768, 3, 3)
    assert network.encoder.weight.shape == (256, 20 * 200, 1, 1)
    assert PAPER.bank(PAPER.classes[3]) == slice(600, 800)


def test_responses_are_softplus_of_activations() -> None:
    network = small_network(0)
    extractor = AnchorFeatures(network, 64)
    seen = []
    network.banks.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    maps = extractor.respond(photograph(64, 64)).maps
    everywhere = torch.log1p(seen[0].double().exp()).float()
    height, width = maps.shape[1:]
    margin = (everywhere.shape[1] - height) // 2
    torch.testing.assert_close(maps, everywhere[:, margin : margin + height, margin : margin + width])
    assert (maps > 0).all()


def test_code_is_a_unit_projection_of_centred_responses() -> None:
    """F^S * (Gamma - mu), cell by cell, divided by its length."""
    network = small_network(1)
    responses = torch.rand(2, 6, 5, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = network.unit_code(responses)
    filters = network.encoder.weight[:, :, 0, 0].detach()
    for image in range(2):
        for row in range(5):
            for column in range(7):
                code = filters @ (responses[image, :, row, column] - network.mean_response)
                torch.testing.assert_close(found[image, :, row, column], F.normalize(code, dim=0))
