"""The page of a match: what is told in it is the match, in few bytes, and nothing in it is taken for markup."""

import base64
import hashlib
import json
import zlib
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.geometry.grid import Grid
from geomatch.visualize.pair_view.compact import CHANNELS, LATTICE, compact_descriptors, compact_match
from geomatch.visualize.pair_view.page import view_page
from tests.conftest import random_features

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'\u2028.png"


def random_match(source: tuple[int, int], target: tuple[int, int], seed: int = 0) -> Correspondence:
    """A smooth flow, in part out of the target, of images of those (height, width)."""
    height, width = source
    cells = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 4, 5)))
    spread = torch.nn.functional.interpolate(cells[None], size=source, mode="bilinear", align_corners=True)[0]
    x, y = torch.meshgrid(torch.linspace(0, 1, width), torch.linspace(0, 1, height), indexing="xy")
    flow = torch.stack((x * (target[1] - width), y * (target[0] - height))) + spread[:2] * max(target) / 5
    return Correspondence(flow.float(), spread[2].sigmoid().float(), spread[2] > -0.5, source, target)


def unpacked(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def told_flow(told: Any) -> NDArray[np.float64]:
    steps = np.cumsum(unpacked(told["flow"], "<u2"), dtype=np.uint16)
    steps = steps.reshape(2, told["grid"]["height"], told["grid"]["width"])
    return steps * np.array(told["step"])[:, None, None] + np.array(told["low"])[:, None, None]


def test_compact_match_keeps_each_pixel_of_a_small_image() -> None:
    match = random_match((61, 97), (120, 50))
    told = compact_match(match)
    assert told["grid"] == {"height": 61, "width": 97, "origin": (0.0, 0.0), "pitch": (1.0, 1.0)}
    extent = np.ptp(match.flow.numpy(), axis=(1, 2))[:, None, None]
    assert (np.abs(told_flow(told) - match.flow.numpy()) <= 0.51 * extent / 65535 + 1e-5).all()
    assert (
        np.abs(unpacked(told["confidence"], "u1").reshape(61, 97) / 255 - match.confidence.numpy()).max() <= 0.501 / 255
    )
    assert (unpacked(told["valid"], "u1").reshape(61, 97) == match.valid.numpy()).all()


def test_compact_match_of_a_large_image_uses_a_lattice() -> None:
    """A linear flow, which reading it anywhere between the lattice's points gives back."""
    height, width = 300, 3 * LATTICE + 7
    x, y = torch.meshgrid(torch.arange(width) * 1.0, torch.arange(height) * 1.0, indexing="xy")
    flow = torch.stack((0.25 * x - 0.5 * y, 3 - 0.125 * x))
    match = Correspondence(flow, 0.5 + 0 * x, x < width / 2, (height, width), (height, width))
    told = compact_match(match)
    assert told["grid"]["width"] == LATTICE
    grid = Grid(*(told["grid"][name] for name in ("height", "width", "origin", "pitch")))
    px, py = grid.centres().T.double().numpy()
    expected = np.stack((0.25 * px - 0.5 * py, 3 - 0.125 * px)).reshape(2, grid.height, grid.width)
    np.testing.assert_allclose(told_flow(told), expected, atol=0.02)
    assert (unpacked(told["valid"], "u1") == (px.round() < width / 2)).mean() > 0.999


def similarities(told: list[Any]) -> NDArray[np.float64]:
    source, target = (unpacked(each["values"], "i1").reshape(-1, len(each["scales"])) for each in told)
    return (source * np.square(told[0]["scales"])) @ target.T.astype(float)


def test_compact_descriptors_keep_similarities_to_a_hundredth() -> None:
    images = random_features(6, 9, channels=16), random_features(7, 4, channels=16, seed=1)
    exact = images[0].descriptors.flatten(1).T @ images[1].descriptors.flatten(1)
    assert np.abs(similarities(compact_descriptors(*images)) - exact.numpy()).max() < 0.01


def test_compact_descriptors_keep_the_principal_components() -> None:
    """The squares of what is missing add up to those of the singular values left out, and a little for rounding."""
    images = [random_features(15, 20, channels=400, seed=seed) for seed in (0, 1)]
    together = torch.cat([image.descriptors.flatten(1) for image in images], dim=1).double().numpy()
    left_out = np.linalg.svd(together, compute_uv=False)[CHANNELS:]
    told = compact_descriptors(*images)
    assert len(told[0]["scales"]) == CHANNELS
    values = [unpacked(each["values"], "i1").reshape(-1, CHANNELS) * np.array(each["scales"]) for each in told]
    missing = together.T @ together - np.concatenate(values) @ np.concatenate(values).T
    assert np.linalg.norm(missing) == pytest.approx(np.linalg.norm(left_out**2), rel=0.02)


def page_of(
    names: tuple[str, str] = ("a.png", "b.png"),
    sizes: tuple[tuple[int, int], tuple[int, int]] = ((61, 97), (120, 50)),
    features: tuple[FeatureMap, FeatureMap] | None = None,
) -> str:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]
    matches = [random_match(*sizes), random_match(sizes[1], sizes[0], seed=1)]
    return view_page(names, images, features or tuple(map(features_of, sizes)), matches, ["a fact", "another <fact>"])


def features_of(size: tuple[int, int]) -> FeatureMap:
    features = random_features(6, 8, seed=size[0])
    return FeatureMap(features.descriptors, size, Grid.over(size, 6, 8))


class Elements(HTMLParser):
    """What a browser would take for elements, and what stands in scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.title = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and data.strip():
            self.scripts.append(data)
        if self.lasttag == "title":
            self.title += data


def test_view_page_escapes_names() -> None:
    plain, hostile = Elements(page_of()), Elements(page_of((HOSTILE, HOSTILE)))
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in plain.found]
    assert HOSTILE in hostile.title
    assert [image["name"] for image in json.loads(hostile.scripts[0])["images"]] == [HOSTILE, HOSTILE]


def test_view_page_policy_allows_its_own_script_alone() -> None:
    page = page_of()
    elements = Elements(page)
    policies = [attributes for tag, attributes in elements.found if "http-equiv" in attributes and tag == "meta"]
    (policy,) = (str(each["content"]) for each in policies)
    digest = base64.b64encode(hashlib.sha256(elements.scripts[1].encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert "http://" not in page
    assert "https://" not in page


def test_view_page_is_deterministic() -> None:
    assert page_of() == page_of()


def test_view_page_is_below_five_megabytes() -> None:
    sizes = ((1300, 1300), (1300, 1300))
    features = random_features(100, 100, channels=128, cell=13.0), random_features(100, 100, channels=128, seed=1)
    assert len(page_of(sizes=sizes, features=features)) < 5_000_000
