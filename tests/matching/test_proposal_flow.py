"""The matchers of Proposal Flow, from features to flow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.errors import InputError, OutOfMemoryError
from geomatch.geometry.grid import Grid
from geomatch.matching.base import MatchContext
from geomatch.matching.load import load_matcher
from geomatch.matching.proposal_flow.box_hog import hog_of_boxes
from geomatch.matching.proposal_flow.pooling import pool
from geomatch.matching.proposal_flow.proposal_flow import ProposalFlow
from geomatch.matching.proposal_flow.regions import RegionFeatures
from tests.conftest import random_features
from tests.features.test_extractors import photograph
from tests.matching.box_problems import admissible, as_regions, problem
from tests.stub import match_features

NAMES = ("pf-nam", "pf-phm", "pf-lom")


def with_image(features: FeatureMap) -> RegionFeatures:
    """Features of a black image."""
    return RegionFeatures.of(features, torch.zeros(3, *features.image_size, dtype=torch.uint8))


def flow_method(name: str, **parameters: object) -> ProposalFlow:
    method = load_matcher(name, parameters)
    assert isinstance(method, ProposalFlow)
    return method


@pytest.mark.parametrize("name", NAMES)
def test_proposal_flow_match_sorts_best_partners(name: str) -> None:
    a, b, s = problem(0)
    source, target = as_regions(a, b)
    method = flow_method(name, overlap=1, sharpness=1)
    matched = method.match(torch.from_numpy(s), torch.zeros(17, 1), source, target, 1 << 20)
    scores = method.scores(torch.from_numpy(s) * source.has_similar_aspect(target), source, target, 1 << 20)
    assert (matched.score.diff() <= 0).all()
    for box, partner, score in zip(matched.source, matched.target, matched.score, strict=True):
        row = scores[(source.boxes == box).all(dim=1)][0]
        assert score == row.max()
        assert (partner == target.boxes[row.argmax()]).all()
        if score > 0:
            assert admissible(box.numpy(), partner.numpy())


def textured(size: tuple[int, int], scale: float = 1.0, shift: tuple[float, float] = (0, 0)) -> FeatureMap:
    """Features of a texture seen ``scale`` times as large and moved by ``shift``; cells of ten pixels."""
    grid = Grid.over(size, size[0] // 10, size[1] // 10)
    random = np.random.default_rng(0)
    frequencies = torch.from_numpy(random.normal(size=(48, 2)) / 60).float()
    phases = torch.from_numpy(random.uniform(0, 2 * np.pi, 48)).float()
    places = (grid.centres() - torch.tensor(shift)) / scale
    values = torch.nn.functional.normalize(torch.cos(2 * np.pi * places @ frequencies.mT + phases), dim=1)
    return FeatureMap(values.mT.reshape(48, *grid.shape), size, grid)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("proposals", ["sliding", "uniform"])
def test_proposal_flow_finds_a_known_shift_and_scale(name: str, proposals: str) -> None:
    source, target = textured((200, 300)), textured((260, 340), 1.2, (15.0, 10.0))
    found = match_features(name, source, target, {"proposals": proposals})
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(300.0), indexing="ij")
    truth = torch.stack((0.2 * x + 15, 0.2 * y + 10))
    error = (found.flow - truth).norm(dim=0)
    inside = (1.2 * x + 15 < 330) & (1.2 * y + 10 < 250) & (x > 10) & (y > 10)
    still = truth.norm(dim=0)[inside]
    assert error[inside].median() < still.median() / 3  # large windows are few, and off by their stride
    assert error[inside].quantile(0.8) < still.median() / 2


@pytest.mark.parametrize("name", NAMES)
def test_proposal_flow_matches_identical_images_repeatably(name: str) -> None:
    features = textured((150, 200))
    found, again = (match_features(name, features, features) for _ in range(2))
    assert found.flow.abs().max() < 1e-3
    assert bool(found.valid.all())
    assert torch.equal(found.flow, again.flow)
    assert found.regions is not None
    assert torch.equal(found.regions.source, found.regions.target)


@pytest.mark.parametrize("name", NAMES)
def test_proposal_flow_without_texture_is_unsure(name: str) -> None:
    """Each match alone is unsure. The pair agrees with itself, which makes all matches surer, but not as sure."""
    size = (200, 300)
    plain, clear = FeatureMap(torch.full((4, 20, 30), 0.5), size, Grid.over(size, 20, 30)), textured(size)
    found, surer = match_features(name, plain, plain), match_features(name, clear, clear)
    assert bool(found.flow.isfinite().all())
    assert found.confidence.max() < surer.confidence.min()
    alone = ConfidenceModel(in_pair=ConfidenceModel().alone, consistency=0, extent=0)
    plain, clear = replace(plain, calibration=alone), replace(clear, calibration=alone)
    found, surer = match_features(name, plain, plain), match_features(name, clear, clear)
    assert found.confidence.max() < 0.9 < surer.confidence.min()


@pytest.mark.parametrize("name", NAMES)
def test_proposal_flow_without_a_match_is_invalid(name: str) -> None:
    """The only box of an image one pixel wide is the image, and no box of a square image has its aspect."""
    line = FeatureMap(torch.nn.functional.normalize(torch.ones(3, 20, 1), dim=0), (200, 1), Grid.over((200, 1), 20, 1))
    square = random_features(10, 10, channels=3)
    for source, target in ((line, square), (square, line)):
        found = match_features(name, source, target)
        assert bool(found.flow.isfinite().all())
        assert not found.valid.any()
        assert found.regions is not None
        assert len(found.regions.found().score) == 0


@pytest.mark.parametrize("name", NAMES)
def test_proposal_flow_of_images_one_pixel_wide(name: str) -> None:
    line = FeatureMap(torch.nn.functional.normalize(torch.ones(3, 20, 1), dim=0), (200, 1), Grid.over((200, 1), 20, 1))
    assert match_features(name, line, line).flow.abs().max() < 1e-3


def test_prepare_adds_the_image_once() -> None:
    features, image = random_features(4, 5), torch.zeros(3, 40, 50, dtype=torch.uint8)
    method = load_matcher("pf-lom")
    prepared = method.prepare(features, image)
    assert isinstance(prepared, RegionFeatures)
    assert prepared.image is image
    assert prepared.nbytes == features.nbytes + image.nbytes
    assert prepared.boxes is None
    assert method.prepare(prepared, image) is prepared


@pytest.mark.parametrize("proposals", ["selective-search", "full-selective-search"])
def test_prepare_searches_boxes_once(proposals: str) -> None:
    pytest.importorskip("cv2")
    image = torch.full((3, 120, 160), 40, dtype=torch.uint8)
    image[0, 30:80, 40:100] = 220
    method = flow_method("pf-lom", proposals=proposals)
    prepared = method.prepare(random_features(12, 16), image)
    assert prepared.boxes is not None
    assert method.prepare(prepared, image) is prepared
    boxes = method.regions(prepared).boxes
    assert boxes[-1].tolist() == [-0.5, -0.5, 159.5, 119.5]
    assert (boxes[:-1] > 0).all()
    assert (boxes - torch.tensor([39.5, 29.5, 99.5, 79.5])).abs().amax(dim=1).min() < 4
    with pytest.raises(InputError, match=r"lack the boxes of selective search .*: extract them with a pipeline"):
        method.regions(with_image(random_features(12, 16)))


def test_prepare_thins_boxes_off_the_border() -> None:
    pytest.importorskip("cv2")
    image = photograph(200, 260)
    features = random_features(20, 26)
    many, few = (
        flow_method("pf-lom", proposals="selective-search", count=count).prepare(features, image).boxes
        for count in (10000, 12)
    )
    assert many is not None
    assert few is not None
    assert len(many) > len(few) == 12
    inner = torch.tensor([2.6, 2.0, 257.4, 198.0]) - 0.5
    for boxes in (many, few):
        assert (boxes[:, :2] >= inner[:2] - 1e-4).all()
        assert (boxes[:, 2:] <= inner[2:] + 1e-4).all()


def test_regions_are_about_as_many_as_asked_for() -> None:
    for count in (300, 500, 1000):
        for proposals in ("sliding", "uniform"):
            method = flow_method("pf-nam", proposals=proposals, count=count)
            boxes = method.regions(with_image(random_features(15, 20))).boxes
            assert 0.75 * count <= len(boxes) <= 1.25 * count + 1


def test_appearance_score_is_the_centred_cosine_to_a_power() -> None:
    source, target = random_features(6, 8, channels=5), random_features(7, 6, channels=5, seed=1)
    parameters = {"bins": 3, "centring": 0.5, "sharpness": 2.0, "overlap": 1.0}
    there, back = load_matcher("pf-nam", parameters)(MatchContext(with_image(source), with_image(target)))
    assert there.regions is not None
    assert back.regions is not None
    # Every box of either image stands in the matches as a source, one way or the other.
    every = [pool(source, there.regions.source, 3, 1 << 30), pool(target, back.regions.source, 3, 1 << 30)]
    of_image = [np.mean([box[5 * k : 5 * k + 5] for box in boxes.numpy() for k in range(9)], axis=0) for boxes in every]
    mean = (of_image[0] + of_image[1]) / 2
    best = there.regions.found()
    shown = [pool(source, best.source, 3, 1 << 30), pool(target, best.target, 3, 1 << 30)]
    for score, first, second in zip(best.score.tolist(), *(boxes.numpy() for boxes in shown), strict=True):
        less = [each - 0.5 * np.tile(mean, 9) for each in (first, second)]
        cosine = less[0] @ less[1] / np.linalg.norm(less[0]) / np.linalg.norm(less[1])
        assert score == pytest.approx(cosine**2, abs=1e-5)


def test_region_neighbours_are_most_similar_boxes_of_any_aspect() -> None:
    """SCNet's max(confidenceMap, [], 2) over all boxes of the target, written out; all of them are candidates."""
    pytest.importorskip("cv2")
    images = photograph(90, 120), photograph(100, 100).flip(2)
    grids = random_features(9, 12), random_features(10, 10, seed=1)
    matcher = flow_method("roi-nn", bins=2, count=40)
    source, target = (matcher.prepare(*each) for each in zip(grids, images, strict=True))
    there, _ = matcher(MatchContext(source, target))
    assert there.regions is not None
    assert there.regions.candidates is not None
    first, second = (pool(each, matcher.regions(each).boxes, 2, 1 << 30).double() for each in (source, target))
    every, expected = matcher.regions(source).boxes, {}
    for box, descriptor in zip(every, first, strict=True):
        cosines = [float(descriptor @ other) for other in second]
        best = max(range(len(cosines)), key=cosines.__getitem__)
        expected[tuple(box.tolist())] = (matcher.regions(target).boxes[best].tolist(), max(cosines[best], 0.0))
    assert len(there.regions.source) == len(every) > 20
    assert torch.equal(there.regions.candidates, matcher.regions(target).boxes)
    odd = 0
    for box, partner, score in zip(
        *(each.tolist() for each in (there.regions.source, there.regions.target)),
        there.regions.score.tolist(),
        strict=True,
    ):
        assert score == pytest.approx(expected[tuple(box)][1], abs=1e-5)
        assert partner == expected[tuple(box)][0]
        odd += not admissible(np.array(box), np.array(partner))
    assert odd > 0


