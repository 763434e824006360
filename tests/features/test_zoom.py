"""A second look at the object: its box by a slow search, its features where they lie in the whole image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError, WeightsError
from geomatch.features.introspection import IntrospectionFeatures
from geomatch.features.zoom import (
    LEAST_PIXELS,
    LEAST_PROBABILITY,
    MARGIN,
    Foreground,
    ForegroundConfig,
    ZoomedFeatures,
    found_box,
    object_box,
    view_around,
    zoom_in,
)
from geomatch.geometry.grid import Grid
from geomatch.geometry.view import flip_view, longer_side, part_of
from geomatch.options import PresetSettings, Zoom
from geomatch.pipeline import Pipeline
from tests.stub import CELL, Colours

CPU = torch.device("cpu")


def test_object_box_holds_the_most_evidence_of_all_boxes() -> None:
    probabilities = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (20, 5, 6)))
    for probability in probabilities:
        evidence = probability - LEAST_PROBABILITY
        sums = {
            (left, top, right, bottom): float(evidence[top:bottom, left:right].sum())
            for top in range(5)
            for bottom in range(top + 1, 6)
            for left in range(6)
            for right in range(left + 1, 7)
        }
        assert object_box(probability) == max(sums, key=sums.__getitem__)


def test_object_box_needs_evidence() -> None:
    assert object_box(torch.full((3, 4), LEAST_PROBABILITY - 0.1)) is None


def test_found_box_is_in_pixels_of_the_image() -> None:
    overview = FeatureMap(torch.ones(1, 10, 20), (100, 200), Grid.over((100, 200), 10, 20))
    probability = torch.zeros(10, 20)
    probability[1:3, 4:8] = 1
    assert found_box(overview, probability) == (39.5, 9.5, 79.5, 29.5)
    assert found_box(overview, torch.zeros(10, 20)) is None


def test_view_has_a_margin_and_stays_in_the_image() -> None:
    margin = MARGIN * 40
    view = (40 - margin - 0.5, -0.5, 80 + margin - 0.5, 30 + margin - 0.5)
    assert view_around((39.5, 9.5, 79.5, 29.5), (100, 100)) == view


def test_view_of_a_speck_has_an_eighth_of_the_image() -> None:
    assert view_around((399.5, 199.5, 409.5, 209.5), (400, 800)) == (354.5, 154.5, 454.5, 254.5)


def test_view_of_a_speck_in_a_small_image_has_64_pixels() -> None:
    assert view_around((19.5, 59.5, 29.5, 69.5), (200, 160)) == (-0.5, 32.5, 56.5, 96.5)
    assert view_around((19.5, 9.5, 29.5, 19.5), (40, 60)) is None


def test_view_of_a_large_object_is_the_whole_image() -> None:
    assert view_around((9.5, 9.5, 89.5, 89.5), (100, 100)) is None


def test_view_of_flipped_image_is_the_flipped_view() -> None:
    image, view = torch.arange(60).reshape(6, 10), (1.5, 0.5, 5.5, 3.5)
    assert torch.equal(part_of(image.flip(-1), flip_view(view, 10)), part_of(image, view).flip(-1))
    assert longer_side(view) == 4


def scene(left: int = 64, top: int = 48) -> Tensor:
    """A red square of 32 pixels, less red downwards and greener to the right, on black: (3, 160, 200) uint8."""
    image = torch.zeros(3, 160, 200, dtype=torch.uint8)
    image[0, top : top + 32, left : left + 32] = (255 - 3 * torch.arange(32)[:, None]).byte()
    image[1, top : top + 32, left : left + 32] = (7 * torch.arange(32)).byte()
    return image


def zoomed() -> ZoomedFeatures:
    """Looks at what is red: of a descriptor's four numbers the third is the sine of red."""
    foreground = Foreground(ForegroundConfig(descriptor_size=4))
    with torch.no_grad():
        foreground.score.weight.zero_()[0, 2] = 40
        foreground.score.bias.fill_(-10)  # type: ignore[union-attr]
    return ZoomedFeatures(Colours(), Colours(), foreground, "0" * 64)


def test_zoomed_features_lie_where_the_object_is_in_the_whole_image() -> None:
    image = scene()
    found, whole = zoomed()(image), Colours()(image)
    assert found.view == (47.5, 31.5, 111.5, 95.5)
    assert found.image_size == (160, 200)
    assert found.longer_side == LEAST_PIXELS
    assert found.overview is not None
    assert torch.equal(found.overview.descriptors, whole.descriptors)
    exact = Colours()(part_of(image, found.view))
    assert torch.equal(found.descriptors, exact.descriptors)
    corner = torch.tensor([found.view[:2]]) + CELL / 2
    assert torch.allclose(found.grid.centres()[:1], corner, atol=0.2)


def test_image_without_object_is_looked_at_as_a_whole() -> None:
    found = zoomed()(torch.zeros(3, 160, 200, dtype=torch.uint8))
    assert found.view is None
    assert found.grid.shape == (40, 50)


def pipeline(features: ZoomedFeatures | Colours) -> Pipeline:
    return Pipeline(features=features, matcher="nn", preset=PresetSettings(cells=1), device="cpu")


def test_match_is_the_object_s_in_its_view_and_the_overviews_around() -> None:
    source, target = scene(), scene(left=100, top=60)
    found, coarse = pipeline(zoomed()).match(source, target), pipeline(Colours()).match(source, target)
    view = zoomed()(source).view
    assert view is not None
    inside = torch.zeros(160, 200, dtype=torch.bool)
    part_of(inside, view).fill_(True)
    assert torch.equal(found.flow[:, ~inside], coarse.flow[:, ~inside])
    assert torch.equal(found.confidence[~inside], coarse.confidence[~inside])
    middle = found.flow[:, 56:72, 72:88]
    assert (middle - torch.tensor([36.0, 12.0])[:, None, None]).abs().max() < CELL


