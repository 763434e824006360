"""Files as people's tools write them: what can be used is read, and what cannot is left out and counted."""

import base64
import io
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geomatch.annotations import Keypoints, LabelColours, Region
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.annotations.files import read_annotations
from geomatch.io.annotations.label_image import LabelRules, check_labels
from geomatch.io.annotations.rle import pack_runs
from geomatch.io.names import meant_names, name_parts
from geomatch.options import AnnotationKind
from tests.io.test_annotations import (
    BOXES,
    CAT,
    KEYPOINTS,
    MASKS,
    RECTANGLE,
    REF,
    RUNS,
    SIZE,
    coco,
    label_image,
    labelme,
    mask,
    read,
    written,
)

POINTS = {"keypoints": [4, 5, 2, 7, 8, 1]}
SQUARE = [[5, 2], [9, 2], [9, 5], [5, 5]]


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": [{"id": 1, "image_id": "7", "category_id": 3.0, **POINTS}]},
        {"images": [{"id": 7.0, "file_name": "photos\\ref.jpg", "width": None, "height": "20"}]},
        {"categories": [{"id": 1, "name": "cat"}, {**CAT, "id": "3"}]},
        {"categories": [CAT, {"id": 4, "name": "cup", "keypoints": ["rim"], "skeleton": [[0, 9]]}]},
    ],
    ids=["ids", "image", "root category", "unused category"],
)
def test_coco_of_other_tools_is_read(change: dict[str, Any], tmp_path: Path) -> None:
    (instance,) = read(written(tmp_path, coco(POINTS) | change), KEYPOINTS).instances
    assert isinstance(instance.shape, Keypoints)
    assert (instance.label, instance.shape.names) == ("cat", ("nose", "tail"))
    assert instance.shape.points.tolist() == [[4, 5], [7, 8]]


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (KEYPOINTS, {"keypoints": [4, 5, 2, None, 8, 2]}),
        (AnnotationKind.boxes, {"bbox": [4, 5, 0, 0]}),
        (MASKS, {"segmentation": [[1.0, 2.0]]}),
        (MASKS, {"segmentation": {"size": [20, 30], "counts": [5]}}),
    ],
)
def test_coco_item_that_is_degenerate_costs_no_other(kind: AnnotationKind, bad: dict[str, Any], tmp_path: Path) -> None:
    good = {**POINTS, "bbox": [1, 2, 3, 4], "segmentation": [np.ravel(SQUARE).tolist()]}
    path = written(tmp_path, coco(good, {"bbox": []} | bad))
    with pytest.warns(GeomatchWarning, match="1 item left out: ") as said:
        found = read(path, kind)
    assert len(said) == 1
    assert [each.number for each in found.instances] == ([1, 2] if kind is KEYPOINTS else [1])
    with pytest.raises(InputError):
        read(path, kind, strict=True)


def test_labelme_shapes_of_other_versions_are_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((3, 4), bool)).save(buffer, "PNG")
    shapes = [
        {"label": "disc", "shape_type": "circle", "points": [[15, 10], [20, 10]]},
        {"label": "cat", "shape_type": None, "points": SQUARE, "group_id": 1.0},
        {
            "label": "dog",
            "shape_type": "mask",
            "points": [[5.0, 2.0], [8.0, 4.0]],
            "mask": base64.encodebytes(buffer.getvalue()).decode(),
        },
        {"label": "wire", "shape_type": "line", "points": [[1, 1], [9, 9]]},
    ]
    with pytest.warns(GeomatchWarning, match="passed over: 1 line"):
        found = read(written(tmp_path, labelme(*shapes)), MASKS)
    assert [each.label for each in found.instances] == ["disc", "cat", "dog"]
    areas = [each.shape.mask.sum() for each in found.instances if isinstance(each.shape, Region)]
    assert areas[0] == pytest.approx(np.pi * 25, rel=0.05)
    assert areas[1:] == [12, 12]


CORNERS = [[5, 2], [28, 2], [28, 18], [5, 18]]


@pytest.mark.parametrize(
    ("shape_type", "points"),
    [
        ("rectangle", [[28, 18], [5, 2]]),
        ("rectangle", [[5, 18], [28, 2]]),
        ("rectangle", CORNERS),
        ("oriented_rectangle", CORNERS),
        ("rotation", CORNERS),
        ("quadrilateral", CORNERS),
    ],
)
def test_labelme_rectangle_is_a_mask_where_no_shape_is_finer(
    shape_type: str, points: list[list[float]], tmp_path: Path
) -> None:
    framed = {"label": "box", "shape_type": shape_type, "points": points}
    point = {"label": "eye", "shape_type": "point", "points": [[9, 9]]}
    with pytest.warns(GeomatchWarning, match="passed over: 1 point$"):
        (found,) = read(written(tmp_path, labelme(framed, point)), MASKS).instances
    expected = np.zeros(SIZE, bool)
    expected[2:18, 5:28] = True
    assert (found.label, mask(found)) == ("box", expected.tolist())


