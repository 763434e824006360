"""Files and folders that annotate many images: each image's annotations are those of a file of that image alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from geomatch.errors import InputError
from geomatch.io.annotations.files import gather_annotations
from geomatch.io.annotations.omissions import Omissions
from geomatch.options import AnnotationKind
from geomatch.transfer.references.marked_images import MarkedImages

SIZE = (40, 60)


def document() -> dict[str, Any]:
    return {
        "images": [{"id": number, "file_name": f"photos/{name}.png"} for number, name in ((7, "a"), (8, "b"))],
        "categories": [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"]}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "keypoints": [1, 2, 2, 3, 4, 1], "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": "8", "category_id": 3, "keypoints": [5, 6, 2, 0, 0, 0]},
        ],
    }


def points(marked: MarkedImages, name: str) -> list[list[tuple[str, list[float]]]]:
    """Names and positions of the keypoints of every object on an image."""
    file = marked.sources[name]()
    found = gather_annotations(file, AnnotationKind.keypoints, Path(name), SIZE, marked.omissions)
    return [[(own, place) for own, place, *_ in each.shape.rounded()] for each in found.instances]  # type: ignore[union-attr]


def test_coco_document_of_several_images(tmp_path: Path) -> None:
    file = tmp_path / "refs.json"
    file.write_text(json.dumps(document()))
    marked = MarkedImages.open(file, AnnotationKind.keypoints)
    assert list(marked.sources) == ["photos/a.png", "photos/b.png"]
    assert points(marked, "photos/a.png") == [[("nose", [1, 2]), ("tail", [3, 4])]]
    assert points(marked, "photos/b.png") == [[("nose", [5, 6])]]


def test_table_and_labelme_folder(tmp_path: Path) -> None:
    table = tmp_path / "refs.csv"
    table.write_text("image,name,x,y\na.png,nose,1,2\nb.png,nose,5,6\na.png,tail,3,4\n")
    marked = MarkedImages.open(table, AnnotationKind.keypoints)
    assert points(marked, "a.png") == [[("nose", [1, 2]), ("tail", [3, 4])]]
    folder = tmp_path / "labelme"
    folder.mkdir()
    for name, place in (("a", [1.5, 2.5]), ("b", [5.5, 6.5])):
        shape = {"label": "nose", "points": [place], "shape_type": "point", "group_id": None}
        (folder / f"{name}.json").write_text(json.dumps({"shapes": [shape], "imagePath": f"../{name}.png"}))
    (folder / "other.json").write_text("{}")
    found = MarkedImages.open(folder, AnnotationKind.keypoints)
    assert points(found, "../b.png") == [[("nose", [5, 6])]]
    assert "1 JSON file that is not labelme's" in found.omissions.summary()
    (tmp_path / "a.png").touch()
    assert list(found.locate()) == [folder / "../a.png"]


def test_images_are_found_beside_the_file_and_where_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "refs.json"
    file.write_text(json.dumps(document()))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    marked = MarkedImages.open(file, AnnotationKind.keypoints)
    assert list(marked.locate()) == [tmp_path / "photos" / "a.png"]
    assert marked.omissions.faults == ["photos/b.png: no such image"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.png").touch()
    assert list(marked.locate([elsewhere])) == [elsewhere / "b.png"]
    assert list(marked.locate([elsewhere / "b.png"])) == [elsewhere / "b.png"]
    with pytest.raises(InputError, match=r"annotates no image named refs\.json"):
        marked.locate([file])
    assert list(marked.locate(last=[elsewhere])) == [tmp_path / "photos" / "a.png", elsewhere / "b.png"]
    (tmp_path / "photos" / "a.png").unlink()
    with pytest.raises(InputError, match="none of the 2 images that it annotates is in the current folder or in"):
        marked.locate()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("refs.csv", "name,x,y\nnose,1,2\n", "does not say which image a row is of"),
        ("refs.json", "{}", "neither COCO"),
        ("refs.png", "", "cannot annotate several images"),
        ("refs.json", "[", "not JSON"),
    ],
)
def test_what_names_no_images_is_refused(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        MarkedImages.open(tmp_path / name, AnnotationKind.keypoints)


def test_two_images_of_one_name_are_a_fault(tmp_path: Path) -> None:
    twice = document()
    twice["images"][1]["file_name"] = "photos/a.png"
    file = tmp_path / "refs.json"
    file.write_text(json.dumps(twice))
    marked = MarkedImages.open(file, AnnotationKind.keypoints)
    assert marked.omissions.faults == ["image 8: has the name of another, 'photos/a.png'"]
    assert isinstance(marked.omissions, Omissions)
    with pytest.raises(InputError, match="image 8: has the name of another"):
        MarkedImages.open(file, AnnotationKind.keypoints, strict=True)
