"""SCNet's votes and matchers against slow loops, and what they refuse."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.errors import InputError
from geomatch.features.caches.disk import CachedFeatures
from geomatch.features.scnet import Embedding, Variant
from geomatch.matching.base import MatchContext
from geomatch.matching.load import load_matcher
from geomatch.matching.proposal_flow.pooling import pool_maxima
from geomatch.matching.proposal_flow.proposal_flow import ProposalFlow
from geomatch.matching.proposal_flow.regions import RegionFeatures
from geomatch.matching.proposal_flow.scnet import geometric_votes
from tests.conftest import random_features
from tests.matching.box_problems import SIZES, admissible, area, as_regions, problem, scaled
from tests.stub import Embedded, small_scnet

SLIDING = {"proposals": "sliding", "count": 60}


def slow_bins(a: np.ndarray, b: np.ndarray) -> dict[tuple[int, int], tuple[int, int, int]]:
    """The bin that each pair of boxes falls into: where A's lower right corner goes, and the ratio of the areas."""
    (height_a, width_a), (height_b, width_b) = (np.array(size) * 300 / max(size) for size in SIZES)
    cell = 5 * max(math.sqrt(4 * width_b * height_b / 8000), 5)
    shape = 40, round(2 * height_b / cell), round(2 * width_b / cell)
    bins = {}
    for (i, box), (j, partner) in ((x, y) for x in enumerate(a) for y in enumerate(b)):
        x = partner[0] + (width_a - box[0]) / (box[2] - box[0]) * (partner[2] - partner[0])
        y = partner[1] + (height_a - box[1]) / (box[3] - box[1]) * (partner[3] - partner[1])
        scale = math.log2(area(partner) / area(box))
        at = (
            math.floor((scale + 4) * 5),
            math.floor(y * shape[1] / (2 * height_b)),
            math.floor(x * shape[2] / (2 * width_b)),
        )
        if admissible(box, partner) and all(0 <= k < length for k, length in zip(at, shape, strict=True)):
            bins[i, j] = at
    return bins


@pytest.mark.parametrize("seed", range(3))
def test_geometric_votes_and_gradient_equal_a_slow_loop(seed: int) -> None:
    """sum_kl K_ij,kl max(0, s_kl - .4) + .01 with K = 1 for two pairs of one bin; d votes_ij / d s_kl = K if s > .4."""
    a, b, s = problem(seed)
    bins = slow_bins(scaled(a, SIZES[0]), scaled(b, SIZES[1]))
    weight = np.random.default_rng(seed).normal(size=s.shape)
    votes, gradient = np.full(s.shape, 0.01), np.zeros(s.shape)
    for ij, bin_ij in bins.items():
        for kl, bin_kl in bins.items():
            if bin_ij == bin_kl and s[kl] > 0.4:
                votes[ij] += s[kl] - 0.4
                gradient[kl] += weight[ij]
    assert (votes > 0.1).sum() > 20
    similarity = torch.from_numpy(s).requires_grad_()
    found = geometric_votes(similarity, *as_regions(a, b))
    np.testing.assert_allclose(found.detach(), votes, atol=1e-5)
    (found * torch.from_numpy(weight)).sum().backward()
    np.testing.assert_allclose(similarity.grad, gradient, atol=1e-5)


def scnet_pair(variant: Variant = Variant.ag_plus) -> tuple[RegionFeatures, RegionFeatures]:
    """Random features of two images, prepared, with a network that embeds regions of them."""
    embed = Embedded(variant)
    maps = random_features(9, 12, channels=4), random_features(10, 10, channels=4, seed=1)
    images = (torch.zeros(3, *each.image_size, dtype=torch.uint8) for each in maps)
    prepared = [
        load_matcher("scnet-a", SLIDING).prepare(embed.complete(each), image)
        for each, image in zip(maps, images, strict=True)
    ]
    assert all(isinstance(each, RegionFeatures) for each in prepared)
    return prepared[0], prepared[1]  # type: ignore[return-value]


def embeddings(features: RegionFeatures, boxes: torch.Tensor, embedding: Embedding) -> torch.Tensor:
    """One box after the other."""
    corners = features.grid.to_cells(boxes[:, :2]), features.grid.to_cells(boxes[:, 2:])
    assert features.network is not None
    bins = features.network.config.bins
    rows = [pool_maxima(features.descriptors, *(each[k : k + 1] for each in corners), bins) for k in range(len(boxes))]
    return torch.cat([features.network.embed(row, embedding) for row in rows]).detach()


@pytest.mark.parametrize("name", ["scnet-a", "scnet-ag", "scnet-ag+"])
def test_scnet_matches_each_region_to_the_largest_score(name: str) -> None:
    """z = s; s times the votes of s; s times the votes of the second embedding."""
    source, target = scnet_pair()
    matcher = load_matcher(name, SLIDING)
    assert isinstance(matcher, ProposalFlow)
    there, back = matcher(MatchContext(source, target))
    a, b = matcher.regions(source), matcher.regions(target)
    for found, (first, one), (second, other) in (
        (there, (source, a), (target, b)),
        (back, (target, b), (source, a)),
    ):
        similarity, voting = (
            (embeddings(first, one.boxes, kind) @ embeddings(second, other.boxes, kind).mT).relu() for kind in Embedding
        )
        scores = {
            "scnet-a": similarity,
            "scnet-ag": similarity * geometric_votes(similarity, one, other),
            "scnet-ag+": similarity * geometric_votes(voting, one, other),
        }[name]
        assert found.regions is not None
        best = {tuple(box.tolist()): row for box, row in zip(one.boxes, scores, strict=True)}
        for box, partner, score in zip(found.regions.source, found.regions.target, found.regions.score, strict=True):
            row = best[tuple(box.tolist())]
            torch.testing.assert_close(score, row.max())
            chosen = int((other.boxes == partner).all(dim=1).nonzero()[0, 0])
            torch.testing.assert_close(row[chosen], row.max())


def test_scnet_variants_differ() -> None:
    source, target = scnet_pair()
    found = [
        load_matcher(name, SLIDING)(MatchContext(source, target))[0] for name in ("scnet-a", "scnet-ag", "scnet-ag+")
    ]
    assert not any(torch.equal(found[k].positions, found[k - 1].positions) for k in range(3))


def test_scnet_refuses_features_without_what_it_needs() -> None:
    source, target = scnet_pair(Variant.a)
    plain = replace(source, network=None)
    with pytest.raises(
        InputError, match="no embedding of regions: give those of SCNet, --features scnet --weights FILE"
    ):
        load_matcher("scnet-a", SLIDING)(MatchContext(plain, target))
    with pytest.raises(
        InputError, match=r"no embedding of geometry, which scnet-ag\+ needs: train it with --set variant"
    ):
        load_matcher("scnet-ag+", SLIDING)(MatchContext(source, target))


def test_scnet_features_from_the_disk_cache_embed_regions(tmp_path: Path) -> None:
    network = small_scnet(Variant.a)
    cached = CachedFeatures(Embedded(Variant.a), tmp_path, torch.device("cpu"))
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8))
    for _ in range(2):  # extracted, then read
        prepared = load_matcher("scnet-a", SLIDING).prepare(cached(image), image)
        assert isinstance(prepared, RegionFeatures)
        assert prepared.network is network