def test_labelme_rectangle_beside_a_polygon_is_its_box(tmp_path: Path) -> None:
    framed = {"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [30, 20]]}
    outlined = {"label": "cat", "shape_type": "polygon", "points": SQUARE}
    with pytest.warns(GeomatchWarning, match="passed over: 1 rectangle"):
        (found,) = read(written(tmp_path, labelme(framed, outlined)), MASKS).instances
    assert np.sum(mask(found)) == 12


def test_labelme_label_twice_begins_another_instance(tmp_path: Path) -> None:
    eyes = [
        {"label": label, "shape_type": "point", "points": [[x, 3]]} for x, label in enumerate(["eye", "nose", "eye"])
    ]
    found = read(written(tmp_path, labelme(*eyes)), KEYPOINTS).instances
    assert [each.shape.names for each in found if isinstance(each.shape, Keypoints)] == [("eye", "nose"), ("eye",)]


def test_table_of_pandas_is_read_and_other_folders_are_counted(tmp_path: Path) -> None:
    rows = (
        "image,name,x,y,visibility\nphotos/ref.jpg,no\u2028se,4.0,5.0,2.0\n"
        "photos\\ref.jpg,tail,,,0.0\nb/ref.jpg,a,1,1,2\n"
    )
    with pytest.warns(GeomatchWarning, match=r"1 of an image ref\.jpg in another folder"):
        (instance,) = read(written(tmp_path, rows, "points.csv"), KEYPOINTS).instances
    assert isinstance(instance.shape, Keypoints)
    assert (instance.shape.names, instance.shape.visibility.tolist()) == (("no\u2028se", "tail"), [2, 0])
    assert read(written(tmp_path, rows.partition("b/")[0], "u.csv"), KEYPOINTS).instances
    (tmp_path / "utf16.csv").write_bytes(rows.partition("b/")[0].encode("utf-16"))
    assert read(tmp_path / "utf16.csv", KEYPOINTS).instances


def test_label_image_ignores_255_beside_small_labels(tmp_path: Path) -> None:
    values = np.zeros(SIZE, np.uint8)
    values[2:8, 2:8], values[8:10, 2:8] = 15, 255
    path = label_image(tmp_path, values)
    with pytest.warns(GeomatchWarning, match="--ignore-label 0"):
        assert [each.label for each in read(path, MASKS).instances] == ["15"]
    kept = read_annotations(path, MASKS, REF, SIZE, labels=LabelRules(ignore=0))
    assert [each.label for each in kept.instances] == ["15", "255"]


def png(values: np.ndarray, depth: int) -> bytes:
    """A grey PNG of a few bits a pixel, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_label_image_holds_labels_however_deep_it_is(tmp_path: Path) -> None:
    values = np.zeros(SIZE, np.int32)
    values[2:8, 2:8], values[8:10, 2:8] = 1, 3
    deep = values * 20_000
    images: dict[str, tuple[bytes | Image.Image, list[str]]] = {
        "2.png": (png(values, 2), ["1", "3"]),
        "4.png": (png(values, 4), ["1", "3"]),
        "16.png": (Image.fromarray(deep.astype(np.uint16)), ["20000", "60000"]),
        "big-endian.tif": (Image.fromarray(deep.astype(">u2")), ["20000", "60000"]),
        "32.tif": (Image.fromarray(values * 30_000), ["30000", "90000"]),
        "below.tif": (Image.fromarray(-values), ["-3", "-1"]),
        "float.tif": (Image.fromarray(values.astype(np.float32)), ["1", "3"]),
        "bool.png": (Image.fromarray(values > 0), ["1"]),
    }
    for name, (image, labels) in images.items():
        path = tmp_path / name
        path.write_bytes(image) if isinstance(image, bytes) else image.save(path)
        found = read(path, MASKS)
        assert [each.label for each in found.instances] == labels, name
        if name in ("32.tif", "below.tif"):
            with pytest.raises(InputError, match="a PNG cannot hold the label"):
                check_labels(tmp_path / "out", found)
        else:
            check_labels(tmp_path / "out", found)


def test_label_image_with_soft_edges_is_said(tmp_path: Path) -> None:
    values = np.zeros(SIZE, np.uint8)
    values[4:14, 4:24] = 255
    values[3, 4:24] = np.arange(20) * 12 + 10
    path = label_image(tmp_path, values)
    with pytest.warns(GeomatchWarning, match="--mask-threshold"):
        assert len(read(path, MASKS).instances) > 10
    (one,) = read_annotations(path, MASKS, REF, SIZE, labels=LabelRules(threshold=127)).instances
    assert isinstance(one.shape, Region)
    assert one.shape.mask.tolist() == (values > 127).tolist()


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize("categories", [None, [], {}, [{"id": 9, "name": "dog"}]])
def test_coco_category_that_is_not_described_is_called_by_its_number(categories: object, tmp_path: Path) -> None:
    document = coco(POINTS) | {"categories": categories}
    for given in (document, without(document, "categories")):
        with pytest.warns(GeomatchWarning, match="category 3 has no name"):
            found = read(written(tmp_path, given), KEYPOINTS)
        assert [each.label for each in found.instances] == ["3"]
        assert {each.name: each.keypoints for each in found.categories}["3"] == ("1", "2")


def test_coco_annotation_without_category_is_an_object(tmp_path: Path) -> None:
    document = without(coco(), "categories") | {"annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]}
    assert [each.label for each in read(written(tmp_path, document), BOXES).instances] == ["object"]


def test_coco_lists_may_be_objects_by_identifier(tmp_path: Path) -> None:
    document = {
        "images": {"7": {"file_name": "ref.jpg"}},
        "categories": {"3": "cat"},
        "annotations": {"1": {"image_id": 7, "category_id": 3, **POINTS}},
    }
    assert [each.label for each in read(written(tmp_path, document), KEYPOINTS).instances] == ["cat"]


@pytest.mark.parametrize(
    "values",
    [
        [[4, 5, 2], [7, 8, 2]],
        [4, 5, True, 7, 8, "true"],
    ],
)
def test_coco_keypoints_in_other_forms_are_seen(values: list[Any], tmp_path: Path) -> None:
    (instance,) = read(written(tmp_path, coco({"keypoints": values})), KEYPOINTS).instances
    assert isinstance(instance.shape, Keypoints)
    assert instance.shape.points.tolist() == [[4, 5], [7, 8]]
    assert instance.shape.visibility.tolist() == [2, 2]


def test_coco_boxes_and_masks_imply_each_other(tmp_path: Path) -> None:
    outlined, framed = {"segmentation": [np.ravel(SQUARE).tolist()]}, {"bbox": [5, 2, 4, 3]}
    with pytest.warns(GeomatchWarning, match="are those of their masks"):
        (found,) = read(written(tmp_path, coco(outlined)), BOXES).instances
    assert found.shape == (4.5, 1.5, 8.5, 4.5)
    with pytest.warns(GeomatchWarning, match="boxes are read as masks"):
        (found,) = read(written(tmp_path, coco(framed)), MASKS).instances
    assert np.argwhere(mask(found)).tolist() == np.argwhere(RECTANGLE).tolist()
    with pytest.warns(GeomatchWarning, match="passed over: 1 without segmentation"):
        assert len(read(written(tmp_path, coco(outlined, framed)), MASKS).instances) == 1
    with pytest.raises(InputError, match="what it marks is read with --mask or --boxes"):
        read(written(tmp_path, coco(outlined)), KEYPOINTS)


def test_coco_confidences_in_the_place_of_visibilities(tmp_path: Path) -> None:
    with pytest.warns(GeomatchWarning, match="fractions are taken for confidences"):
        (instance,) = read(written(tmp_path, coco({"keypoints": [4, 5, 0.93, 7, 8, 0]})), KEYPOINTS).instances
    assert isinstance(instance.shape, Keypoints)
    assert instance.shape.visibility.tolist() == [2, 0]


def test_coco_triples_that_are_too_few_are_not_taken_for_pairs(tmp_path: Path) -> None:
    category = CAT | {"keypoints": ["nose", "tail", "ear"]}
    short = coco({"keypoints": [4, 5, 2, 7, 8, 1]}) | {"categories": [category]}
    with pytest.raises(InputError, match="has 2 keypoints, its category 'cat' has 3"):
        read(written(tmp_path, short), KEYPOINTS)
    for numbers in ([4, 5, 7, 8, 9, 1], [[4, 5], [7, 8], [9, 1]]):
        pairs = coco({"keypoints": numbers}) | {"categories": [category]}
        with pytest.warns(GeomatchWarning, match="are pairs x, y; all are seen"):
            (found,) = read(written(tmp_path, pairs), KEYPOINTS).instances
        assert isinstance(found.shape, Keypoints)
        assert found.shape.points.tolist() == [[4, 5], [7, 8], [9, 1]]


@pytest.mark.parametrize(
    ("skeleton", "lines"),
    [([["nose", "tail"], [2, "1"]], ((1, 2), (2, 1))), ([1, 2], ()), ([None, [1, None], [1, 2]], ((1, 2),)), ("x", ())],
)
@pytest.mark.filterwarnings("ignore:.*of the skeleton:geomatch.errors.GeomatchWarning")
def test_coco_skeleton_costs_no_category(skeleton: object, lines: object, tmp_path: Path) -> None:
    document = coco(POINTS) | {"categories": [CAT | {"skeleton": skeleton}]}
    assert [(each.name, each.skeleton) for each in read(written(tmp_path, document), KEYPOINTS).categories] == [
        ("cat", lines)
    ]


@pytest.mark.parametrize("names", ["nose, tail", {"0": "nose", "1": "tail"}, [{"name": "nose"}, {"name": "tail"}]])
def test_coco_names_of_keypoints_in_other_forms(names: object, tmp_path: Path) -> None:
    (found,) = read(written(tmp_path, coco(POINTS) | {"categories": [CAT | {"keypoints": names}]}), KEYPOINTS).instances
    assert isinstance(found.shape, Keypoints)
    assert found.shape.names == ("nose", "tail")


def test_coco_annotations_of_the_only_image_need_not_name_it(tmp_path: Path) -> None:
    document = coco() | {"annotations": [{"category_id": 3, **POINTS}]}
    with pytest.raises(InputError, match="marks no keypoints"):
        read(written(tmp_path, document), KEYPOINTS)
    assert read(written(tmp_path, document | {"images": document["images"][1:]}), KEYPOINTS).instances


@pytest.mark.parametrize(
    "runs",
    [
        {"counts": RUNS},
        {"size": [20, 30], "counts": f"b'{pack_runs(RUNS)}'"},
        [{"counts": RUNS}, {"size": [20, 30], "counts": pack_runs(RUNS)}],
    ],
)
def test_coco_runs_in_other_forms(runs: object, tmp_path: Path) -> None:
    (found,) = read(written(tmp_path, coco({"segmentation": runs})), MASKS).instances
    assert mask(found) == RECTANGLE.tolist()


@pytest.mark.filterwarnings("ignore:.*has no name:geomatch.errors.GeomatchWarning")
@pytest.mark.parametrize("own", ["ref", "ref.jpg", 1])
def test_coco_results_are_of_the_image_they_can_only_be_of(own: object, tmp_path: Path) -> None:
    results = [{"image_id": own, "category_id": 3, "score": 0.5, "bbox": [1, 2, 3, 4]}]
    others = [] if own == 1 else [{"image_id": "other", "category_id": 3, "bbox": [9, 9, 3, 4]}]
    (found,) = read(written(tmp_path, others + results), BOXES).instances
    assert found.shape == (0.5, 1.5, 3.5, 5.5)
    with pytest.raises(InputError, match="no image named"):
        read(written(tmp_path, [{**results[0], "image_id": each} for each in (1, 2)]), BOXES)


@pytest.mark.parametrize(
    "table",
    [
        "x,y,w,h\n30,20,70,60\n",
        "x,y,width,height\n100,80,-70,-60\n",
        "x1,y1,x2,y2\n30,20,100,80\n",
        "XMin;YMin;XMax;YMax\n30;20;100;80\n".replace("XM", "X M").replace("YM", "Y m"),
        "left,top,width,height\n30,20,70,60\n",
        "left,top,right,bottom\n100,80,30,20\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\nref.jpg,200,200,cat,30,20,100,80\n",
        "cx,cy,w,h\n65,50,70,60\n",
        "x0,y0,x1,y1\n30,20,100,80\n",
        "photos/ref.jpg,30,20,100,80,cat\nb/other.jpg,1,1,2,2,dog\n",
        "cat,30,20,70,60,ref.jpg,200,200\n",
    ],
)
@pytest.mark.filterwarnings("ignore:.*names no columns:geomatch.errors.GeomatchWarning")
def test_table_of_boxes_in_any_columns(table: str, tmp_path: Path) -> None:
    (found,) = read_annotations(written(tmp_path, table, "boxes.csv"), BOXES, REF, (200, 200)).instances
    assert found.shape == (30, 20, 100, 80)
    assert found.label == ("cat" if "cat" in table else "object")


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("4,5\n7,8\n", "x, y"),
        ("4 5\n7 8\n", "x, y"),
        ("nose;4,0;5\ntail;7;8\n", "name, x, y"),
        ("nose,4,5,2\ntail,7,8,1\n", "name, x, y, visibility"),
        ("a/ref.jpg,4,5\nphotos/ref.jpg,4,5\nref.jpg,7,8\n", "image, x, y"),
        ("ref.jpg,nose,4,5\nref.jpg,tail,7,8\n", "image, name, x, y"),
    ],
)
def test_table_of_keypoints_without_names_of_columns(table: str, columns: str, tmp_path: Path) -> None:
    with pytest.warns(GeomatchWarning, match=f"first line names no columns; they are read as {columns}(;|$)") as said:
        (found,) = read(written(tmp_path, table, "points.txt"), KEYPOINTS).instances
    assert len(said) == 1
    assert isinstance(found.shape, Keypoints)
    assert found.shape.points.tolist() == [[4, 5], [7, 8]]
    assert found.shape.names == (("nose", "tail") if "name" in columns else ("1", "2"))


def test_table_of_four_numbers_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="left, top, right, bottom, or left, top, width, height"):
        read(written(tmp_path, "1,2,3,4\n", "boxes.csv"), BOXES)


def test_coco_boxes_on_a_large_image_are_no_masks(tmp_path: Path) -> None:
    document = coco(*[{"bbox": [1, 2, 3, 4]}] * 9, width=20_000, height=20_000)
    path = written(tmp_path, document)
    assert len(read_annotations(path, BOXES, REF, (20_000, 20_000)).instances) == 9
    with pytest.raises(InputError, match="are too many"):
        read_annotations(path, MASKS, REF, (20_000, 20_000))


def test_coco_entries_of_one_file_are_one_image(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "photos/ref.jpg"}, {"id": 8, "file_name": "photos\\ref.jpg"}]
    annotations = [{"image_id": own, "category_id": 3, "bbox": [own, 2, 3, 4]} for own in (7, 8)]
    document = coco() | {"images": images, "annotations": annotations}
    assert [each.shape for each in read(written(tmp_path, document), BOXES).instances] == [
        (own - 0.5, 1.5, own + 2.5, 5.5) for own in (7, 8)
    ]
    images[1]["file_name"] = "b/ref.jpg"
    assert len(read(written(tmp_path, document), BOXES).instances) == 1
    images[0]["file_name"] = "a/ref.jpg"
    with pytest.raises(InputError, match="several images named"):
        read(written(tmp_path, document), BOXES)


def test_labelme_mask_beyond_the_border_is_cut(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((5, 6), bool)).save(buffer, "PNG")
    packed = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    for (left, top), rows, columns in (((-2, -1), (0, 4), (0, 4)), ((27, 18), (18, 20), (27, 30))):
        item = {"label": "cat", "shape_type": "mask", "points": [[left, top], [left + 5, top + 4]], "mask": packed}
        (found,) = read(written(tmp_path, labelme(item)), MASKS).instances
        expected = np.zeros(SIZE, bool)
        expected[slice(*rows), slice(*columns)] = True
        assert mask(found) == expected.tolist()


def test_labelme_group_that_is_empty_is_none(tmp_path: Path) -> None:
    squares = [{"label": "cat", "shape_type": "polygon", "points": SQUARE, "group_id": group} for group in ("", None)]
    assert len(read(written(tmp_path, labelme(*squares, squares[0])), MASKS).instances) == 3


def test_labelme_shapes_in_other_spellings(tmp_path: Path) -> None:
    shapes = [
        {"label": "nose", "shape_type": "Point", "points": [4.5, 5.5]},
        {"label": "tail", "shape_type": "point", "points": [["7.5", 8.5]], "visibility": 1},
    ]
    (found,) = read(written(tmp_path, labelme(*shapes)), KEYPOINTS).instances
    assert isinstance(found.shape, Keypoints)
    assert found.shape.points.tolist() == [[4, 5], [7, 8]]
    assert found.shape.visibility.tolist() == [2, 1]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_label_image_of_colours_is_numbered(mode: str, tmp_path: Path) -> None:
    colours = np.zeros((*SIZE, len(mode)), np.uint8)
    colours[..., 3:] = 255
    colours[2:8, 2:8, :3], colours[8:10, 2:8, :3] = (0, 128, 0), (128, 0, 64)
    if mode == "RGBA":
        colours[0, 0] = (9, 200, 9, 0)
    Image.fromarray(colours).save(tmp_path / "mask.png")
    with pytest.warns(GeomatchWarning, match="1 is #008000, 2 is #800040"):
        found = read(tmp_path / "mask.png", MASKS)
    assert [(each.label, np.sum(mask(each))) for each in found.instances] == [("1", 36), ("2", 12)]
    assert found.colours == LabelColours("P", (0, 0, 0, 0, 128, 0, 128, 0, 64))
    colours[..., 0] = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 250
    Image.fromarray(colours).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="in colour, not grey or a palette"):
        read(tmp_path / "mask.png", MASKS)


def test_table_of_yolo_is_measured_by_the_image(tmp_path: Path) -> None:
    with pytest.warns(GeomatchWarning, match="read as label, centre_x, .*; all its positions lie between 0 and 1"):
        (found,) = read(written(tmp_path, "3 0.5 0.25 0.2 0.3\n", "boxes.txt"), BOXES).instances
    assert found.label == "3"
    assert found.shape == pytest.approx((11.5, 1.5, 17.5, 7.5))


@pytest.mark.parametrize("table", ["x,y\n0.5,0.25\n0.2,1\n", "nose 0.5 0.25\ntail 0.2 1\n"])
def test_table_of_shares_is_measured_by_the_image(table: str, tmp_path: Path) -> None:
    with pytest.warns(GeomatchWarning, match="between 0 and 1, and are shares"):
        (found,) = read(written(tmp_path, table, "points.txt"), KEYPOINTS).instances
    assert isinstance(found.shape, Keypoints)
    np.testing.assert_allclose(found.shape.points, [[14.5, 4.5], [5.5, 19.5]])
    whole = "left,top,right,bottom\n0,0,1,1\n"
    assert read(written(tmp_path, whole, "box.csv"), BOXES).instances[0].shape == (0, 0, 1, 1)


def test_table_knows_rows_by_identifiers_of_images(tmp_path: Path) -> None:
    table = "image_id,bodypart,x,y,visible\nref,nose,4,5,yes\nother,nose,1,1,yes\nref,tail,7,8,hidden\nref,ear,,,no\n"
    (found,) = read(written(tmp_path, table, "points.csv"), KEYPOINTS).instances
    assert isinstance(found.shape, Keypoints)
    assert dict(zip(found.shape.names, found.shape.visibility, strict=True)) == {"nose": 2, "tail": 1, "ear": 0}


def test_table_of_json_lines_is_read(tmp_path: Path) -> None:
    lines = '{"keypoint": "nose", "x": 4, "y": 5}\n{"keypoint": "tail", "x": 7.0, "y": 8}\n'
    (found,) = read(written(tmp_path, lines, "points.jsonl"), KEYPOINTS).instances
    assert isinstance(found.shape, Keypoints)
    assert (found.shape.names, found.shape.points.tolist()) == (("nose", "tail"), [[4, 5], [7, 8]])


def test_names_that_services_change_are_the_last_resort() -> None:
    file = Path("photos/ref.jpg")
    for name in (
        "3f2504e0-ref.jpg",
        "x/REF_jpg.rf.0123456789abcdef.jpg",
        "ref.png",
        "ref",
        "https://h/3f2504e0-Ref.JPG",
    ):
        assert meant_names([name, "other.jpg"], file) == {name}
        assert meant_names([name, "b/Ref.jpg"], file) == {"b/Ref.jpg"}
    assert meant_names(["ref.1", "ref-2.jpg", "rf.jpg"], file) == set()


def test_names_are_compared_as_people_mean_them() -> None:
    cafe = "caf\u00e9.jpg"
    written_as = [
        "photos\\" + unicodedata.normalize("NFD", cafe),
        "./photos/" + cafe,
        "https://host/photos/caf%C3%A9.jpg?x=1",
    ]
    file = Path("/data/photos") / cafe
    for name in written_as:
        assert meant_names([name], file) == {name}
        assert name_parts(name)[-2:] == ("photos", cafe)
    assert meant_names(["a/caf\u00e9.jpg", "photos/caf\u00e9.jpg"], file) == {"photos/caf\u00e9.jpg"}
    assert meant_names(["photos/cafe.jpg"], file) == set()
