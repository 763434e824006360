"""Learning from confident matches: which are found and kept, how pairs are drawn from them, the whole training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.datasets.image_list import LabelledImage
from geomatch.errors import InputError
from geomatch.geometry.grid import Grid
from geomatch.options import Device, Precision
from geomatch.training.keypoints import columns
from geomatch.training.keypoints.pseudo_labels import (
    MatchedPair,
    MatchedPairs,
    PhotographMatcher,
    PseudoLabeller,
    PseudoLabelRecipe,
    confident_matches,
    most_alike,
)
from geomatch.training.keypoints.train import Matching, train_keypoints
from geomatch.training.trainer import Optimisation, Progress, TrainingRun
from tests.training.test_keypoint_heads import HEADS
from tests.training.test_keypoints import NAMES, init, write_coco

__all__ = ["init"]

RECIPE = PseudoLabelRecipe(photographs=6, block=3, partners=1, places=10, least_matches=2, most_matches=4)


class Shifting:
    """Says that every pixel lies a pixel further right in the other photograph; counts what it is asked."""

    def __init__(self) -> None:
        self.extracted = self.matched = 0

    def extract(self, image: Tensor, /) -> FeatureMap:
        self.extracted += 1
        height, width = image.shape[1:]
        colour = image.float().mean(dim=(1, 2))[:, None, None]
        descriptors = torch.nn.functional.normalize(colour + torch.tensor([0.0, 9, 30])[:, None, None], dim=0)
        return FeatureMap(descriptors.expand(3, 2, 2).contiguous(), (height, width), Grid.over((height, width), 2, 2))

    def match(self, source: FeatureMap, target: FeatureMap, /) -> Correspondence:
        self.matched += 1
        return shifted(source.image_size, target.image_size)


def shifted(source_size: tuple[int, int], target_size: tuple[int, int]) -> Correspondence:
    """A flow of one pixel to the right, half as sure in the upper half, not valid in the left half."""
    flow, confidence = torch.zeros(2, *source_size), torch.full(source_size, 0.9)
    flow[0] = 1
    confidence[: source_size[0] // 2] = 0.45
    valid = torch.ones(source_size, dtype=torch.bool)
    valid[:, : source_size[1] // 2] = False
    return Correspondence(flow, confidence, valid, source_size, target_size)


def refuse() -> NoReturn:
    raise AssertionError("nothing is left to match")


@pytest.fixture
def photographs(tmp_path: Path) -> Sequence[LabelledImage]:
    write_coco(tmp_path / "photographs", {"cat": NAMES, "dog": NAMES}).unlink()
    return find_images([tmp_path / "photographs"])


def labeller(photographs: Sequence[LabelledImage], folder: Path, recipe: PseudoLabelRecipe = RECIPE) -> PseudoLabeller:
    return PseudoLabeller(photographs, recipe, 0, folder / "o.matches", "weights", ImageReader(6, 0.5))


def test_confident_matches_are_valid_sure_and_evenly_spaced() -> None:
    here, there, confidence = confident_matches(shifted((40, 80), (40, 80)), replace(RECIPE, places=10))
    columns, rows = np.unique(here[:, 0]), np.unique(here[:, 1])
    assert columns.tolist() == [44, 52, 60, 68, 76]
    assert rows.tolist() == [20, 28, 36]
    assert len(here) == 15
    np.testing.assert_array_equal(there, here + np.float32([1, 0]))
    assert confidence.tolist() == pytest.approx([0.9] * 15)


def test_most_alike_are_the_nearest_mean_descriptors_and_never_oneself() -> None:
    def of(angle: float) -> FeatureMap:
        vector = torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)
        return FeatureMap(vector[:, None, None].expand(2, 2, 3).contiguous(), (20, 30), Grid.over((20, 30), 2, 3))

    features = [of(angle) for angle in (0.0, 1.0, 0.1, 0.25)]
    assert list(most_alike(features, 1)) == [(0, 2), (1, 3), (2, 0), (3, 2)]
    assert len(list(most_alike(features, 9))) == 12
    assert list(most_alike(features[:1], 1)) == list(most_alike([], 1)) == []


def test_drawn_pairs_keep_points_together_and_mirror_both_or_neither() -> None:
    points = np.arange(20, dtype=np.float32).reshape(1, 10, 2)
    first, second = (LabelledImage(name, Path(name), ()) for name in "ab")
    pair = MatchedPair(first, second, np.concatenate((points, points + 100)), np.ones(10, np.float32))
    poor = MatchedPair(second, first, pair.points[:, :1], pair.confidence[:1])
    source = MatchedPairs([poor, pair], RECIPE)
    assert source.photographs == 2
    drawn = [source.draw(np.random.default_rng(seed)) for seed in range(40)]
    for each in drawn:
        sign = 1 if each.first.image == first else -1
        np.testing.assert_array_equal(each.second.points - each.first.points, np.full((4, 2), 100.0 * sign))
        assert each.first.mirrored == each.second.mirrored
    assert {(each.first.image, each.first.mirrored) for each in drawn} == {
        (image, mirrored) for image in (first, second) for mirrored in (False, True)
    }
    with pytest.raises(InputError, match=r"no two photographs have 2 matches .* lower --set least_confidence"):
        MatchedPairs([poor], RECIPE)


def test_labeller_goes_on_after_the_blocks_in_its_file(photographs: Sequence[LabelledImage], tmp_path: Path) -> None:
    matcher, reported = Shifting(), list[tuple[int, int]]()
    whole = labeller(photographs, tmp_path).find(lambda: matcher, lambda *done: reported.append(done))
    assert (matcher.extracted, matcher.matched) == (6, 6)
    assert reported == [(1, 3), (2, 6)]
    kept = (tmp_path / "o.matches").read_bytes()

    (tmp_path / "o.matches").unlink()
    half = labeller(photographs, tmp_path, replace(RECIPE, photographs=3))
    half.find(Shifting, lambda *_: None)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        labeller(photographs, tmp_path).find(Shifting, interrupt)
    rest = Shifting()
    again = labeller(photographs, tmp_path).find(lambda: rest, lambda *_: None)
    assert rest.extracted == 3
    assert (tmp_path / "o.matches").read_bytes() == kept
    for found in (again, labeller(photographs, tmp_path).find(refuse, lambda *_: None)):
        for one, other in zip(found, whole, strict=True):
            assert (one.first, one.second) == (other.first, other.second)
            np.testing.assert_array_equal(one.points, other.points)


@pytest.mark.parametrize("spoilt", ["other settings", "damaged"])
def test_labeller_matches_anew_instead_of_using_an_unfit_file(
    photographs: Sequence[LabelledImage], tmp_path: Path, spoilt: str
) -> None:
    recipe = replace(RECIPE, least_confidence=0.1) if spoilt == "other settings" else RECIPE
    labeller(photographs, tmp_path, recipe).find(Shifting, lambda *_: None)
    if spoilt == "damaged":
        (tmp_path / "o.matches").write_bytes((tmp_path / "o.matches").read_bytes()[:-10])
    matcher = Shifting()
    labeller(photographs, tmp_path).find(lambda: matcher, lambda *_: None)
    assert matcher.extracted == 6


def test_labeller_leaves_out_damaged_photographs(photographs: Sequence[LabelledImage], tmp_path: Path) -> None:
    (tmp_path / "photographs" / "2.png").write_bytes(b"no picture")
    found = labeller(photographs, tmp_path).find(Shifting, lambda *_: None)
    assert "2.png" not in {image.name for pair in found for image in (pair.first, pair.second)}
    assert len(found) == 5


def test_training_with_matches_finds_them_first_and_keeps_them(
    init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "EXAMPLES", 8)
    coco = write_coco(tmp_path / "coco", {"cat": NAMES, "dog": NAMES})
    write_coco(tmp_path / "photographs", {"cat": NAMES, "dog": NAMES}).unlink()
    parts: list[str] = []

    def on_progress(part: str, _: Progress) -> None:
        parts.append(part)

    def train(out: str, matcher: PhotographMatcher | None, *data: Path) -> bytes:
        run = TrainingRun(data, [init], tmp_path / out, Device.cpu)
        recipe = replace(HEADS, pseudo_labels=RECIPE)
        optimisation = Optimisation(steps=2, trunk_learning_rate=0, precision=Precision.float32)
        matching = None if matcher is None else Matching([tmp_path / "photographs"], lambda _: matcher)
        train_keypoints(run, recipe, optimisation, matching=matching, on_progress=on_progress)
        return (tmp_path / out).read_bytes()

    with_matches, without = train("with.safetensors", Shifting(), coco), train("without.safetensors", None, coco)
    assert parts == ["matching", "matching", "training", "training", "training", "training"]
    alone = train("alone.safetensors", Shifting())
    assert len({with_matches, without, alone}) == 3
    assert (tmp_path / "with.safetensors.matches").is_file()
    assert not (tmp_path / "without.safetensors.matches").exists()


def test_matches_of_shipped_features_are_found_anew_after_a_change_of_shipped_weights(
    init: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, shipped = Matching([], lambda _: Shifting()), Matching([], lambda _: Shifting(), "combined")
    before = own.settings(init), shipped.settings(init)
    (tmp_path / "manifest.json").write_text('{"anchornet": {"sha256": "b"}, "distilled": {"sha256": "a"}}')
    monkeypatch.setenv("GEOMATCH_WEIGHTS", str(tmp_path))
    assert own.settings(init) == before[0]
    assert shipped.settings(init) == ["combined", "b", "a"] != before[1]
