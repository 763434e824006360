"""Transfer from many references, on views of one picture whose colours say where they are: see `tests.stub`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import geomatch
from geomatch.annotations import Keypoints, Region
from geomatch.io.images import load_image
from geomatch.options import AnnotationKind
from geomatch.transfer.reference import Reference
from geomatch.transfer.references.reference_set import ReferenceSet, read_references
from geomatch.transfer.references.transfer import ReferenceChoice, ReferenceTransfer, open_transfer
from tests.stub import picture, stub_pipeline

NAMES = ("nose", "tail", "paw", "ear")
PLACES = np.array([(40, 30), (110, 34), (70, 70), (90, 60)], dtype=float)
"""Of the points, in the large picture that all images are views of."""
VIEWS = [(0, 0), (8, 4), (4, 12), (16, 8)]
"""The left upper corners of the references."""


def entry(number: int, category: int, left: float, top: float, seen: tuple[int, ...]) -> dict[str, Any]:
    triples = [
        value
        for (x, y), shown in zip(PLACES - (left, top), seen, strict=True)
        for value in ((x, y, 2) if shown else (0, 0, 0))
    ]
    corners = [40 - left, 30 - top, 100 - left, 30 - top, 100 - left, 72 - top, 40 - left, 72 - top]
    box = [40 - left, 30 - top, 60, 42]
    return {
        "id": number,
        "image_id": number,
        "category_id": category,
        "keypoints": triples,
        "bbox": box,
        "segmentation": [corners],
    }


def write_references(
    folder: Path, categories: tuple[int, ...] = (1, 1, 1, 1), seen: tuple[tuple[int, ...], ...] = ((1, 1, 1, 1),) * 4
) -> Path:
    """Four views of the picture, one COCO file for them, and another view, target.png, moved by (12, 10)."""
    annotations, images = [], []
    for number, ((left, top), category, shown) in enumerate(zip(VIEWS, categories, seen, strict=True), 1):
        picture(96, 128, left=left, top=top).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
        annotations.append(entry(number, category, left, top, shown))
    picture(96, 128, left=12, top=10).save(folder / "target.png")
    known = [{"id": own, "name": name, "keypoints": NAMES} for own, name in ((1, "cat"), (2, "dog"))]
    document = {"images": images, "annotations": annotations, "categories": known}
    file = folder / "refs.json"
    file.write_text(json.dumps(document))
    return file


def transferred(file: Path, kind: AnnotationKind, choice: ReferenceChoice) -> geomatch.annotations.Instance:
    transfer = ReferenceTransfer(stub_pipeline(), ReferenceSet.read(file, kind), choice)
    (instance,) = transfer(load_image(file.parent / "target.png"))
    return instance


def test_keypoints_lie_where_the_references_say(tmp_path: Path) -> None:
    found = transferred(write_references(tmp_path), AnnotationKind.keypoints, ReferenceChoice())
    assert isinstance(found.shape, Keypoints)
    assert (found.label, found.shape.names, found.number) == ("cat", NAMES, 1)
    np.testing.assert_allclose(found.shape.points, PLACES - (12, 10), atol=5)
    assert found.shape.confidence is not None
    assert ((found.shape.confidence > 0) & (found.shape.confidence <= 1)).all()


def test_single_keypoint_lies_where_it_looks_alike(tmp_path: Path) -> None:
    write_references(tmp_path)
    rows = (f"{number}.png,nose,{40 - left},{30 - top}" for number, (left, top) in enumerate(VIEWS, 1))
    (tmp_path / "refs.csv").write_text("\n".join(("image,name,x,y", *rows)))
    found = transferred(tmp_path / "refs.csv", AnnotationKind.keypoints, ReferenceChoice())
    assert isinstance(found.shape, Keypoints)
    np.testing.assert_allclose(found.shape.points, [[28, 20]], atol=5)


def test_keypoint_that_most_references_lack_is_absent(tmp_path: Path) -> None:
    seen = ((1, 1, 1, 0), (1, 1, 1, 0), (1, 1, 1, 0), (1, 1, 1, 1))
    found = transferred(write_references(tmp_path, seen=seen), AnnotationKind.keypoints, ReferenceChoice())
    assert isinstance(found.shape, Keypoints)
    assert found.shape.present.tolist() == [True, True, True, False]


def test_other_categories_count_only_where_asked(tmp_path: Path) -> None:
    seen = ((1, 1, 1, 0), (1, 1, 1, 0), (1, 1, 1, 1), (1, 1, 1, 1))
    file = write_references(tmp_path, categories=(1, 1, 1, 2), seen=seen)
    transfer = ReferenceTransfer(stub_pipeline(), ReferenceSet.read(file, AnnotationKind.keypoints))
    own = transfer.transferred(load_image(tmp_path / "target.png"))
    assert [instance.label for instance in own.instances] == ["cat"]
    assert sorted(Path(each.name).name for each in own.references) == ["1.png", "2.png", "3.png"]
    choice = ReferenceChoice(across_categories=True)
    transfer = ReferenceTransfer(stub_pipeline(), ReferenceSet.read(file, AnnotationKind.keypoints), choice)
    both = transfer.transferred(load_image(tmp_path / "target.png"))
    assert [instance.label for instance in both.instances] == ["cat"]
    assert len(both.references) == 4


def test_only_the_most_similar_references_are_used(tmp_path: Path) -> None:
    file = write_references(tmp_path)
    picture(96, 128, left=70, top=90).save(tmp_path / "1.png")
    references = ReferenceSet.read(file, AnnotationKind.keypoints)
    transfer = ReferenceTransfer(stub_pipeline(), references, ReferenceChoice(2))
    used = transfer.transferred(load_image(tmp_path / "target.png")).references
    assert len(used) == 2
    assert "1.png" not in [Path(each.name).name for each in used]


def test_masks_are_voted_on(tmp_path: Path) -> None:
    file = write_references(tmp_path)
    document = json.loads(file.read_text())
    document["annotations"][1]["segmentation"] = [[0, 0, 128, 0, 128, 96, 0, 96]]  # one marks the whole image
    file.write_text(json.dumps(document))
    found = transferred(file, AnnotationKind.masks, ReferenceChoice())
    assert isinstance(found.shape, Region)
    truth = np.zeros((96, 128), bool)
    truth[20:62, 28:88] = True
    assert overlap(found.shape.mask, truth) > 0.8
    assert found.confidence is not None
    assert 0.5 < found.confidence <= 1


def test_boxes_are_medians(tmp_path: Path) -> None:
    file = write_references(tmp_path)
    document = json.loads(file.read_text())
    document["annotations"][2]["bbox"] = [0, 0, 128, 96]
    file.write_text(json.dumps(document))
    found = transferred(file, AnnotationKind.boxes, ReferenceChoice())
    np.testing.assert_allclose(np.array(found.shape), [27.5, 19.5, 87.5, 61.5], atol=5)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_one_reference_is_matched_as_ever(tmp_path: Path) -> None:
    file = write_references(tmp_path)
    for number in (2, 3, 4):
        (tmp_path / f"{number}.png").unlink()
    with pytest.warns(UserWarning, match=r"3 items left out: 2\.png: no such image; 3\.png"):
        alone = read_references(file, AnnotationKind.keypoints)
    assert isinstance(alone, Reference)
    named = Reference.read(tmp_path / "1.png", file, AnnotationKind.keypoints)
    assert alone.annotations.instances[0].label == named.annotations.instances[0].label
    target = load_image(tmp_path / "target.png")
    one, other = (open_transfer(stub_pipeline(), each, ReferenceChoice())(target) for each in (alone, named))
    np.testing.assert_array_equal(one[0].shape.points, other[0].shape.points)  # type: ignore[union-attr]
    assert [each.confidence for each in one] == [each.confidence for each in other]


def test_python_transfers_from_many(tmp_path: Path) -> None:
    file = write_references(tmp_path)
    transfer = geomatch.AnnotationTransfer(keypoints=file, references=3, pipeline=stub_pipeline())
    found = transfer(tmp_path / "target.png")
    transfer.save([found], tmp_path / "found.json")
    (annotation,) = json.loads((tmp_path / "found.json").read_text())["annotations"]
    np.testing.assert_allclose(np.reshape(annotation["keypoints"], (-1, 3))[:, :2], PLACES - (12, 10), atol=5)
    with pytest.raises(geomatch.GeomatchError, match="references is 0"):
        geomatch.AnnotationTransfer(keypoints=file, references=0, pipeline=stub_pipeline())
