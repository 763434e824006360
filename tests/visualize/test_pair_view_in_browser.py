"""The page in a browser: markers stand where the match says, and colours are what they say they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.geometry.grid import Grid
from geomatch.visualize.colours import colour_flow, confidence_picture
from geomatch.visualize.pair_view.page import view_page
from tests.browser import Tab, find_browser, open_tab
from tests.conftest import random_features
from tests.visualize.test_pair_view import HOSTILE, random_match

SIZES = {"source": (61, 97), "target": (120, 50)}
OTHER = {"source": "target", "target": "source"}
PAGE_LOADS = ("data:", "file:")


@pytest.fixture(scope="module")
def matches() -> dict[str, Correspondence]:
    found = {role: random_match(SIZES[role], SIZES[OTHER[role]], seed) for seed, role in enumerate(SIZES)}
    # What lies outside stands on no picture.
    return {role: replace(match, flow=clipped(match)) for role, match in found.items()}


def clipped(match: Correspondence) -> torch.Tensor:
    start = Grid.over(match.source_size, *match.source_size).centres().T.reshape(2, *match.source_size)
    most = torch.tensor(match.target_size[::-1])[:, None, None] - 1.0
    return (start + match.flow).clamp(torch.zeros(2, 1, 1), most) - start


@pytest.fixture(scope="module")
def images() -> dict[str, torch.Tensor]:
    """Smooth, since what is written into the page is not exact."""
    generator = torch.Generator().manual_seed(0)
    return {
        role: (255 * F.interpolate(torch.rand(1, 3, 4, 4, generator=generator), size=size, mode="bicubic").clamp(0, 1))[
            0
        ].byte()
        for role, size in SIZES.items()
    }


@pytest.fixture(scope="module")
def features() -> dict[str, FeatureMap]:
    return {
        role: FeatureMap(random_features(6, 8, seed=seed).descriptors, size, Grid.over(size, 6, 8))
        for seed, (role, size) in enumerate(SIZES.items())
    }


@pytest.fixture(scope="module")
def page(
    images: dict[str, torch.Tensor],
    features: dict[str, FeatureMap],
    matches: dict[str, Correspondence],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(
        view_page([HOSTILE, "b.png"], *([*each.values()] for each in (images, features, matches)), ["a fact"])
    )
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed; CHROMIUM may name one")
    with open_tab(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, page: Path) -> Tab:
    browser.open(page)
    return browser


def frame(tab: Tab, role: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of a picture in the window."""
    left, top, width, height = tab.run(
        f"(({{ left, top, width, height }}) => [left, top, width, height])"
        f"(document.querySelector('#{role} .picture').getBoundingClientRect())"
    )
    return left, top, width, height


def place(tab: Tab, role: str, x: float, y: float) -> tuple[float, float]:
    """Where in the window a pixel of an image lies."""
    left, top, width, height = frame(tab, role)
    return left + (x + 0.5) * width / SIZES[role][1], top + (y + 0.5) * height / SIZES[role][0]


def marker(tab: Tab, role: str) -> tuple[float, float]:
    """The pixel of an image on which its marker stands."""
    x, y = tab.run(
        f"(({{ left, top }}) => [left, top])(document.querySelector('#{role} .marker').getBoundingClientRect())"
    )
    left, top, width, height = frame(tab, role)
    return (x - left) * SIZES[role][1] / width - 0.5, (y - top) * SIZES[role][0] / height - 0.5


def canvas(tab: Tab, role: str, name: str) -> NDArray[np.int64]:
    """The pixels of a canvas, (height, width, 4)."""
    width, height, values = tab.run(
        f"(canvas => [canvas.width, canvas.height, Array.from(canvas.getContext('2d')"
        f".getImageData(0, 0, canvas.width, canvas.height).data)])(document.querySelector('#{role} .{name}'))"
    )
    return np.array(values).reshape(height, width, 4)


def text(tab: Tab, selector: str) -> str:
    return str(tab.run(f"document.querySelector('{selector}').textContent"))


def assert_at(tab: Tab, role: str, x: int, y: int, match: Correspondence) -> None:
    """The point is pixel (x, y) of that image, and the markers, the words and the figures are those of its match."""
    u, v = (float(each) for each in match.flow[:, y, x])
    assert marker(tab, role) == pytest.approx((x, y), abs=0.05)
    assert marker(tab, OTHER[role]) == pytest.approx((x + u, y + v), abs=0.05)
    assert f"{role} ({x}, {y})" in text(tab, "#readout")
    chip = text(tab, f"#{OTHER[role]} .chip")
    assert int(chip.removesuffix("%")) == pytest.approx(100 * float(match.confidence[y, x]), abs=0.7)
    assert text(tab, "#confidence") == f"{chip} sure"
    assert text(tab, "#verdict") == ("valid" if match.valid[y, x] else "not valid")


