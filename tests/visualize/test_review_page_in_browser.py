"""The review page as a person uses it in a browser: dragging, keys, saving, and coming back to it."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.annotations import AnnotatedImage, Annotations, Category, Instance, Keypoints, Region, Target
from geomatch.io.annotations.files import read_annotations
from geomatch.io.annotations.labelme import encode_labelme
from geomatch.io.annotations.records import annotation_record
from geomatch.io.annotations.writers.coco import CocoDocument
from geomatch.io.images import InputImage
from geomatch.options import AnnotationFormat, AnnotationKind, Existing, MaskEncoding
from geomatch.runtime.shard import Shard
from geomatch.transfer.reference import Reference
from geomatch.transfer.review import Review, open_review
from geomatch.visualize.review_page.page import review_entry, review_page, review_reference
from tests.browser import Tab, find_browser, open_tab

SIZE = (48, 64)
NAMES = ("left <ear>", "right ear", "nose")
CATEGORY = Category(7, "cat", NAMES, ((1, 2), (2, 3)))
NO_PICKERS = "window.showSaveFilePicker = window.showDirectoryPicker = undefined"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed; CHROMIUM may name one")
    with open_tab(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def keypoints(number: int, seen: Sequence[int] = (2, 1, 0)) -> Instance:
    """Points whose confidence rises with the number of the image; the nose is not found."""
    points = np.array([[10.25, 10], [30, 10 + number], [0, 0]])
    confidence = np.array([0.3, 0.2, 0]) + 0.1 * number
    shape = Keypoints(NAMES, points, np.array(seen), confidence * (np.array(seen) > 0))
    return Instance("cat", 1, shape, confidence=round(0.25 + 0.1 * number, 4))


def box(number: int) -> Instance:
    return Instance("cat", 1, (9.5, 8.25, 29.5, 28.0), confidence=round(0.2 + 0.1 * number, 4))


def mask(number: int) -> Instance:
    inside = np.zeros(SIZE, bool)
    inside[10:30, 10 : 30 + number] = inside[35:40, 5:15] = True
    return Instance("cat", 1, Region(inside, MaskEncoding.packed_runs), confidence=round(0.2 + 0.1 * number, 4))


KINDS = {AnnotationKind.keypoints: keypoints, AnnotationKind.boxes: box, AnnotationKind.masks: mask}
COUNT = 3


def found_on(kind: AnnotationKind) -> list[AnnotatedImage]:
    """Images in the order of the list, the least confident last."""
    return [AnnotatedImage(f"photos/{k}.png", SIZE, [KINDS[kind](COUNT - 1 - k)]) for k in range(COUNT)]


def marks_of(kind: AnnotationKind) -> Annotations:
    one = keypoints(0, (2, 2, 2)) if kind is AnnotationKind.keypoints else KINDS[kind](0)
    return Annotations([replace(one, confidence=None)], AnnotationFormat.coco, [CATEGORY])


def write_page(folder: Path, kind: AnnotationKind, images: Sequence[AnnotatedImage]) -> Path:
    pixels = torch.full((3, *SIZE), 120, dtype=torch.uint8)
    reference = Reference(InputImage(Path("reference.jpg"), pixels, "0"), "1", kind, marks_of(kind))
    review = open_review(folder, reference, Shard(), Existing.refused)
    for number, image in enumerate(images):
        review.add(Target(Path(image.name), number, Path(image.name).stem), pixels, image)
    review.close()
    return folder / "index.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[AnnotationKind, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {kind: write_page(folder / kind, kind, found_on(kind)) for kind in KINDS}


class Editor:
    """A page as it is first opened, with nothing stored."""

    def __init__(self, tab: Tab, page: Path, downloads: Path) -> None:
        self.tab, self.page, self.downloads = tab, page, downloads
        tab("Page.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        tab.visit(page.as_uri())
        tab.run("localStorage.clear()")
        self.reload()

    def reload(self) -> None:
        self.tab.events.clear()
        self.tab.visit("about:blank")
        self.tab.visit(self.page.as_uri())

    def window(self, x: float, y: float) -> tuple[float, float]:
        """Where a position of the image (pixel centres at integers) is in the window."""
        left, top, width, height = self.tab.run(
            "(({left, top, width, height}) => [left, top, width, height])"
            "(document.querySelector('#sheet').getBoundingClientRect())"
        )
        return left + (x + 0.5) * width / SIZE[1], top + (y + 0.5) * height / SIZE[0]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one position of the image to another, by way of a third."""
        places = [self.window(*each) for each in (start, start, (32, 24), end, end)]
        kinds = ("mouseMoved", "mousePressed", "mouseMoved", "mouseMoved", "mouseReleased")
        for held, (kind, (x, y)) in enumerate(zip(kinds, places, strict=True)):
            state = {"button": "left", "buttons": 1, "clickCount": 1} if held else {}
            self.tab("Input.dispatchMouseEvent", type=kind, x=x, y=y, **state)
            self.tab.settle()

    def click(self, selector: str) -> None:
        x, y = self.tab.run(
            f"(({{left, top, width, height}}) => [left + width / 2, top + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        self.tab.mouse("mousePressed", x, y)
        self.tab.mouse("mouseReleased", x, y)

    def text(self, selector: str) -> str:
        return str(self.tab.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def download(self, button: str, name: str) -> bytes:
        """What a browser without the File System Access API downloads."""
        self.tab.run(NO_PICKERS)
        file = self.downloads / name
        file.unlink(missing_ok=True)
        self.click(button)
        for _ in range(200):
            if file.exists() and file.stat().st_size:
                return file.read_bytes()
            time.sleep(0.02)
        raise AssertionError(self.text("#status"))

    def coco(self) -> dict[str, Any]:
        return dict(json.loads(self.download("#save-coco", "corrected.json")))


@pytest.fixture
def editor(request: pytest.FixtureRequest, browser: Tab, pages: dict[AnnotationKind, Path], tmp_path: Path) -> Editor:
    return Editor(browser, pages[getattr(request, "param", AnnotationKind.keypoints)], tmp_path)


each_kind = pytest.mark.parametrize("editor", KINDS, indirect=True)
on_boxes = pytest.mark.parametrize("editor", [AnnotationKind.boxes], indirect=True)
on_masks = pytest.mark.parametrize("editor", [AnnotationKind.masks], indirect=True)


@each_kind
def test_untouched_page_saves_what_the_command_writes(editor: Editor) -> None:
    kind = AnnotationKind(editor.page.parent.name)
    images = found_on(kind)
    document = CocoDocument(marks_of(kind))
    for number, image in enumerate(images):
        document.add(number, image)
    written, saved = json.loads(document.content()), editor.coco()
    assert saved["categories"] == written["categories"]
    assert saved["annotations"] == written["annotations"]
    assert saved["images"] == [each | {"accepted": False} for each in written["images"]]
    files = zipfile.ZipFile(io.BytesIO(editor.download("#save-labelme", "corrected.zip")))
    assert files.testzip() is None
    for image in images:
        folder = Path("photos")
        expected = json.loads(encode_labelme(image, folder)) | {"flags": {"accepted": False}}
        assert json.loads(files.read(f"{Path(image.name).stem}.json")) == expected
    assert editor.tab.complaints() == []


def test_dragged_point_is_saved_where_it_was_dropped(editor: Editor, tmp_path: Path) -> None:
    """To a hundredth of a pixel, also where it is gripped beside its middle; and it is read again as it was saved."""
    editor.drag((10.25 + 0.4, 10 - 0.3), (50.5 + 0.4, 40.75 - 0.3))
    saved = editor.coco()
    moved = saved["annotations"][COUNT - 1]  # the least sure is shown first, and is the last of the list
    np.testing.assert_allclose(moved["keypoints"][:2], [50.5, 40.75], atol=0.02)
    assert moved["keypoints"][2:] == [2, 30, 10, 1, 0, 0, 0]
    assert moved["keypoint_scores"] == [1, 0.2, 0]
    (tmp_path / "again.json").write_text(json.dumps(saved))
    (again,) = read_annotations(tmp_path / "again.json", AnnotationKind.keypoints, Path("photos/2.png"), SIZE).instances
    assert isinstance(again.shape, Keypoints)
    assert again.shape.names == NAMES
    np.testing.assert_allclose(again.shape.points[0], [50.5, 40.75], atol=0.02)


def test_point_dragged_beyond_the_border_stays_on_the_image(editor: Editor) -> None:
    editor.drag((10.25, 10), (80, -20))
    assert editor.coco()["annotations"][COUNT - 1]["keypoints"][:3] == [63.5, -0.5, 2]


def test_zoomed_page_keeps_the_frame_of_the_image(editor: Editor) -> None:
    editor.tab.press("+")
    editor.drag((20, 20), (32, 24))  # moves the picture
    before = editor.window(30, 10)
    editor.drag((30, 10), (40, 30))
    assert editor.window(30, 10) == before
    np.testing.assert_allclose(editor.coco()["annotations"][COUNT - 1]["keypoints"][3:5], [40, 30], atol=0.02)


def test_missing_point_is_placed_by_a_click(editor: Editor) -> None:
    editor.click("#items li:nth-child(3) button")
    assert editor.text("#hint") == "Click where “nose” is"
    place = editor.window(20, 30)
    editor.tab.mouse("mousePressed", *place)
    editor.tab.mouse("mouseReleased", *place)
    saved = editor.coco()["annotations"][COUNT - 1]
    np.testing.assert_allclose(saved["keypoints"][6:8], [20, 30], atol=0.02)
    assert (saved["keypoints"][8], saved["num_keypoints"]) == (2, 3)


def test_keys_do_all_that_the_mouse_does(editor: Editor) -> None:
    press = editor.tab.press
    assert editor.text("#place") == f"1 of {COUNT}"
    press("n")
    press("ArrowRight")
    assert editor.text("#place") == f"3 of {COUNT}"
    press("p")
    press("ArrowLeft")
    editor.tab.run("document.querySelector('#sheet .point').focus()")
    press("ArrowRight")
    press("ArrowDown", shift=True)
    press("v")
    editor.tab.run("document.querySelectorAll('#sheet .point')[1].focus()")
    press("h")
    assert editor.coco()["annotations"][COUNT - 1]["keypoints"] == [11.25, 20, 1, 0, 0, 0, 0, 0, 0]
    press("h")
    for _ in range(3):  # showing and hiding it, and calling the other a guess
        press("z")
    assert editor.coco()["annotations"][COUNT - 1]["keypoints"] == [11.25, 20, 2, 30, 10, 1, 0, 0, 0]
    press("r")
    assert editor.coco()["annotations"][COUNT - 1]["keypoints"] == [10.25, 10, 2, 30, 10, 1, 0, 0, 0]


def test_accept_goes_on_and_undo_comes_back(editor: Editor) -> None:
    editor.tab.press("a")
    editor.tab.press("Enter")
    assert (editor.text("#place"), editor.text("#count")) == (f"3 of {COUNT}", f"2 of {COUNT} accepted")
    editor.tab.press("z")
    assert (editor.text("#place"), editor.text("#count")) == (f"2 of {COUNT}", f"1 of {COUNT} accepted")
    editor.click("#accepted-only")
    saved = editor.coco()
    assert [(image["file_name"], image["accepted"]) for image in saved["images"]] == [("photos/2.png", True)]
    assert saved["annotations"][0]["keypoint_scores"] == [1, 1, 0]


def test_reload_brings_corrections_back(editor: Editor) -> None:
    editor.drag((30, 10), (40, 30))
    editor.tab.press("a")
    before = editor.coco()
    editor.reload()
    assert editor.text("#place") == f"2 of {COUNT}"  # the first that is not accepted
    assert editor.coco() == before


def test_page_without_storage_says_so_and_saves(editor: Editor) -> None:
    editor.tab.run(
        "[Storage.prototype.setItem, window.stored] = [() => { throw new Error('full') }, Storage.prototype.setItem]"
    )
    editor.drag((30, 10), (40, 30))
    assert "does not keep corrections" in editor.text("#status")
    np.testing.assert_allclose(editor.coco()["annotations"][COUNT - 1]["keypoints"][3:5], [40, 30], atol=0.02)
    editor.tab.run("Storage.prototype.setItem = stored")
    editor.tab.press("z")  # is stored, or leaving the page would ask whether to


@on_boxes
def test_box_is_moved_and_resized(editor: Editor) -> None:
    editor.drag((15, 20), (35, 30))
    np.testing.assert_allclose(editor.coco()["annotations"][COUNT - 1]["bbox"], [30, 18.75, 20, 19.75], atol=0.02)
    editor.drag((49.5, 38), (59.5, 43))
    saved = editor.coco()["annotations"][COUNT - 1]
    np.testing.assert_allclose(saved["bbox"], [30, 18.75, 30, 24.75], atol=0.02)
    editor.drag((29.5, 30), (19.5, 34))  # the left edge alone
    np.testing.assert_allclose(editor.coco()["annotations"][COUNT - 1]["bbox"], [20, 18.75, 40, 24.75], atol=0.02)
    assert (saved["category_id"], saved["score"]) == (7, 1)
    editor.tab.run("document.querySelector('.handle.right.bottom').focus()")
    editor.tab.press("ArrowLeft", shift=True)
    np.testing.assert_allclose(editor.coco()["annotations"][COUNT - 1]["bbox"], [20, 18.75, 30, 24.75], atol=0.02)


@on_boxes
def test_hidden_box_is_drawn_again(editor: Editor) -> None:
    editor.click("#items button")
    editor.tab.press("h")
    assert [each["image_id"] for each in editor.coco()["annotations"]] == [1, 2]
    editor.drag((50, 40), (20.5, 10.5))
    np.testing.assert_allclose(editor.coco()["annotations"][COUNT - 1]["bbox"], [21, 11, 29.5, 29.5], atol=0.02)


@on_masks
def test_mask_is_hidden_and_shown_again(editor: Editor) -> None:
    place = editor.window(20, 20)
    editor.tab.mouse("mousePressed", *place)
    editor.tab.mouse("mouseReleased", *place)
    editor.tab.press("h")
    hidden = editor.coco()
    assert [each["image_id"] for each in hidden["annotations"]] == [1, 2]
    assert len(hidden["images"]) == COUNT
    editor.tab.press("h")
    assert len(editor.coco()["annotations"]) == COUNT


def test_file_system_access_writes_where_one_chooses(editor: Editor) -> None:
    editor.tab.run(
        "(() => { window.written = {};"
        " const file = (name) => ({ name, createWritable: async () =>"
        " ({ write: async (text) => { written[name] = text }, close: async () => {} }) });"
        " window.showSaveFilePicker = async ({ suggestedName }) => file(suggestedName);"
        " window.showDirectoryPicker = async () => ({ name: 'mine', getFileHandle: async (name) => file(name) }); })()"
    )
    editor.click("#save-coco")
    editor.click("#save-labelme")
    written = editor.tab.run("written")
    assert sorted(written) == ["0.json", "1.json", "2.json", "corrected.json"]
    assert len(json.loads(written["corrected.json"])["annotations"]) == COUNT
    assert json.loads(written["0.json"])["imagePath"] == "0.png"
    assert "mine" in editor.text("#status")


def test_page_shows_the_reference_of_each_image(browser: Tab, tmp_path: Path) -> None:
    """Of many references, the one that the image was found from; also where the run went on after a stop."""
    pixels = torch.full((3, *SIZE), 120, dtype=torch.uint8)
    others = [AnnotatedImage(str(tmp_path / f"{name}.png"), SIZE, [keypoints(1)]) for name in ("one", "two")]
    for other in others:
        Image.new("RGB", SIZE[::-1]).save(other.name)
    nothing = keypoints(0, (0, 0, 0))
    marks = Annotations([nothing], AnnotationFormat.coco, [CATEGORY])
    common = (pixels[:, :1, :1], AnnotatedImage("", (1, 1), [nothing]))
    review = Review(tmp_path / "page", marks, AnnotationKind.keypoints, common, others=others)
    first, second, _ = found_on(AnnotationKind.keypoints)
    review.add(Target(Path(first.name), 0, "0"), pixels, first, others[0])
    picture = review.add(Target(Path(second.name), 1, "1"), pixels, second, others[0])
    record = annotation_record(second) | {"review": str(picture), "references": [others[1].name]}
    assert review.keep(Target(Path(second.name), 1, "1"), record)
    review.close()
    editor = Editor(browser, tmp_path / "page" / "index.html", tmp_path)
    assert editor.text("#reference-name") == others[1].name
    editor.tab.press("n")
    assert editor.text("#reference-name") == others[0].name
    assert editor.tab.run("document.querySelectorAll('#reference .point:not(.away)').length") == 2


def test_page_of_many_images_loads_few(browser: Tab, pages: dict[AnnotationKind, Path], tmp_path: Path) -> None:
    """All show the same photograph, each by a name of its own."""
    folder = pages[AnnotationKind.keypoints].parent
    marks, (image, *_) = marks_of(AnnotationKind.keypoints), found_on(AnnotationKind.keypoints)
    entries = []
    for number in range(200):
        places = {"number": number, "stem": f"{number}", "path": "0.png", "picture": "photographs/0.jpg"}
        entry = review_entry(
            annotation_record(replace(image, name=f"{number}.png")), marks, **places, reference="reference.jpg"
        )
        entries.append(entry | {"picture": f"{entry['picture']}?{number}"})
    reference = AnnotatedImage("reference.jpg", SIZE, marks.instances)
    beside = review_reference(torch.full((3, *SIZE), 120, dtype=torch.uint8), reference, marks)
    page = review_page({reference.name: beside}, marks, AnnotationKind.keypoints, entries)
    (folder / "many.html").write_text(page)
    editor = Editor(browser, folder / "many.html", tmp_path)
    loaded = editor.tab.run("[...document.images].filter(each => each.complete && each.naturalWidth).length")
    assert 3 <= loaded < 100
    assert editor.tab.run("document.querySelectorAll('#sheet img').length") == 1
    assert editor.text("#title") == "200 images to review"
    editor.tab.press("n")
    stops = editor.tab.run("[...document.querySelectorAll('#list button')].filter(each => each.tabIndex === 0).length")
    assert stops == 1  # Tab passes by the list
