"""Every format is read from a document written by hand, and what is written is read again."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geomatch.annotations import AnnotatedImage, Annotations, Box, Instance, Keypoints, Region, Target
from geomatch.errors import InputError
from geomatch.io.annotations.files import AnnotationOutput, open_output, read_annotations
from geomatch.io.annotations.label_image import voc_colours
from geomatch.io.annotations.records import annotation_record
from geomatch.io.annotations.rle import decode_runs, unpack_runs
from geomatch.options import AnnotationFormat, AnnotationKind, Existing

SIZE = (20, 30)
REF = Path("photos/ref.jpg")
KEYPOINTS, MASKS, BOXES = AnnotationKind.keypoints, AnnotationKind.masks, AnnotationKind.boxes

# A rectangle of 3 rows and 4 columns from pixel (5, 2) on: as polygon in pixels' corners, and as runs down the columns.
RECTANGLE = np.zeros(SIZE, bool)
RECTANGLE[2:5, 5:9] = True
RUNS = [5 * 20 + 2, 3, 17, 3, 17, 3, 17, 3, 600 - (8 * 20 + 5)]
CAT, DOG = {"id": 3, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}, {"id": 9, "name": "dog"}


def coco(*annotations: dict[str, Any], **image: Any) -> dict[str, Any]:
    entry = {"id": 7, "file_name": "ref.jpg", "width": 30, "height": 20} | image
    others = {"id": 8, "file_name": "other.jpg", "width": 5, "height": 5}
    known = [{"id": number, "image_id": 7, "category_id": 3} | each for number, each in enumerate(annotations, 1)]
    return {"images": [others, entry], "annotations": known, "categories": [CAT, DOG]}


def labelme(*shapes: dict[str, Any], **document: Any) -> dict[str, Any]:
    return {"imagePath": "ref.jpg", "imageHeight": 20, "imageWidth": 30, "imageData": None, "shapes": shapes} | document


def written(folder: Path, document: object, name: str = "marked.json") -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def label_image(folder: Path, values: object, mode: str = "L") -> Path:
    picture = Image.fromarray(np.asarray(values, np.uint8))
    if mode == "P":
        picture.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    picture.save(folder / "mask.png")
    return folder / "mask.png"


def read(path: Path, kind: AnnotationKind, *, strict: bool = False) -> Annotations:
    return read_annotations(path, kind, REF, SIZE, strict=strict)


passes_over = pytest.mark.filterwarnings("ignore:.*passed over:geomatch.errors.GeomatchWarning")
"""For a file that holds several kinds of annotations, of which one is read."""


def keypoints(instance: Instance) -> Keypoints:
    assert isinstance(instance.shape, Keypoints)
    return instance.shape


def mask(instance: Instance) -> list[list[bool]]:
    assert isinstance(instance.shape, Region)
    return instance.shape.mask.tolist()


def box(instance: Instance) -> Box:
    assert not isinstance(instance.shape, Keypoints | Region)
    return instance.shape


@passes_over
def test_coco_keypoints_are_pixels(tmp_path: Path) -> None:
    found = read(written(tmp_path, coco({"keypoints": [4, 5.5, 2, 0, 0, 0]}, {"bbox": [1, 1, 2, 2]})), KEYPOINTS)
    (instance,) = found.instances
    assert (instance.label, instance.number, keypoints(instance).names) == ("cat", 1, ("nose", "tail"))
    assert keypoints(instance).points[0].tolist() == [4, 5.5]
    assert keypoints(instance).visibility.tolist() == [2, 0]
    assert [(each.id, each.name, each.skeleton) for each in found.categories] == [(3, "cat", ((1, 2),)), (9, "dog", ())]


def test_coco_boxes_are_shifted_by_half_a_pixel(tmp_path: Path) -> None:
    (instance,) = read(written(tmp_path, coco({"bbox": [0, 0, 30, 20], "category_id": 9})), BOXES).instances
    assert (instance.label, box(instance)) == ("dog", (-0.5, -0.5, 29.5, 19.5))


@pytest.mark.parametrize(
    "segmentation",
    [
        [[5, 2, 9, 2, 9, 5, 5, 5]],
        [[5, 2, 7, 2, 7, 5, 5, 5], [7, 2, 9, 2, 9, 5, 7, 5]],
        {"size": [20, 30], "counts": RUNS},
        {"size": [20, 30], "counts": "V33a000000R="},
    ],
    ids=["polygon", "two polygons", "runs", "packed runs"],
)
def test_coco_masks_in_every_encoding(segmentation: object, tmp_path: Path) -> None:
    (instance,) = read(written(tmp_path, coco({"segmentation": segmentation})), MASKS).instances
    assert mask(instance) == RECTANGLE.tolist()


def test_coco_image_of_the_same_folder_is_meant(tmp_path: Path) -> None:
    document = coco({"bbox": [1, 2, 3, 4]}, file_name="photos/ref.jpg")
    document["images"].append({"id": 12, "file_name": "others/ref.jpg"})
    assert len(read(written(tmp_path, document), BOXES).instances) == 1


@passes_over
def test_labelme_shapes_are_shifted_by_half_a_pixel(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        labelme(
            {"label": "nose", "shape_type": "point", "points": [[4.5, 6]]},
            {"label": "cat", "shape_type": "polygon", "points": [[5, 2], [9, 2], [9, 5], [5, 5]]},
            {"label": "dog", "shape_type": "rectangle", "points": [[30, 20], [0, 0]]},
        ),
    )
    (points,), (outlined,), (framed,) = (read(path, kind).instances for kind in (KEYPOINTS, MASKS, BOXES))
    assert (keypoints(points).names, keypoints(points).points.tolist()) == (("nose",), [[4, 5.5]])
    assert (outlined.label, mask(outlined)) == ("cat", RECTANGLE.tolist())
    assert (framed.label, box(framed)) == ("dog", (-0.5, -0.5, 29.5, 19.5))


@passes_over
def test_labelme_groups_are_instances(tmp_path: Path) -> None:
    left = {"label": "cat", "points": [[5, 2], [7, 2], [7, 5], [5, 5]], "group_id": 1}
    right = {"label": "cat", "points": [[7, 2], [9, 2], [9, 5], [7, 5]], "group_id": 1}
    noses = [{"label": "nose", "shape_type": "point", "points": [[x, 3]], "group_id": x} for x in (4, 8)]
    path = written(tmp_path, labelme(left, right, *noses))
    (instance,) = read(path, MASKS).instances
    assert mask(instance) == RECTANGLE.tolist()
    assert [keypoints(each).names for each in read(path, KEYPOINTS).instances] == [("nose",), ("nose",)]


def test_labelme_mask_stored_as_png(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((3, 4), bool)).save(buffer, "PNG")
    packed = base64.b64encode(buffer.getvalue()).decode()
    shape = {"label": "cat", "shape_type": "mask", "points": [[5, 2], [8, 4]], "mask": packed}
    (instance,) = read(written(tmp_path, labelme(shape)), MASKS).instances
    assert mask(instance) == RECTANGLE.tolist()


def test_label_image_values_are_instances(tmp_path: Path) -> None:
    values = np.where(RECTANGLE, 2, 0)
    values[10:, :3] = 1
    found = read(label_image(tmp_path, values, "P"), MASKS)
    assert [instance.label for instance in found.instances] == ["1", "2"]
    assert mask(found.instances[1]) == RECTANGLE.tolist()
    assert found.colours is not None
    assert (found.colours.mode, found.colours.palette[3:9]) == ("P", (10, 20, 30, 40, 50, 60))


def test_table_skips_rows_of_other_images(tmp_path: Path) -> None:
    rows = (
        "image,label,name,x,y,visibility",
        "photos/ref.jpg,cat,nose,4,5.5,1",
        "b.jpg,cat,nose,1,1,2",
        "ref.jpg,cat,tail,7,8,",
    )
    (instance,) = read(written(tmp_path, "\n".join(rows), "points.csv"), KEYPOINTS).instances
    assert (instance.label, keypoints(instance).names) == ("cat", ("nose", "tail"))
    assert keypoints(instance).points.tolist() == [[4, 5.5], [7, 8]]
    assert keypoints(instance).visibility.tolist() == [1, 2]


def test_table_of_x_and_y_alone(tmp_path: Path) -> None:
    (instance,) = read(written(tmp_path, "x\ty\n4\t5.5\n7\t8\n", "points.tsv"), KEYPOINTS).instances
    assert (keypoints(instance).names, keypoints(instance).points.tolist()) == (("1", "2"), [[4, 5.5], [7, 8]])


def test_read_annotations_cuts_boxes_at_the_border(tmp_path: Path) -> None:
    path = written(tmp_path, "label,left,top,right,bottom\ncat,-4,3,10,40\n", "boxes.csv")
    assert box(read(path, BOXES).instances[0]) == (-0.5, 3, 10, 19.5)


OUTSIDE = "outside ref.jpg, which is 30x20 pixels"


@pytest.mark.parametrize(
    ("name", "content", "kind", "said"),
    [
        ("marked.doc", "x,y", KEYPOINTS, "format not known"),
        ("marked.json", "{", KEYPOINTS, "not JSON"),
        ("marked.json", "[" * 100_000, KEYPOINTS, "not JSON"),
        ("marked.json", {"boxes": []}, BOXES, "neither COCO"),
        ("marked.json", b"\xff", BOXES, "not text in UTF-8"),
        ("marked.json", b"\xff\xfe\0", BOXES, "not text in UTF-16"),
        ("marked.json", coco({"bbox": [1, 1, 2, 2]}), KEYPOINTS, "marks no keypoints on ref.jpg"),
        (
            "marked.json",
            coco({"keypoints": [1, 1, 2, 1, 1, 2]}, file_name="b.jpg"),
            KEYPOINTS,
            "no image named ref",
        ),
        (
            "marked.json",
            coco({"bbox": [1, 1, 2, 2]}, width=31),
            BOXES,
            "31x20 pixels there, but photos/ref.jpg is 30",
        ),
        ("marked.json", coco({"bbox": [1, 1, 2]}), BOXES, "annotation 1"),
        ("marked.json", coco({"bbox": [1, 1, 2, "wide"]}), BOXES, "annotation 1: 'wide' is not a number"),
        ("marked.json", coco({"bbox": [1, 1, 1e300, 2]}), BOXES, "not a position"),
        ("marked.json", coco({"bbox": [40, 1, 5, 5]}), BOXES, OUTSIDE),
        ("marked.json", coco({"bbox": [4, 1, 0, 5]}), BOXES, "has no area"),
        ("marked.json", coco({"keypoints": [1, 1, 2]}), KEYPOINTS, "has 1 keypoints, its category 'cat' has 2"),
        ("marked.json", coco({"keypoints": [1, 1, 2, 1, 2]}), KEYPOINTS, "neither triples"),
        ("marked.json", coco({"keypoints": [1, 1, 2, 1, 1, 3]}), KEYPOINTS, "visibility should be 0, 1 or 2"),
        ("marked.json", coco({"keypoints": [1, 1, 2, 50, 4, 1]}), KEYPOINTS, f"'tail' (50, 4) lies {OUTSIDE}"),
        ("marked.json", coco({"keypoints": 3}), KEYPOINTS, "annotation 1"),
        ("marked.json", coco({"segmentation": [[1, 2, 3, 4]]}), MASKS, "three corners"),
        ("marked.json", coco({"segmentation": [["a"] * 6]}), MASKS, "'a' is not a number"),
        ("marked.json", coco({"segmentation": 5}), MASKS, "annotation 1"),
        ("marked.json", coco({"segmentation": {"size": [30, 20], "counts": RUNS}}), MASKS, "size [30, 20]"),
        (
            "marked.json",
            coco({"segmentation": {"size": [20, 30], "counts": [5]}}),
            MASKS,
            "its runs add up to 5 pixels",
        ),
        ("marked.json", coco({"segmentation": {"size": [20, 30], "counts": "~"}}), MASKS, "not a letter"),
        ("marked.json", coco({"segmentation": {"size": [20, 30]}}), MASKS, "lacks 'counts'"),
        ("marked.json", {"images": [3], "annotations": []}, MASKS, "images"),
        ("marked.json", {**coco(), "annotations": 3}, MASKS, "annotations"),
        ("marked.json", labelme(imagePath="C:\\photos\\b.jpg"), BOXES, "annotates 'b.jpg', not ref.jpg"),
        ("marked.json", labelme(imageWidth=31), BOXES, "31x20"),
        (
            "marked.json",
            labelme({"label": "cat", "points": [[1, 2], [3, 4]]}),
            MASKS,
            "shape 1: a polygon should have 3",
        ),
        ("marked.json", labelme({"points": [[1, 2]], "shape_type": "point"}), KEYPOINTS, "shape 1: lacks 'label'"),
        ("marked.json", labelme("nothing"), KEYPOINTS, "shape 1"),
        (
            "marked.json",
            labelme({"label": "a", "shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "AAAA"}),
            MASKS,
            "not a PNG",
        ),
        ("marked.csv", "", KEYPOINTS, "name the columns x, y"),
        ("marked.csv", "x,z\n1,2", KEYPOINTS, "'y' is not there"),
        ("marked.csv", "x,y\n", KEYPOINTS, "marks no keypoints"),
        ("marked.csv", "x,y\n1,2\n3\n", KEYPOINTS, "line 3, column 'y'"),
        ("marked.csv", "x,y\n1,nan\n", KEYPOINTS, "line 2, column 'y'"),
        ("marked.csv", "x,y,visibility\n1,2,9\n", KEYPOINTS, "should be 0, 1 or 2"),
        ("marked.csv", "x,y\n1,2\n", MASKS, "format csv cannot hold masks; choose coco, labelme, png"),
        ("marked.png", "text", KEYPOINTS, "format png cannot hold keypoints"),
        ("marked.png", "text", MASKS, "not an image"),
    ],
)
def test_read_annotations_names_what_is_wrong(
    name: str, content: object, kind: AnnotationKind, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        written(tmp_path, content, name)
    with pytest.raises(InputError) as raised:
        read(path, kind, strict=True)
    assert name in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "kind"), [("none.json", KEYPOINTS), ("none.csv", KEYPOINTS), ("none.png", MASKS)])
def test_read_annotations_names_a_missing_file(name: str, kind: AnnotationKind, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name}: no such file"):
        read(tmp_path / name, kind)


def test_label_image_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is 30x19 pixels, the image it should annotate 30x20"):
        read(label_image(tmp_path, np.ones((19, 30))), MASKS)


def test_label_image_refuses_a_photograph(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is RGB"):
        read(label_image(tmp_path, np.random.default_rng(0).integers(0, 256, (20, 30, 3))), MASKS)


def marked(kind: AnnotationKind) -> Sequence[Instance]:
    """Two instances with all that a transfer adds."""
    if kind is KEYPOINTS:
        points, seen = np.array([[4.25, 5.5], [7, 8]]), np.array([2, 1])
        some = Keypoints(("nose", "tail"), points, seen, np.array([0.75, 0.5]))
        one = Keypoints(("nose", "tail"), points + 3, np.array([0, 2]), np.array([0, 0.25]))
        return [Instance("cat", 1, some, confidence=0.625), Instance("cat", 2, one, confidence=0.25)]
    if kind is BOXES:
        return [
            Instance("cat", 1, (1.5, 2.5, 9.25, 11.5), confidence=0.5),
            Instance("dog", 2, (-0.5, -0.5, 29.5, 19.5), confidence=0.25),
        ]
    return [
        Instance("1", 1, Region(RECTANGLE), confidence=0.5),
        Instance("2", 2, Region(np.roll(RECTANGLE, 9, 0)), confidence=0.25),
    ]


def opened(path: Path, format: AnnotationFormat, kind: AnnotationKind, like: Annotations) -> AnnotationOutput:
    return open_output(path, format, kind, like, [], existing=Existing.refused)


def added(output: AnnotationOutput, found: AnnotatedImage, number: int = 0) -> Path:
    """The file that stands, or will stand, for an image."""
    target = Target(Path(found.name), number, Path(found.name).stem)
    output.add(target, found)
    return output.file(target)


def reference(kind: AnnotationKind, folder: Path, format: AnnotationFormat) -> Annotations:
    """A file of that format to be like, with instances of the same labels."""
    square = [[1, 1], [5, 1], [5, 5], [1, 5]]
    point = {"label": "nose", "shape_type": "point", "points": [[1, 1]]}
    numbered = [{"id": number, "name": str(number)} for number in (1, 2)]
    segmented = [{"category_id": n, "segmentation": [np.ravel(square).tolist()]} for n in (1, 2)]
    annotated = {KEYPOINTS: [{"keypoints": [1, 1, 2] * 2}], BOXES: [{"bbox": [1, 1, 2, 2]}], MASKS: segmented}[kind]
    documents: dict[AnnotationFormat, object] = {
        AnnotationFormat.coco: coco(*annotated) | ({"categories": numbered} if kind is MASKS else {}),
        AnnotationFormat.labelme: labelme(
            point,
            *({"label": label, "points": square} for label in "12"),
            {"label": "cat", "shape_type": "rectangle", "points": [[1, 1], [5, 5]]},
        ),
        AnnotationFormat.csv: "x,y,left,top,right,bottom\n1,1,2,2,3,3\n",
    }
    if format is AnnotationFormat.png:
        return read(label_image(folder, np.where(RECTANGLE, 2, 1), "P"), kind)
    return read(written(folder, documents[format], "r.csv" if format is AnnotationFormat.csv else "r.json"), kind)


@passes_over
@pytest.mark.parametrize(
    ("format", "kind"),
    [
        *((AnnotationFormat.coco, kind) for kind in AnnotationKind),
        *((AnnotationFormat.labelme, kind) for kind in AnnotationKind),
        *((AnnotationFormat.csv, kind) for kind in (KEYPOINTS, BOXES)),
        (AnnotationFormat.png, MASKS),
    ],
)
def test_annotations_survive_writing_and_reading(
    format: AnnotationFormat, kind: AnnotationKind, tmp_path: Path
) -> None:
    like = reference(kind, tmp_path, format)
    path = tmp_path / (
        "out.csv" if format is AnnotationFormat.csv else "out.json" if format is AnnotationFormat.coco else "out"
    )
    output = opened(path, format, kind, like)
    file = added(output, AnnotatedImage(str(REF), SIZE, marked(kind)))
    output.close()
    back = read(file, kind)
    assert back.format is format
    for was, found in zip(marked(kind), back.instances, strict=True):
        assert found.number == was.number
        if kind is KEYPOINTS:
            seen = keypoints(was).present
            assert keypoints(found).points[keypoints(found).present].tolist() == keypoints(was).points[seen].tolist()
            names = np.array(keypoints(found).names)[keypoints(found).present]
            assert names.tolist() == np.array(keypoints(was).names)[seen].tolist()
        elif kind is MASKS:
            assert (found.label, mask(found)) == (was.label, mask(was))
        else:
            assert (found.label, box(found)) == (was.label, box(was))


@pytest.mark.parametrize(
    "segmentation",
    [[[5, 2, 9, 2, 9, 5, 5, 5]], {"size": [20, 30], "counts": RUNS}, {"size": [20, 30], "counts": "V33a000000R="}],
)
def test_coco_masks_keep_their_encoding(segmentation: object, tmp_path: Path) -> None:
    like = read(written(tmp_path, coco({"segmentation": segmentation})), MASKS)
    output = opened(tmp_path / "out.json", AnnotationFormat.coco, MASKS, like)
    added(output, AnnotatedImage(str(REF), SIZE, like.instances))
    output.close()
    (annotation,) = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert annotation["segmentation"] == segmentation
    assert (annotation["area"], annotation["bbox"]) == (12, [5, 2, 4, 3])


def test_coco_document_has_all_fields(tmp_path: Path) -> None:
    like = reference(KEYPOINTS, tmp_path, AnnotationFormat.coco)
    output = opened(tmp_path / "out.json", AnnotationFormat.coco, KEYPOINTS, like)
    for number, name in ((7, "c.jpg"), (3, "a b.jpg")):  # as threads come to it; the list decides
        added(output, AnnotatedImage(name, SIZE, marked(KEYPOINTS)), number)
    assert not (tmp_path / "out.json").exists()
    output.close()
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["categories"] == [CAT, DOG]
    assert [image["file_name"] for image in document["images"]] == ["a b.jpg", "c.jpg"]
    assert [each["id"] for each in document["annotations"]] == [1, 2, 3, 4]
    assert [each["image_id"] for each in document["annotations"]] == [1, 1, 2, 2]
    second = document["annotations"][1]
    assert second["keypoints"] == [0, 0, 0, 10, 11, 2]
    assert (second["num_keypoints"], second["keypoint_scores"], second["score"]) == (1, [0, 0.25], 0.25)
    assert document["annotations"][0]["bbox"] == [4.75, 6, 2.75, 2.5]


def test_label_image_keeps_values_mode_and_palette(tmp_path: Path) -> None:
    values = np.where(RECTANGLE, 2, 0)
    for mode in ("L", "P"):
        like = read(label_image(tmp_path, values, mode), MASKS)
        output = opened(tmp_path / mode, AnnotationFormat.png, MASKS, like)
        picture = Image.open(added(output, AnnotatedImage("a.jpg", SIZE, like.instances)))
        assert picture.mode == mode
        assert np.asarray(picture).tolist() == values.tolist()
        assert (picture.getpalette() or [])[:9] == (Image.open(tmp_path / "mask.png").getpalette() or [])[:9]


@passes_over
def test_label_image_numbers_other_instances_in_voc_colours(tmp_path: Path) -> None:
    like = reference(MASKS, tmp_path, AnnotationFormat.labelme)
    output = opened(tmp_path / "out", AnnotationFormat.png, MASKS, like)
    picture = Image.open(added(output, AnnotatedImage("a.jpg", SIZE, marked(MASKS))))
    assert sorted(np.unique(np.asarray(picture))) == [0, 1, 2]
    assert (picture.getpalette() or [])[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    assert voc_colours(20).palette[3 * 20 : 3 * 21] == (0, 64, 128)  # PASCAL VOC's television
    assert voc_colours(256).mode == "I;16"


@passes_over
def test_labelme_image_path_leads_to_the_image_through_a_linked_folder(tmp_path: Path) -> None:
    """A relative path starts where the link leads, since that is where programs resolve `..`."""
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos" / "a.jpg"
    photo.write_bytes(b"a")
    (tmp_path / "deep" / "down" / "out").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "deep" / "down" / "out")
    like = reference(KEYPOINTS, tmp_path, AnnotationFormat.labelme)
    output = opened(tmp_path / "out", AnnotationFormat.labelme, KEYPOINTS, like)
    written = added(output, AnnotatedImage(str(photo), SIZE, marked(KEYPOINTS)))
    assert (written.parent / json.loads(written.read_text())["imagePath"]).read_bytes() == b"a"


@passes_over
def test_labelme_image_path_is_relative(tmp_path: Path) -> None:
    like = reference(KEYPOINTS, tmp_path, AnnotationFormat.labelme)
    output = opened(tmp_path / "out", AnnotationFormat.labelme, KEYPOINTS, like)
    document = json.loads(
        added(output, AnnotatedImage(str(tmp_path / "photos" / "a.jpg"), SIZE, marked(KEYPOINTS))).read_text()
    )
    assert document["imagePath"] == "../photos/a.jpg"
    assert [(each["label"], each["confidence"], each["visibility"]) for each in document["shapes"]] == [
        ("nose", 0.75, 2),
        ("tail", 0.5, 1),
        ("tail", 0.25, 2),
    ]


def test_record_has_every_item_with_confidence() -> None:
    record = annotation_record(AnnotatedImage("a.jpg", SIZE, marked(KEYPOINTS)))
    assert (record["image"], record["width"], record["height"], record["confidence"]) == ("a.jpg", 30, 20, 0.4375)
    assert [(item["object"], item["name"], item["confidence"]) for item in record["items"]] == [
        (1, "nose", 0.75),
        (1, "tail", 0.5),
        (2, "tail", 0.25),
    ]
    (first, _) = annotation_record(AnnotatedImage("a.jpg", SIZE, marked(MASKS)))["items"]
    assert (first["box"], first["area"]) == ([4.5, 1.5, 8.5, 4.5], 12)
    np.testing.assert_array_equal(decode_runs(unpack_runs(first["segmentation"]["counts"]), SIZE), RECTANGLE)


def test_outputs_are_in_the_order_of_the_list(tmp_path: Path) -> None:
    like = reference(BOXES, tmp_path, AnnotationFormat.csv)
    output = opened(tmp_path / "out.csv", AnnotationFormat.csv, BOXES, like)
    for number, name in ((2, "c.jpg"), (0, "a.jpg"), (1, "b, c.jpg")):
        added(output, AnnotatedImage(name, SIZE, marked(BOXES)[:1]), number)
    output.close()
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert [row.partition(",1,")[0] for row in rows[1:]] == ["a.jpg", '"b, c.jpg"', "c.jpg"]


def test_outputs_refuse_to_overwrite(tmp_path: Path) -> None:
    like = reference(BOXES, tmp_path, AnnotationFormat.coco)
    (tmp_path / "full").mkdir()
    written(tmp_path / "full", "mine", "a.json")
    target = Target(REF, 0, "a")
    for name, of in (("r.json", AnnotationFormat.coco), ("full", AnnotationFormat.labelme)):
        with pytest.raises(InputError, match=rf"{name}.*: exists already.*--overwrite"):
            open_output(tmp_path / name, of, BOXES, like, [target], existing=Existing.refused)
        open_output(tmp_path / name, of, BOXES, like, [target], existing=Existing.replaced)
    other = Target(REF, 0, "b")  # whose file is not there
    open_output(tmp_path / "full", AnnotationFormat.labelme, BOXES, like, [other], existing=Existing.refused)


def test_outputs_remove_only_their_own_unfinished_files(tmp_path: Path) -> None:
    like = reference(BOXES, tmp_path, AnnotationFormat.coco)
    for name in (".geomatch-out.json-ab12cd34", ".geomatch-other.json-ab12cd34"):
        (tmp_path / name).mkdir()
    opened(tmp_path / "out.json", AnnotationFormat.coco, BOXES, like)
    assert [path.name for path in tmp_path.glob(".geomatch-*")] == [".geomatch-other.json-ab12cd34"]
