import torch
import torch.nn.functional as F

from geomatch.features.backbones.mobilenet import load_mobilenet
from geomatch.training.introspection.teacher import Teacher, TeacherPart
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
    teacher = Teacher([TeacherPart(network, {3: 1.0}), TeacherPart(network, {5: 0.5})], examples)
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


def test_teacher_is_frozen() -> None:
    teacher = Teacher([TeacherPart(load_mobilenet(keras_state(), "file"), {1: 1.0})], [whole(0)])
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(images(1), torch.zeros(2, 1, 2)).requires_grad