def test_match_both_ways_equals_match_and_match_back() -> None:
    source, target = scene(), scene(left=100, top=60)
    both = pipeline(zoomed()).match_both_ways(source, target)
    single = pipeline(zoomed()).match(source, target), pipeline(zoomed()).match(target, source)
    for one, other in zip(both, single, strict=True):
        assert torch.equal(one.flow, other.flow)
        assert torch.equal(one.valid, other.valid)


def test_flipped_source_is_matched_in_the_frame_of_the_image() -> None:
    source, target = scene(), scene(left=100, top=60)
    plain = pipeline(zoomed()).match(source, target)
    flipped = pipeline(zoomed()).with_mirror("on").match(source.flip(-1), target)
    across = torch.arange(200.0)
    assert torch.allclose(flipped.flow[0].flip(-1) + across.flip(0), plain.flow[0] + across, atol=1e-3)
    assert torch.allclose(flipped.flow[1].flip(-1), plain.flow[1], atol=1e-3)


def test_mask_outside_the_view_is_matched_by_the_overview() -> None:
    source, target = scene(), scene(left=100, top=60)
    mask = np.zeros((160, 200), bool)
    mask[120:150, 10:60] = True
    found = pipeline(zoomed()).match(source, target, source_mask=mask)
    coarse = pipeline(Colours()).match(source, target, source_mask=mask)
    assert torch.equal(found.flow[:, 120:150, 10:60], coarse.flow[:, 120:150, 10:60])
    flipped = [pipeline(each).with_mirror("on") for each in (zoomed(), Colours())]
    both = [each.match(source, target, source_mask=mask).flow[:, 120:150, 10:60] for each in flipped]
    assert torch.equal(*both)


def test_mask_outside_the_view_of_the_flipped_source_is_matched_by_the_overview() -> None:
    mask = np.zeros((160, 200), bool)
    mask[48:80, 64:96] = True
    flipping = [pipeline(each).with_mirror("on") for each in (zoomed(), Colours())]
    found = flipping[0].extract(scene())
    assert found.mirrored is not None
    elsewhere = zoomed()(scene(left=0, top=0))
    away = replace(elsewhere, overview=found.mirrored.overview)
    closer = flipping[0].match(replace(found, mirrored=away), scene(left=100, top=60), source_mask=mask)
    coarse = flipping[1].match(scene(), scene(left=100, top=60), source_mask=mask)
    assert torch.equal(closer.flow, coarse.flow)


def test_flipped_features_have_the_flipped_view() -> None:
    found = zoomed()(scene())
    again = found.flipped().flipped()
    assert again.view == found.view
    assert again.overview is not None
    assert found.overview is not None
    assert torch.equal(again.overview.descriptors, found.overview.descriptors)


def test_matcher_that_reads_the_image_is_not_zoomed() -> None:
    made = Pipeline(features=Colours(), matcher="pf-nam", preset=PresetSettings(cells=1), device="cpu", zoom="on")
    assert made.zoom is Zoom.off
    changed = pipeline(zoomed()).with_matcher("pf-nam")
    assert isinstance(changed.extractor, Colours)


def test_features_of_a_closer_look_are_refused_by_a_pipeline_without() -> None:
    preset = PresetSettings(features="sift", zoom=Zoom.on)
    closer, whole = Pipeline(preset=preset, device="cpu"), Pipeline(preset=preset, device="cpu", zoom="off")
    image = scene()
    with pytest.raises(InputError, match="zoom on"):
        whole.match(closer.extract(image), image)
    with pytest.raises(InputError, match="zoom on"):
        closer.match(whole.extract(image), image)


def test_unknown_zoom_is_refused() -> None:
    with pytest.raises(InputError, match="zoom"):
        Pipeline(features=Colours(), zoom="twice")


def test_zoom_in_refuses_a_classifier_of_other_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Foreground(ForegroundConfig(4, "f" * 64))
    monkeypatch.setattr("geomatch.features.zoom.load_network", lambda *_: (other, "0" * 64))
    monkeypatch.setattr("geomatch.features.zoom._distilled_network_of", lambda _: (object(), "a" * 64))
    with pytest.raises(WeightsError, match="--zoom off"):
        zoom_in(Colours(), CPU, lambda each: each)


def test_zoom_in_without_the_shipped_weights_says_how_to_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setenv("GEOMATCH_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"no weights for 'foreground' here.*, or use --zoom off$"):
        zoom_in(Colours(), CPU, lambda each: each)


def test_preset_zooms_in_with_its_own_features_alone() -> None:
    preset = PresetSettings(features="sift", zoom=Zoom.on)
    assert Pipeline(preset=replace(preset, zoom=Zoom.off), device="cpu").zoom is Zoom.off
    assert Pipeline(features="sift", preset=preset, device="cpu").zoom is Zoom.off
    assert "zoom" not in Pipeline(features=Colours(), preset=preset, device="cpu").settings()


def test_default_preset_zooms_in_with_the_network_that_it_has() -> None:
    made = Pipeline(device="cpu")
    assert isinstance(made.extractor, ZoomedFeatures)
    detail, overview = made.extractor.inner
    assert isinstance(detail, IntrospectionFeatures)
    assert isinstance(overview, IntrospectionFeatures)
    assert detail.network is overview.network
    assert made.settings()["zoom"] == "on"
