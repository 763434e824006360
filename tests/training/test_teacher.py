from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F

from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.backbones.mobilenet import load_mobilenet
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.weights import load_network, save_weights
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.introspection.teacher import Teacher, TrunkTeacher, build_teacher
from geomatch.training.letterbox import Letterbox
from tests.features.test_mobilenet import keras_state


def images(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 65, 81, generator=torch.Generator().manual_seed(seed))


def whole(seed: int) -> Letterbox:
    return Letterbox(images(seed)[:1, :, :, :65], (65, 65))


def test_teacher_similarity_is_weighted_mean_of_parts() -> None:
    network = load_mobilenet(keras_state(), "file").eval()
    photographs = [torch.randint(0, 256, (3, 50, 81)), torch.randint(0, 256, (3, 90, 60))]
    examples = [Letterbox.of(photograph.to(torch.uint8), 65) for photograph in photographs]
    teacher = Teacher([TrunkTeacher(network, {3: 1.0}), TrunkTeacher(network, {5: 0.5})], examples)
    seen = images(2)
    cells = torch.tensor([[[0, 0], [3, 2], [4, 4]], [[1, 3], [2, 2], [0, 4]]])
    # Stride 4 at block 3 and 8 at block 5: cells of the coarser one lie on every other of the finer one's.
    found = teacher(seen, 8.0 * cells)
    assert torch.allclose(found.norm(dim=2), torch.ones(2, 3), atol=1e-5)

    expected = torch.zeros(6, 6)
    with torch.no_grad():
        for block, weight, finer in ((3, 1.0, 2), (5, 0.5, 1)):
            # Photographs of 81 x 50 and 60 x 90 pixels fill the rows 12 to 52 and the columns 11 to 53 of 65.
            on_it = [F.normalize(network(example.image, [block])[block][0], dim=0) for example in examples]
            stride = 8 // finer
            on_it = [
                on_it[0][:, -(-12 // stride) : 52 // stride + 1].flatten(1),
                on_it[1][:, :, -(-11 // stride) : 53 // stride + 1].flatten(1),
            ]
            tap = F.normalize(network(seen, [block])[block], dim=1) - torch.cat(on_it, dim=1).mean(dim=1)[:, None, None]
            rows = [tap[b, :, finer * y, finer * x] for b in range(2) for x, y in cells[b].tolist()]
            unit = F.normalize(torch.stack(rows), dim=1)
            expected += weight**2 * unit @ unit.mT / (1.0**2 + 0.5**2)
    flat = found.flatten(0, 1)
    torch.testing.assert_close(flat @ flat.mT, expected, atol=1e-5, rtol=1e-4)


def test_teacher_of_two_sizes_has_the_mean_similarity_of_both() -> None:
    part = TrunkTeacher(load_mobilenet(keras_state(), "file"), {3: 1.0})
    seen = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    halves = F.interpolate(seen, size=(32, 32), mode="bilinear", antialias=True)
    pixels = torch.tensor([[[10.0, 20.0], [41.5, 3.0]]]).expand(2, -1, -1)
    both = Teacher([part], [whole(0)], (1.0, 0.5))(seen, pixels).flatten(0, 1)
    single = Teacher([part], [whole(0)])
    alone = [single(*given).flatten(0, 1) for given in ((seen, pixels), (halves, (pixels + 0.5) / 2 - 0.5))]
    torch.testing.assert_close(both @ both.mT, sum(each @ each.mT for each in alone) / 2)


def test_trained_networks_teach_their_own_descriptors(tmp_path: Path) -> None:
    """Introspection's phi and the anchors' code, read at the cells themselves."""
    torch.manual_seed(0)
    learner = IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=8)).eval()
    anchors = AnchorNet(AnchorConfig(classes=("cat",), stages=("1",), filters=8, code_size=4, tap_size=8)).eval()
    save_weights(tmp_path / "anchors", "anchornet", asdict(anchors.config), anchors.state_dict())
    recipe = IntrospectionRecipe(network=learner.config, teacher_weight=0.5)
    teacher = build_teacher(learner, [tmp_path / "anchors"], recipe, [whole(0)], trained=True)
    seen = torch.rand(1, 3, 64, 64)
    cells = torch.tensor([[1, 2], [3, 0], [2, 2]])
    stride = anchors.config.stride
    assert (learner.stride, learner.offset, stride % 4) == (4, 0.0, 0)
    found = teacher(seen, stride * cells[None].float())[0]
    with torch.no_grad():
        anchors = load_network(tmp_path / "anchors", "anchornet", AnchorConfig, AnchorNet, torch.device("cpu"))[0]
        code = anchors.descriptors(F.softplus(anchors(seen)), None)[0]
        phi = learner(seen)[0][0]
    x, y = cells.unbind(dim=1)
    phi, code = phi[:, y * stride // 4, x * stride // 4], code[:, y, x]
    torch.testing.assert_close(found @ found.mT, (phi.mT @ phi + 0.25 * code.mT @ code) / 1.25, atol=1e-5, rtol=1e-4)


def test_teacher_is_frozen() -> None:
    teacher = Teacher([TrunkTeacher(load_mobilenet(keras_state(), "file"), {1: 1.0})], [whole(0)])
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(images(1), torch.zeros(2, 1, 2)).requires_grad
