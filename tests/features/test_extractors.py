import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.features.hypercolumn import HypercolumnFeatures
from geomatch.features.introspection import IntrospectionConfig, IntrospectionFeatures, IntrospectionNet
from geomatch.features.resnet import build_trunk


def photograph(height: int, width: int) -> torch.Tensor:
    """Smooth random colours, the same picture at any size."""
    small = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize("size", [(96, 96), (313, 471), (64, 640), (257, 60)])
def test_any_size_and_shape_gives_unit_descriptors_over_the_whole_image(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    features = HypercolumnFeatures(build_trunk("resnet50v2"), [1, 3], working_size=128)(photograph(*size))
    assert features.image_size == size
    assert features.descriptors.shape[0] == 256 + 1024
    torch.testing.assert_close(features.descriptors.norm(dim=0), torch.ones(features.grid.shape))
    centres = features.grid.centres()
    assert centres.min() >= -0.5
    assert centres[:, 0].max() <= size[1] - 0.5
    assert centres[:, 1].max() <= size[0] - 0.5
    # The margins between the outermost centres and the image's edges are at most a cell.
    assert centres[:, 0].min() <= features.grid.pitch[0]
    assert size[1] - centres[:, 0].max() <= features.grid.pitch[0] + 1


def test_the_same_picture_at_twice_the_size_has_the_same_features_in_its_own_pixels() -> None:
    torch.manual_seed(0)
    extractor = IntrospectionFeatures(IntrospectionNet(IntrospectionConfig(descriptor_size=32)), working_size=128)
    small, large = extractor(photograph(96, 128)), extractor(photograph(192, 256))
    assert small.grid.shape == large.grid.shape
    assert large.grid.pitch == (2 * small.grid.pitch[0], 2 * small.grid.pitch[1])
    similarity = (small.descriptors * large.descriptors).sum(dim=0)
    assert similarity.min() > 0.99


def test_describing_twice_gives_the_same_bytes() -> None:
    torch.manual_seed(0)
    extractor = IntrospectionFeatures(IntrospectionNet(IntrospectionConfig(descriptor_size=32)), working_size=96)
    image = photograph(90, 70)
    assert torch.equal(extractor(image).descriptors, extractor(image).descriptors)
