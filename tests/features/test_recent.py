"""Features of the images extracted last: the same ones, computed once, within a bound on memory."""

from __future__ import annotations

import torch

from geomatch.features.caches.recent import RecentFeatures
from tests.stub import Colours, picture, to_tensor

IMAGES = [to_tensor(picture(24, 32, left=left)) for left in (0, 30, 60)]


def test_recent_features_are_those_of_the_extractor_computed_once() -> None:
    recent = RecentFeatures(Colours())
    found = recent.extract_batch([*IMAGES, IMAGES[0]])
    assert recent(IMAGES[1]) is found[1]
    assert found[3] is found[0]
    assert recent.computed == 3
    for image, features in zip(IMAGES, found, strict=False):
        assert torch.equal(features.descriptors, Colours()(image).descriptors)
    assert recent.name == "colours"


def test_recent_features_drop_what_was_used_longest_ago() -> None:
    size = Colours()(IMAGES[0]).nbytes
    recent = RecentFeatures(Colours(), max_bytes=2 * size)
    for place in (0, 1, 0, 2):
        recent(IMAGES[place])
    recent(IMAGES[0])
    assert recent.computed == 3
    recent(IMAGES[1])
    assert recent.computed == 4
