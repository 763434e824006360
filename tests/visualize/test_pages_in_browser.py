"""Every page in a browser, as a person sees it: pictures show, the console is empty, nothing overflows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.annotations import AnnotatedImage, Annotations, Category, Instance, Keypoints, Target
from geomatch.batch.gallery import Gallery
from geomatch.io.images import InputImage
from geomatch.options import AnnotationFormat, AnnotationKind, Existing
from geomatch.runtime.shard import Shard
from geomatch.training.monitoring.plot import training_page
from geomatch.transfer.reference import Reference
from geomatch.transfer.review import open_review
from geomatch.visualize.colours import keypoint_colours
from geomatch.visualize.pair_view.page import view_page
from tests.browser import Tab, find_browser, open_tab
from tests.conftest import random_features
from tests.evaluation.test_report import EVALUATION, OTHER, picture
from tests.evaluation.test_report import page as report
from tests.training.test_plot import LOG
from tests.visualize.test_pair_view import HOSTILE, random_match

HOSTILE_STEMS = (
    "plain",
    "a#b",
    "who?",
    "100%",
    "50%25",
    "two words",
    "<b>&amp;",
    '"quoted"',
    "two\nlines",
    "猫",
    "a\\b",
)
"""Names that mean something else in a URL or in markup, or that are drawn on more than one line."""
POINTS = ("left <ear>", "right ear", "nose")


def marked(name: str) -> AnnotatedImage:
    points = Keypoints(POINTS, np.array([[10.0, 10], [30, 10], [20, 30]]), np.array([2, 2, 1]), np.ones(3))
    return AnnotatedImage(name, (48, 64), [Instance("cat", 1, points, confidence=0.5)])


def write_review(folder: Path) -> Path:
    pixels = torch.full((3, 48, 64), 120, dtype=torch.uint8)
    known = marked("reference.jpg")
    reference = Reference(
        InputImage(Path("reference.jpg"), pixels, "0"),
        "1",
        AnnotationKind.keypoints,
        Annotations(known.instances, AnnotationFormat.coco, [Category(1, "cat", POINTS)]),
    )
    targets = [Target(Path(f"{stem}.jpg"), number, stem) for number, stem in enumerate(HOSTILE_STEMS)]
    review = open_review(folder, reference, Shard(), Existing.refused)
    for target in targets:
        review.add(target, pixels, marked(f"{target.stem}.jpg"))
    review.close()
    return folder / "index.html"


def write_view(folder: Path) -> Path:
    sizes = [(61, 97), (120, 50)]
    images = [torch.full((3, *size), 120, dtype=torch.uint8) for size in sizes]
    features = [random_features(6, 8), random_features(6, 8, seed=1)]
    matches = [random_match(sizes[0], sizes[1], 0), random_match(sizes[1], sizes[0], 1)]
    return write(folder, view_page([HOSTILE, "b.png"], images, features, matches, ["a fact"]))


def write_report(folder: Path) -> Path:
    return write(folder, report(EVALUATION, OTHER, pictures=[[picture()], [picture(source=HOSTILE)]]))


def write_plot(folder: Path) -> Path:
    return write(folder, training_page({HOSTILE: LOG}))


def write_gallery(folder: Path) -> Path:
    """A pair of each name, of rising confidence, and one that failed."""
    gallery = Gallery(folder / "index.html")
    for place, stem in enumerate(HOSTILE_STEMS):
        pair = folder / "out" / stem
        pair.mkdir(parents=True)
        Image.new("RGB", (640, 160), (90, 120, 200)).save(pair / "overview.png")
        gallery.enter(
            {
                **{side: {"path": f"{stem}.jpg"} for side in ("source", "target")},
                **{name: name for name in ("features", "matcher", "preset")},
                "output": str(pair),
                "files": {"overview.png": ""},
                "mean_confidence": 0.05 * place,
                "valid_share": 1 - 0.05 * place,
            }
        )
    gallery.enter({"source": HOSTILE, "target": "b.png", "error": f"{HOSTILE}: damaged"})
    assert list(gallery.following([])) == []
    return gallery.file


def write(folder: Path, page: str) -> Path:
    folder.mkdir()
    file = folder / "index.html"
    file.write_text(page)
    return file


PAGES: dict[str, Callable[[Path], Path]] = {
    "review": write_review,
    "view": write_view,
    "report": write_report,
    "plot": write_plot,
    "gallery": write_gallery,
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed; CHROMIUM may name one")
    with open_tab(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {name: make(folder / name) for name, make in PAGES.items()}


@pytest.fixture(scope="module")
def server(pages: dict[str, Path]) -> Iterator[str]:
    """The address of the folder of all pages, served as a web server does."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    folder = pages["review"].parent.parent
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()