def test_appearance_hog_compares_the_boxes_pixels() -> None:
    pytest.importorskip("cv2")
    images = photograph(90, 120), photograph(100, 100).flip(2)
    parameters = {"appearance": "hog", "bins": 3, "centring": 0.0, "sharpness": 1.0, "overlap": 1.0}
    matcher = load_matcher("pf-nam", parameters)
    grids = random_features(9, 12), random_features(10, 10, seed=1)
    source, target = (matcher.prepare(*each) for each in zip(grids, images, strict=True))
    assert matcher.prepare(source, images[0]) is source
    there, _ = matcher(MatchContext(source, target))
    assert there.regions is not None
    best = there.regions.found()
    shown = [hog_of_boxes(image, boxes, 3) for image, boxes in zip(images, (best.source, best.target), strict=True)]
    torch.testing.assert_close(best.score, F.cosine_similarity(*shown), atol=1e-5, rtol=0)
    with pytest.raises(InputError, match=r"lack the boxes' HOG .*: extract them with a pipeline"):
        matcher(MatchContext(with_image(grids[0]), target))
    with pytest.raises(InputError, match=r"lack the image .*: extract them with a pipeline"):
        matcher(MatchContext(grids[0], target))


def test_proposal_flow_refuses_impossible_parameters() -> None:
    with pytest.raises(InputError, match="'edges' is not one of sliding, uniform, selective-search"):
        load_matcher("pf-phm", {"proposals": "edges"})
    with pytest.raises(InputError, match="bins is 0: it must be between 1 and 32"):
        load_matcher("pf-phm", {"bins": 0})
    with pytest.raises(InputError, match="smoothness"):
        load_matcher("pf-phm", {"smoothness": 0})


def test_proposal_flow_without_memory_names_the_option() -> None:
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        match_features("pf-lom", random_features(9, 9), random_features(9, 9), max_memory=100_000)