@pytest.mark.parametrize("role", SIZES)
@pytest.mark.parametrize("window", [(1280, 800), (700, 900), (1111, 1500)])
def test_hovering_moves_the_other_marker_to_the_match(
    role: str, window: tuple[int, int], browser: Tab, page: Path, matches: dict[str, Correspondence]
) -> None:
    browser.open(page, width=window[0], height=window[1])
    height, width = SIZES[role]
    for x, y in ((0, 0), (width - 1, height - 1), (width // 3, height // 2), (width // 2, height // 5)):
        browser.mouse("mouseMoved", *place(browser, role, x, y))
        assert_at(browser, role, x, y, matches[role])


def test_click_holds_the_point_and_releases_it(tab: Tab, matches: dict[str, Correspondence]) -> None:
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        tab.mouse(kind, *place(tab, "source", 30, 20))
    tab.mouse("mouseMoved", *place(tab, "target", 10, 70))
    assert_at(tab, "source", 30, 20, matches["source"])
    for kind in ("mousePressed", "mouseReleased"):
        tab.mouse(kind, *place(tab, "target", 10, 70))
    tab.mouse("mouseMoved", *place(tab, "target", 12, 71))
    assert_at(tab, "target", 12, 71, matches["target"])


def test_arrow_keys_move_the_point_and_x_goes_to_its_match(tab: Tab, matches: dict[str, Correspondence]) -> None:
    tab.mouse("mouseMoved", *place(tab, "source", 40, 30))
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown"):
        tab.press(key)
    tab.press("ArrowRight", shift=True)  # a fortieth of 97 pixels is 2
    assert_at(tab, "source", 40, 31, matches["source"])
    tab.press("x")
    u, v = matches["source"].flow[:, 31, 40].tolist()
    assert_at(tab, "target", round(40 + u), round(31 + v), matches["target"])
    assert tab.run("document.activeElement.closest('figure').id") == "target"
    for _ in range(60):
        tab.press("ArrowRight", shift=True)
    assert marker(tab, "target")[0] == pytest.approx(49, abs=0.05)  # the border holds


def test_tap_moves_the_point_on_a_phone(browser: Tab, page: Path, matches: dict[str, Correspondence]) -> None:
    browser.open(page, width=390, height=844, phone=True)
    for role, x, y in (("source", 70, 12), ("target", 25, 99)):
        browser.touch(*place(browser, role, x, y))
        assert_at(browser, role, x, y, matches[role])
    assert frame(browser, "target")[1] > frame(browser, "source")[1] + frame(browser, "source")[3]
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_page_opens_at_the_most_confident_valid_pixel(tab: Tab, matches: dict[str, Correspondence]) -> None:
    x, y = marker(tab, "source")
    match = matches["source"]
    assert match.valid[round(y), round(x)]
    assert float(match.confidence[round(y), round(x)]) >= float(match.confidence[match.valid].max()) - 1 / 255


def test_heat_map_is_the_similarity_to_the_point(tab: Tab, features: dict[str, FeatureMap]) -> None:
    """At the cells' centres, for a point on a cell's centre: brighter means more like, and the ends are those told."""
    source, target = features["source"], features["target"]
    x, y = (round(each) for each in source.grid.centres()[19].tolist())
    tab.mouse("mouseMoved", *place(tab, "source", x, y))
    cell = source.grid.to_cells(torch.tensor([[x, y]]).float())
    read = F.grid_sample(
        source.descriptors[None],
        (cell / torch.tensor([7, 5]) * 2 - 1)[None, None],
        align_corners=True,
        padding_mode="border",
    )[0, :, 0, 0]
    expected = torch.einsum("c,chw->hw", read, target.descriptors)
    heat = canvas(tab, "target", "colours")
    across, down = (np.floor((np.arange(n) + 0.5) * heat.shape[axis] / n).astype(int) for axis, n in ((1, 8), (0, 6)))
    opacity = torch.from_numpy(heat[down][:, across, 3]).flatten()
    order = expected.flatten().argsort()
    assert np.corrcoef(opacity[order], np.arange(len(order)))[0, 1] > 0.95
    assert int(opacity.argmax()) == int(order[-1])
    assert text(tab, "#high") == f"{float(expected.max()):.2f}"
    assert text(tab, "#low").replace("\N{MINUS SIGN}", "-") == f"{float(expected.min()):.2f}"
    assert not canvas(tab, "source", "colours").any()


def test_slider_blends_the_source_into_the_warp(
    tab: Tab, images: dict[str, torch.Tensor], matches: dict[str, Correspondence]
) -> None:
    source = images["source"].permute(1, 2, 0).numpy().astype(float)
    warped = matches["source"].warp(images["target"]).permute(1, 2, 0).numpy().astype(float)
    valid = warped[..., 3] > 0
    for share in (0.0, 0.5, 1.0):
        tab.run(
            f"(slider => {{ slider.value = {share}; slider.dispatchEvent(new Event('input', {{ bubbles: true }})) }})"
            "(document.getElementById('morph'))"
        )
        shown = canvas(tab, "source", "base")
        expected = (1 - share) * source + share * warped[..., :3]
        assert np.abs(shown[..., :3] - expected)[valid].mean() < 3
        assert np.percentile(np.abs(shown[..., :3] - expected)[valid], 99) < 16
        assert (np.abs(shown[..., 3] - 255 * np.where(valid, 1, 1 - share)) <= 1).all()


def test_overlays_equal_the_library_s_pictures(tab: Tab, matches: dict[str, Correspondence]) -> None:
    tab.press("c")
    for role, match in matches.items():
        expected = np.asarray(confidence_picture(match.confidence.numpy())).astype(int)
        assert np.abs(canvas(tab, role, "colours")[..., :3] - expected).max() <= 3
    tab.press("f")
    longest = max(float(match.flow.norm(dim=0)[match.valid].max()) for match in matches.values())
    assert f"{round(longest)} pixels" in text(tab, "#high")
    for role, match in matches.items():
        within = (match.flow.norm(dim=0) < longest - 0.01).numpy()
        expected = colour_flow(match.flow.numpy(), longest).astype(int)
        # All but flows straight to the left, where the wheel's ends, which are not quite of one colour, meet.
        off = np.abs(canvas(tab, role, "colours")[..., :3] - expected)[within].max(axis=1)
        assert (off <= 3).mean() > 0.99
        assert off.max() < 50
    tab.press("n")
    assert not canvas(tab, "source", "colours").any()
    tab.press("v")
    assert tab.run("getComputedStyle(document.querySelector('#source .hatch')).visibility") == "visible"
    mask = tab.run(
        "(async () => { const image = new Image();"
        "image.src = document.querySelector('#target .hatch').style.maskImage.slice(5, -2); await image.decode();"
        "const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext('2d');"
        "context.drawImage(image, 0, 0);"
        "return Array.from(context.getImageData(0, 0, image.width, image.height).data) })()"
    )
    assert (np.array(mask).reshape(*SIZES["target"], 4)[..., 3] == np.where(matches["target"].valid, 0, 255)).all()


def test_theme_follows_the_system_until_chosen(browser: Tab, page: Path) -> None:
    def paper() -> str:
        return str(browser.run("getComputedStyle(document.body).backgroundColor"))

    browser.open(page, theme="dark")
    dark = paper()
    browser.press("t")
    light = paper()
    browser.open(page, theme="light")
    assert paper() == light != dark
    browser.run("document.getElementById('theme').click()")
    assert paper() == dark


def test_page_shows_names_and_loads_nothing(tab: Tab) -> None:
    assert text(tab, "#source .name") == HOSTILE
    assert tab.run("document.querySelectorAll('img, iframe').length") == 0
    requests = [
        each["params"]["request"]["url"] for each in tab.events if each["method"] == "Network.requestWillBeSent"
    ]
    assert requests
    assert all(url.startswith(PAGE_LOADS) for url in requests)
    errors = [each["params"]["entry"] for each in tab.events if each["method"] == "Log.entryAdded"]
    assert [entry for entry in errors if entry["level"] == "error"] == []
    assert [each for each in tab.events if each["method"] == "Runtime.exceptionThrown"] == []


def test_controls_have_names_and_are_reached_by_tab(tab: Tab) -> None:
    tree = tab("Accessibility.getFullAXTree")["nodes"]
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
    named = {
        role: [name for each, name in nodes if each == role] for role in ("application", "radio", "slider", "checkbox")
    }
    assert named["application"] == [f"The source {HOSTILE}, 97 by 61 pixels", "The target b.png, 50 by 120 pixels"]
    assert named["radio"] == ["Similarity", "Confidence", "Flow", "None"]
    assert all(named["slider"] + named["checkbox"])
    reached = []
    for _ in range(8):
        tab.press("Tab")
        reached.append(tab.run("document.activeElement.id || document.activeElement.closest('figure, fieldset')?.id"))
        outline = tab.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or tab.run("document.activeElement.type") == "radio"
    assert {"theme", "source", "target", "hatched", "morph"} <= set(reached)
