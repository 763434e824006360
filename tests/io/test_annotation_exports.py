"""What CVAT, Label Studio, VIA and labelImg export is read, each drawing the same point, box and polygon."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geomatch.annotations import Visibility
from geomatch.errors import GeomatchWarning, InputError
from tests.io.test_annotations import BOXES, KEYPOINTS, MASKS, SIZE, box, keypoints, mask, passes_over, read

# In corners of pixels: a nose at (12, 8), and a box and a polygon round rows 4 to 11 and columns 6 to 23.
VIA_REGIONS: list[dict[str, Any]] = [
    {"shape_attributes": {"name": "point", "cx": 12, "cy": 8}, "region_attributes": {"part": "nose"}},
    {
        "shape_attributes": {"name": "rect", "x": 6, "y": 4, "width": 18, "height": 8},
        "region_attributes": {"sure": "", "type": {"dog": False, "cat": True}},
    },
    {
        "shape_attributes": {"name": "polygon", "all_points_x": [6, 24, 24, 6], "all_points_y": [4, 4, 12, 12]},
        "region_attributes": {"colour": "grey", "Label": "cat"},
    },
    {"shape_attributes": {"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}},
]
OTHER = {"filename": "other.jpg", "regions": [{"shape_attributes": {"name": "rect"}}]}


def via_2() -> object:
    return {"_via_img_metadata": {"a": {"filename": "ref.jpg", "regions": VIA_REGIONS}, "b": OTHER}}


def via_1() -> object:
    return {"ref.jpg7": {"filename": "ref.jpg", "regions": dict(enumerate(VIA_REGIONS))}, "b": OTHER}


def via_3() -> object:
    marks: list[tuple[list[int], str]] = [([1, 12, 8], "nose"), ([2, 6, 4, 18, 8], "cat")]
    marks += [([7, 6, 4, 24, 4, 24, 12, 6, 12], "cat"), ([6, 1, 1, 2, 2], "")]
    return {
        "file": {"1": {"fname": "ref.jpg"}, "2": {"fname": "other.jpg"}},
        "view": {"9": {"fid_list": ["1"]}, "8": {"fid_list": ["2"]}},
        "metadata": {
            **{f"9_{own}": {"vid": "9", "xy": xy, "av": {"1": label}} for own, (xy, label) in enumerate(marks)},
            "8_a": {"vid": "8", "xy": [2]},
        },
    }


def via_table() -> str:
    rows = ["filename,region_id,region_shape_attributes,region_attributes"]
    for region in VIA_REGIONS:
        cells = (json.dumps(region.get(key, {})) for key in ("shape_attributes", "region_attributes"))
        quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
        rows.append(",".join(["ref.jpg", "0", *quoted]))
    return "\n".join([*rows, 'other.jpg,0,"{","{}"'])


def studio_results() -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = [
        {"x": 40, "y": 40, "width": 0.3, "keypointlabels": ["nose"]},
        {"x": 20, "y": 20, "width": 60, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]},
        {"points": [[20, 20], [80, 20], [80, 60], [20, 60]], "polygonlabels": ["cat"]},
        {"format": "rle", "rle": [1], "brushlabels": ["cat"]},
    ]
    own = {"original_width": 30, "original_height": 20}
    return [{"id": str(number), **own, "value": value} for number, value in enumerate(values)]


def studio() -> object:
    return [
        {"data": {"image": "/data/upload/3/3f2504e0-ref.jpg"}, "annotations": [{"result": studio_results()}]},
        {"data": {"image": "/data/upload/3/3f2504e0-other.jpg"}, "annotations": [{"result": [{"id": 3}]}]},
    ]


def studio_local() -> object:
    cancelled = {"was_cancelled": True, "result": []}
    return {
        "data": {"title": "x", "photo": "/data/local-files/?d=photos%2Fref.jpg"},
        "completions": [cancelled, {"result": studio_results()}],
    }


def studio_min() -> object:
    regions = [{**result["value"], "original_width": 30, "original_height": 20} for result in studio_results()]
    return [{"image": "s3://bucket/photos/ref.jpg", "kp": regions[:1], "label": regions[1:]}]


CVAT = """<?xml version="1.0"?><annotations><image id="0" name="photos/ref.jpg" width="30" height="20">
<points label="nose" points="12,8"/><box label="cat" xtl="6" ytl="4" xbr="24" ybr="12"/>
<polygon label="cat" points="6,4;24,4;24,12;6,12"/><polyline label="wire" points="1,1;2,2"/><tag label="good"/>
</image><image name="other.jpg" width="1"><box/></image></annotations>"""

EXPORTS: list[tuple[str, Callable[[], object]]] = [
    ("via.json", via_1),
    ("via.json", via_2),
    ("via.json", via_3),
    ("via.csv", via_table),
    ("studio.json", studio),
    ("studio.json", studio_local),
    ("studio.json", studio_min),
    ("cvat.xml", lambda: CVAT),
    ("pipe", lambda: CVAT),
]


def exported(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@passes_over
@pytest.mark.parametrize(("name", "export"), EXPORTS)
def test_export_is_read_in_pixel_centres(name: str, export: Callable[[], object], tmp_path: Path) -> None:
    path = exported(tmp_path, name, export())
    (nose,) = read(path, KEYPOINTS).instances
    assert keypoints(nose).names == ("nose",)
    assert keypoints(nose).points.tolist() == [[11.5, 7.5]]
    (framed,) = read(path, BOXES).instances
    assert framed.label == "cat"
    assert box(framed) == pytest.approx((5.5, 3.5, 23.5, 11.5))
    (outlined,) = read(path, MASKS).instances
    inside = np.zeros(SIZE, bool)
    inside[4:12, 6:24] = True
    assert (outlined.label, mask(outlined)) == ("cat", inside.tolist())


@pytest.mark.parametrize(("name", "export"), EXPORTS)
def test_export_of_other_images_is_refused(name: str, export: Callable[[], object], tmp_path: Path) -> None:
    content = export()
    text = (content if isinstance(content, str) else json.dumps(content)).replace("ref.jpg", "third.jpg")
    with pytest.raises(InputError, match=r"has no image ref\.jpg among its images \(.*third\.jpg"):
        read(exported(tmp_path, name, text), BOXES)


@passes_over
def test_cvat_skeleton_mask_and_turned_box_are_read(tmp_path: Path) -> None:
    items = (
        '<skeleton label="cat"><points label="nose" outside="0" occluded="1" points="12,8"/>'
        '<points label="tail" outside="1" points="0,0"/></skeleton>'
        '<mask label="cat" rle="1, 2, 3" left="6" top="4" width="3" height="2"/>'
        '<box label="cat" xtl="6" ytl="4" xbr="16" ybr="8" rotation="90"/>'
        '<ellipse label="disc" cx="15" cy="10" rx="8" ry="4"/>'
    )
    path = exported(tmp_path, "c.xml", f'<annotations><image name="ref.jpg">{items}</image></annotations>')
    (cat,) = read(path, KEYPOINTS).instances
    assert (cat.label, keypoints(cat).names) == ("cat", ("nose", "tail"))
    assert keypoints(cat).visibility.tolist() == [Visibility.guessed, Visibility.absent]
    (turned,) = read(path, BOXES).instances
    assert box(turned) == pytest.approx((8.5, 0.5, 12.5, 10.5))
    runs, disc = (np.array(mask(each)) for each in read(path, MASKS).instances)
    assert np.argwhere(runs).tolist() == [[4, 7], [4, 8]]
    assert disc.sum() == pytest.approx(np.pi * 8 * 4, rel=0.05)


def test_cvat_points_of_one_item_are_one_object(tmp_path: Path) -> None:
    items = '<points label="cat" points="12,8;3,4"/><points label="nose" points="1,2"/><points label="x" points="1;2"/>'
    path = exported(tmp_path, "c.xml", f'<annotations><image name="ref.jpg">{items}</image></annotations>')
    with pytest.warns(GeomatchWarning, match="1 item left out: item 3: "):
        cat, nose = read(path, KEYPOINTS).instances
    assert (cat.label, keypoints(cat).names, keypoints(cat).points.tolist()) == (
        "cat", ("1", "2"), [[11.5, 7.5], [2.5, 3.5]],
    )  # fmt: skip
    assert keypoints(nose).names == ("nose",)
    tracks = exported(tmp_path, "t.xml", '<annotations><track label="cat"/></annotations>')
    with pytest.raises(InputError, match="tracks of a video; export it as CVAT for images"):
        read(tracks, KEYPOINTS)


def test_studio_region_and_its_label_are_one(tmp_path: Path) -> None:
    region = {"id": "a", "original_width": 30, "original_height": 20, "value": {"x": 40, "y": 40}}
    label = region | {"value": {"x": 40, "y": 40, "labels": ["nose"]}}
    for key in ("annotations", "predictions"):
        task: dict[str, Any] = {"data": {"image": "/ref.jpg"}, "annotations": []} | {key: [{"result": [region, label]}]}
        with pytest.warns(GeomatchWarning, match="predictions alone") if key == "predictions" else nullcontext():
            (found,) = read(exported(tmp_path, "s.json", [task]), KEYPOINTS).instances
        assert keypoints(found).names == ("nose",)


def test_createml_boxes_are_read(tmp_path: Path) -> None:
    boxes = [{"label": "cat", "coordinates": {"x": 15, "y": 8, "width": 18, "height": 8}}, {"label": "cat"}]
    images = [
        {"image": "other.jpg", "annotations": [3]},
        {"image": "ref_jpg.rf.0123456789ab.jpg", "annotations": boxes},
    ]
    with pytest.warns(GeomatchWarning, match="1 item left out: annotation 2: lacks 'coordinates'"):
        (cat,) = read(exported(tmp_path, "c.json", images), BOXES).instances
    assert (cat.label, box(cat)) == ("cat", (5.5, 3.5, 23.5, 11.5))


def test_voc_boxes_are_read(tmp_path: Path) -> None:
    sides = "<xmin>6</xmin><ymin>4</ymin><xmax>24</xmax><ymax>12</ymax>"
    item = f"<object><name>cat</name><bndbox>{sides}</bndbox></object>"
    for name in ("<filename>ref.jpg</filename>", ""):
        (cat,) = read(exported(tmp_path, "v.xml", f"<annotation>{name}{item}</annotation>"), BOXES).instances
        assert (cat.label, box(cat)) == ("cat", (5.5, 3.5, 23.5, 11.5))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xml", "<annotations", "not XML"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares entities"),
        ("a.xml", "<other/>", "neither CVAT's XML"),
        ("a.json", {"a": {"filename": "ref.jpg", "regions": 3}}, "is not of the form"),
        ("a.json", [{"data": {"image": "/ref.jpg"}, "annotations": [3]}], "is not of the form"),
        ("a.json", {"file": {"1": {}}, "view": {}, "metadata": {}}, "lacks 'fname'"),
        ("a.json", {}, "nor an export of Label Studio or VIA"),
        ("a.json", [], "nor an export of Label Studio or VIA"),
        ("a.json", {"a": {"filename": "ref.jpg", "regions": [{"shape_attributes": {"name": "rect"}}]}}, "lacks 'x'"),
    ],
)
def test_export_that_is_damaged_is_named(name: str, content: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(exported(tmp_path, name, content), BOXES)
