"""Whatever stands in an annotation file, it is understood or refused in one sentence."""

import copy
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomatch.annotations import AnnotatedImage
from geomatch.errors import InputError
from geomatch.io.annotations.files import read_annotations
from geomatch.io.annotations.records import annotation_record
from geomatch.io.json_text import json_text
from geomatch.options import AnnotationKind
from tests.io.test_annotation_exports import CVAT, studio, studio_min, via_1, via_2, via_3

pytestmark = pytest.mark.filterwarnings("ignore::geomatch.errors.GeomatchWarning")

SQUARE = [[5.0, 2.0], [9.0, 2.0], [9.0, 5.0], [5.0, 5.0]]
COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "ref.jpg", "width": 30, "height": 20}],
    "categories": [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "keypoints": [4, 5, 2, 6, 7, 1], "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": 7, "category_id": 3, "segmentation": [[5, 2, 9, 2, 9, 5, 5, 5]]},
        {"id": 3, "image_id": 7, "category_id": 3, "segmentation": {"size": [20, 30], "counts": [10, 5, 585]}},
        {"id": 4, "image_id": 7, "category_id": 3, "segmentation": {"size": [20, 30], "counts": "V33a000000R="}},
    ],
}
LABELME: dict[str, Any] = {
    "imagePath": "ref.jpg",
    "imageHeight": 20,
    "imageWidth": 30,
    "shapes": [
        {"label": "nose", "shape_type": "point", "points": [[4, 5]], "group_id": None},
        {"label": "cat", "shape_type": "polygon", "points": SQUARE, "group_id": 1},
        {"label": "cat", "shape_type": "mask", "points": [[5, 2], [8, 4]], "mask": "iVBORw0KGgo="},
        {"label": "cat", "shape_type": "rectangle", "points": [[5, 2], [8, 4]]},
    ],
}
DOCUMENTS: list[Any] = [COCO, LABELME, COCO["annotations"], via_1(), via_2(), via_3(), studio(), studio_min()]
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([2, 7, 20, 30, "cat"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "size", "counts"]), inner),
    max_leaves=6,
)


def places(document: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else []
    return [place for key in keys for place in [(*here, key), *places(document[key], (*here, key))]]


def replaced(document: Any, place: tuple[Any, ...], value: object) -> Any:
    changed = copy.deepcopy(document)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


def understood_or_refused(path: Path, kind: AnnotationKind) -> None:
    said = ""
    try:
        found = read_annotations(path, kind, Path("ref.jpg"), (20, 30))
    except InputError as error:
        said = str(error)
    if said:
        assert len(said.splitlines()) == 1
        return
    assert found.instances
    json.loads(json_text(annotation_record(AnnotatedImage("ref.jpg", (20, 30), found.instances))))


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(DOCUMENTS).flatmap(
        lambda document: st.tuples(st.just(document), st.sampled_from(places(document)))
    ),
    junk,
    st.sampled_from(AnnotationKind),
)
def test_junk_anywhere_in_a_document(where: tuple[Any, tuple[Any, ...]], value: object, kind: AnnotationKind) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "marked.json"
        path.write_text(json.dumps(replaced(*where, value)))
        understood_or_refused(path, kind)


@settings(deadline=None, max_examples=200)
@given(
    st.text(max_size=80)
    | st.lists(st.sampled_from(["x", "y", ",", "\t", "\n", '"', "1", "left", "e9", "-", "name"])).map("".join)
)
def test_any_text_as_a_table(text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "marked.csv"
        path.write_bytes(text.encode())
        for kind in (AnnotationKind.keypoints, AnnotationKind.boxes):
            understood_or_refused(path, kind)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(range(len(CVAT))), st.text(max_size=3), st.integers(0, 12))
def test_any_text_within_xml(start: int, text: str, dropped: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "marked.xml"
        path.write_bytes((CVAT[:start] + text + CVAT[start + dropped :]).encode())
        for kind in AnnotationKind:
            understood_or_refused(path, kind)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), st.sampled_from(["marked.json", "marked.png", "marked.csv"]))
def test_any_bytes_as_a_file(content: bytes, name: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        for kind in AnnotationKind:
            understood_or_refused(path, kind)


def test_fuzzed_documents_are_valid_themselves() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "marked.json"
        path.write_text(json.dumps(COCO))
        counts = [len(read_annotations(path, kind, Path("ref.jpg"), (20, 30)).instances) for kind in AnnotationKind]
        assert counts == [1, 3, 4]
        path.write_text(json.dumps(LABELME))
        with pytest.raises(InputError, match="not a PNG"):
            read_annotations(path, AnnotationKind.masks, Path("ref.jpg"), (20, 30), strict=True)