def pictures(tab: Tab) -> list[list[object]]:
    """The address and the width of each picture on the page, after it was scrolled to: 0 if it does not show."""
    found = tab.run(
        "(async () => { const all = [...document.images];"
        " for (const each of all) { each.loading = 'eager'; each.scrollIntoView(); }"
        " await Promise.all(all.map(each => each.decode().catch(() => {})));"
        " return all.map(each => [each.src.slice(0, 200), each.naturalWidth]); })()"
    )
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("served", [False, True], ids=["file", "server"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_page_shows_all_it_has(
    name: str, width: int, served: bool, browser: Tab, pages: dict[str, Path], server: str
) -> None:
    browser.events.clear()
    browser.visit(f"{server}/{name}/index.html" if served else pages[name].as_uri(), width=width)
    shown = pictures(browser)
    assert [address for address, natural_width in shown if not natural_width] == []
    assert browser.complaints() == []
    assert browser.run("document.documentElement.scrollWidth - innerWidth") <= 0
    assert browser.run("document.body.innerText.trim().length") > 10
    if name == "review":
        assert len(shown) == len(HOSTILE_STEMS) + 2  # the reference, and the first of them once more, large
    if name == "report":
        assert len(shown) == 2
    if name == "gallery":
        assert len(shown) == len(HOSTILE_STEMS)


def test_complaints_hold_what_a_page_may_not_load(browser: Tab, tmp_path: Path) -> None:
    """The check can fail: a page whose policy forbids its picture shows none, and the console says so."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    policy = '<meta http-equiv=Content-Security-Policy content="img-src data:">'
    browser.events.clear()
    browser.visit(write(tmp_path / "page", f"{policy}<img src=../a.png>").as_uri())
    assert [width for _, width in pictures(browser)] == [0]
    assert "Content Security Policy" in browser.complaints()[0]


def test_gallery_is_sorted_and_searched(browser: Tab, pages: dict[str, Path]) -> None:
    browser.visit(pages["gallery"].as_uri())
    places = "[...document.querySelectorAll('article:not([hidden])')].map(each => +each.dataset.place)"
    choose = "document.getElementById('order').value = '{}'; document.getElementById('order').dispatchEvent"
    last = len(HOSTILE_STEMS)
    expected = {"doubtful": [last, *range(last)], "listed": [*range(last + 1)], "valid": [*range(last + 1)]}
    assert browser.run(places) == [*reversed(range(last)), last]
    for order, found in expected.items():
        browser.run(f"{choose.format(order)}(new Event('change'))")
        assert browser.run(places) == found, order
    browser.run(f"{choose.format('confident')}(new Event('change'))")
    assert browser.run(places) == [*reversed(range(last)), last]
    find = "document.getElementById('find').value = '{}'; document.getElementById('find').dispatchEvent"
    browser.run(f"{find.format('TWO WORDS')}(new Event('input'))")
    assert browser.run(places) == [HOSTILE_STEMS.index("two words")]
    assert browser.run("document.getElementById('count').value") == f"1 of {last + 1} pairs"


def test_gallery_loads_pictures_only_when_they_come_into_view(browser: Tab, pages: dict[str, Path]) -> None:
    """Places are kept free for all, so that those far below are not yet asked for."""
    folder = pages["gallery"].parent
    gallery = Gallery(folder / "many.html")
    for place in range(150):
        gallery.enter(
            {
                **{side: {"path": f"{place}.jpg"} for side in ("source", "target")},
                **{name: name for name in ("features", "matcher", "preset")},
                "output": str(folder / "out" / "plain"),
                "files": {"overview.png": ""},
                "mean_confidence": 0.5,
                "valid_share": 0.5,
            }
        )
    list(gallery.following([]))
    browser.visit(gallery.file.as_uri())
    height = browser.run("document.documentElement.scrollHeight")
    loaded = "[...document.images].filter(each => each.complete && each.naturalWidth).length"
    assert 0 < browser.run(loaded) < 150
    browser.run("scrollTo(0, document.documentElement.scrollHeight)")
    browser.settle()
    assert browser.run("document.documentElement.scrollHeight") == height


def test_review_names_points_by_their_colours(browser: Tab, pages: dict[str, Path]) -> None:
    browser.visit(pages["review"].as_uri())
    entries = browser.run(
        "[...document.querySelectorAll('#items button')].map(each =>"
        " [each.querySelector('.title').innerText, getComputedStyle(each.querySelector('.swatch')).color])"
    )
    drawn = keypoint_colours(len(POINTS))
    assert entries == [[name, "rgb({}, {}, {})".format(*colour)] for name, colour in zip(POINTS, drawn, strict=True)]
