"""Similarity summed over references, and whitening, against direct computations."""

import numpy as np
import torch
import torch.nn.functional as F

from geomatch.correspondence import FeatureMap
from geomatch.geometry.grid import Grid
from geomatch.transfer.references.evidence import (
    WhiteningSums,
    descriptors_at,
    image_descriptor,
    log_likelihood,
    mean_similarity,
)


def features(seed: int, channels: int = 5, height: int = 8, width: int = 12) -> FeatureMap:
    maps = torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed))
    size = 4 * height, 4 * width
    return FeatureMap(F.normalize(maps, dim=0), size, Grid.over(size, height, width))


def test_mean_similarity_is_the_mean_of_the_references_that_mark_it() -> None:
    marked, target = torch.randn(3, 2, 5), torch.randn(7, 5)
    seen = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = mean_similarity(marked, seen, target)
    torch.testing.assert_close(found[0], (target @ marked[0, 0] + target @ marked[1, 0]) / 2)
    torch.testing.assert_close(found[1], target @ marked[1, 1])


def test_log_likelihood_is_one_on_average() -> None:
    similarity = torch.randn(3, 50)
    found = log_likelihood(similarity).exp()
    torch.testing.assert_close(found.mean(dim=1), torch.full((3,), 1.01))
    assert torch.equal(found.argmax(dim=1), similarity.argmax(dim=1))
    assert log_likelihood(torch.ones(1, 9)).isfinite().all()


def test_whitened_cells_have_no_covariance() -> None:
    images = [features(0), features(1)]
    sums = WhiteningSums()
    for each in images:
        sums.add(each)
    whitening = sums.whitening()
    cells = torch.cat([each.descriptors.flatten(1).mT for each in images])
    spread = torch.cov(((cells - whitening.mean) @ whitening.matrix).mT, correction=0)
    values = torch.linalg.eigvalsh(torch.cov(cells.mT, correction=0))
    expected = torch.sort(values / (values + 0.1 * values.mean())).values
    torch.testing.assert_close(torch.linalg.eigvalsh(spread), expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(whitening(cells).norm(dim=1), torch.ones(len(cells)))


def test_descriptors_at_centres_are_those_of_the_cells() -> None:
    own = features(3)
    points = own.grid.centres()[[0, 17, 40]].numpy().astype(np.float64)
    torch.testing.assert_close(descriptors_at(own, points), own.descriptors.flatten(1)[:, [0, 17, 40]].mT)


def test_image_descriptor_tells_layouts_apart() -> None:
    one, other = features(4), features(5)
    assert image_descriptor(one) @ image_descriptor(one) > 0.999
    assert image_descriptor(one) @ image_descriptor(other) < 0.7
