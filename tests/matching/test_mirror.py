"""Sources flipped left to right: positions stay exact, and `auto` flips those that match better so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap, MirrorChoice, RegionMatches
from geomatch.errors import InputError
from geomatch.features.base import FeatureExtractor
from geomatch.geometry.grid import Grid
from geomatch.matching.mirror import MirrorModel, choose_mirror, flip_source, flip_target, matched_source
from geomatch.options import Mirror, PresetSettings
from geomatch.pipeline import Pipeline

CELL = 4


class Textures(FeatureExtractor):
    """Of each cell of CELL x CELL pixels the pixels themselves, less their mean: another descriptor if flipped."""

    name = "textures"
    working_size = 0

    def __call__(self, image: Tensor) -> FeatureMap:
        size = (image.shape[1], image.shape[2])
        grid = Grid.over(size, size[0] // CELL, size[1] // CELL)
        cells = torch.nn.functional.unfold(image[None].float(), CELL, stride=CELL)[0].reshape(-1, *grid.shape)
        return FeatureMap(torch.nn.functional.normalize(cells - cells.mean(dim=0), dim=0), size, grid)


def pipeline(mirror: str, **choices: Any) -> Pipeline:
    made = Pipeline(
        features=Textures(), preset=PresetSettings(cells=1), device="cpu", **{"matcher": "nn", **choices}
    ).with_mirror(mirror)
    made.mirror_model = MirrorModel(weight=2.0, prior=-0.5)
    return made


@pytest.fixture(scope="module")
def scene() -> Tensor:
    """A picture (3, 48, 64) whose cells all differ."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 48, 64), np.uint8))


def expected_flow(height: int, width: int) -> Tensor:
    """From a picture to the flipped one."""
    x = torch.arange(width, dtype=torch.float32)
    return torch.stack(((width - 1 - 2 * x).expand(height, -1), torch.zeros(height, width)))


def test_mirror_on_recovers_a_flipped_picture(scene: Tensor) -> None:
    there, back = pipeline("on").match_both_ways(scene, scene.flip(-1))
    for found in (there, back):
        torch.testing.assert_close(found.flow[:, 2:-2, 2:-2], expected_flow(48, 64)[:, 2:-2, 2:-2], atol=1e-3, rtol=0)
        assert found.mirror is not None
        assert found.mirror.mirrored
        assert found.valid[2:-2, 2:-2].all()
    assert torch.equal(pipeline("on").match(scene, scene.flip(-1)).flow, there.flow)


def test_mirror_auto_flips_only_what_matches_better_flipped(scene: Tensor) -> None:
    auto, off, on = (pipeline(mirror) for mirror in ("auto", "off", "on"))
    for target, best, flipped in ((scene, off, False), (scene.flip(-1), on, True)):
        found = auto.match(scene, target)
        assert found.mirror is not None
        assert found.mirror.mirrored is flipped
        assert found.mirror.probability is not None
        assert (found.mirror.probability > 0.5) is flipped
        assert torch.equal(found.flow, best.match(scene, target).flow)
        assert torch.equal(found.confidence, best.match(scene, target).confidence)


def test_mirror_off_extracts_and_says_nothing_more(scene: Tensor) -> None:
    off = pipeline("off")
    features = off.extract(scene)
    assert features.mirrored is None
    assert off.match(features, scene).mirror is None
    assert "mirror" not in off.settings()
    with_both = pipeline("auto").extract(scene)
    assert torch.equal(off.match(with_both, scene.flip(-1)).flow, off.match(features, scene.flip(-1)).flow)
    assert pipeline("auto").settings()["mirror"] == "auto"


def test_mirror_needs_features_of_the_flipped_source(scene: Tensor) -> None:
    auto = pipeline("auto")
    with pytest.raises(InputError, match="lack those of the flipped image"):
        auto.match(auto.extract(scene, Mirror.off), scene)
    assert auto.match(auto.extract(scene), auto.extract(scene, Mirror.off)).mirror is not None


def test_mirror_probability_depends_on_the_target_alone_being_flipped(scene: Tensor) -> None:
    """Exchanging the two hypotheses negates the gain."""
    auto = pipeline("auto")
    source = auto.extract(scene)
    model = MirrorModel(weight=1.0, prior=0.0)
    gains = []
    for target in (auto.extract(scene, Mirror.off), auto.extract(scene.flip(-1), Mirror.off)):
        choice = choose_mirror(source, target, Mirror.auto, model, 1 << 20)
        assert choice is not None
        assert choice.probability is not None
        gains.append(choice.probability)
    assert gains[0] + gains[1] == pytest.approx(1)
    assert gains[0] < 0.5


@pytest.mark.parametrize("matcher", ["pf-phm", "fusion"])
def test_mirror_prepares_the_flipped_source_for_the_matcher(matcher: str, scene: Tensor) -> None:
    found = pipeline("on", matcher=matcher).match(scene, scene.flip(-1))
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert float((found.flow - expected_flow(48, 64))[inner].norm(dim=0).median()) < 2


def test_matched_source_is_in_the_frame_of_the_image(scene: Tensor) -> None:
    features = pipeline("on").extract(scene)
    found = pipeline("on").match(features, scene.flip(-1))
    shown = matched_source(features, found.mirror)
    assert matched_source(features, None) is features
    assert shown.grid == features.grid
    mirrored = Textures()(scene.flip(-1)).descriptors
    assert torch.equal(shown.descriptors[:, :, 0], mirrored[:, :, -1])


def test_flips_of_a_correspondence_agree_with_its_positions() -> None:
    random = torch.Generator().manual_seed(0)
    flow = torch.randint(-9, 9, (2, 5, 7), generator=random).float()
    target = torch.tensor([[1.5, 0.0, 8.5, 4.5]])
    regions = RegionMatches(torch.tensor([[-0.5, 0.0, 2.5, 4.5]]), target, torch.ones(1), target)
    confidence = torch.rand(5, 7, generator=random)
    found = Correspondence(flow, confidence, confidence > 0.5, (5, 7), (6, 9), regions)
    points = np.array([[0.0, 0.0], [6.0, 4.0], [2.5, 1.0]])
    positions = found.map_points(points).positions
    flipped = MirrorChoice(mirrored=True)
    of_source, of_target = flip_source(found, flipped), flip_target(found, flipped)
    np.testing.assert_array_equal(of_source.map_points([6, 0] - points * [1, -1]).positions, positions)
    np.testing.assert_array_equal(of_target.map_points(points).positions, [8, 0] - positions * [1, -1])
    assert of_source.regions is not None
    assert of_source.regions.source.tolist() == [[3.5, 0.0, 6.5, 4.5]]
    assert of_target.regions is not None
    assert of_target.regions.target.tolist() == [[-0.5, 0.0, 6.5, 4.5]]
    assert of_target.regions.candidates is not None
    assert of_target.regions.candidates.tolist() == [[-0.5, 0.0, 6.5, 4.5]]
    assert of_source.regions.candidates is target
    kept = MirrorChoice(mirrored=False, probability=0.2)
    assert flip_source(found, kept) == flip_target(found, kept) == replace(found, mirror=kept)
    assert of_source.mirror == of_target.mirror == flipped
    for twice in (flip_source(of_source, flipped), flip_target(of_target, flipped)):
        for name in ("flow", "confidence", "valid"):
            assert torch.equal(getattr(twice, name), getattr(found, name))


def test_features_count_the_memory_of_the_flipped_image(scene: Tensor) -> None:
    features = pipeline("on").extract(scene)
    assert features.nbytes == 2 * replace(features, mirrored=None).nbytes
