"""Poses of YOLO: files of labels, and what data.yaml says of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.annotations import AnnotatedImage, Annotations, Category, Instance, Keypoints, Target, mirror_partners
from geomatch.errors import GeomatchWarning, InputError, MissingLibraryError
from geomatch.io.annotations.exports import yolo
from geomatch.io.annotations.files import open_output, read_annotations
from geomatch.options import AnnotationFormat, AnnotationKind, Existing
from geomatch.transfer.references.marked_images import MarkedImages

SIZE = (40, 80)
NAMES = ("left_eye", "nose", "right_eye")
POINTS = np.array([[10.0, 4], [20.5, 30], [60, 6.25]])
SEEN = np.array([2, 0, 1])


def write_poses(root: Path) -> Path:
    """A folder of labels as transfer writes it, of two images, and its images beside it."""
    reference = Annotations([], AnnotationFormat.coco, [Category(1, "cat", NAMES), Category(2, "owl", NAMES)])
    targets = [Target(Path(f"{stem}.png"), number, stem) for number, stem in enumerate("ab")]
    output = open_output(
        root / "labels", AnnotationFormat.yolo, AnnotationKind.keypoints, reference, targets, existing=Existing.refused
    )
    (root / "images").mkdir()
    for target in targets:
        owl = Instance("owl", 1, Keypoints(NAMES, POINTS, SEEN), confidence=0.5)
        output.add(target, AnnotatedImage(target.image.name, SIZE, [owl]))
        Image.new("RGB", SIZE[::-1]).save(root / "images" / target.image.name)
    output.close()
    return root / "labels"


def read(file: Path) -> Keypoints:
    (found,) = read_annotations(file, AnnotationKind.keypoints, Path("a.png"), SIZE).instances
    assert isinstance(found.shape, Keypoints)
    return found.shape


def test_poses_are_read_as_they_were_written(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = write_poses(tmp_path) / "a.txt"
    (found,) = read_annotations(file, AnnotationKind.keypoints, Path("a.png"), SIZE).instances
    assert (found.label, read(file).names) == ("owl", NAMES)
    assert read(file).visibility.tolist() == SEEN.tolist()
    np.testing.assert_allclose(read(file).points[SEEN > 0], POINTS[SEEN > 0], atol=1e-4)


def test_folder_of_poses_annotates_the_images_beside_it(tmp_path: Path) -> None:
    labels = write_poses(tmp_path)
    (labels / "notes.txt").write_text("to do")
    (labels / "c.txt").write_text("")
    found = MarkedImages.open(labels, AnnotationKind.keypoints)
    assert list(found.locate()) == [tmp_path / "images" / "a.png", tmp_path / "images" / "b.png"]
    before = found.sha256
    (labels / "data.yaml").write_text("names: [x]\n")
    assert MarkedImages.open(labels, AnnotationKind.keypoints).sha256 != before


def test_folder_of_annotations_in_the_current_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_poses(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert next(iter(MarkedImages.open(Path("labels"), AnnotationKind.keypoints).locate())) == Path("images/a.png")
    Path("marked").mkdir()
    Path("marked/a.json").write_text('{"shapes": [], "imagePath": "../images/a.png"}')
    assert len(MarkedImages.open(Path("marked"), AnnotationKind.keypoints).locate()) == 1


def test_poses_without_names_keep_the_sides_that_flip_idx_tells(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = write_poses(tmp_path) / "a.txt"
    (tmp_path / "labels" / "data.yaml").unlink()
    (tmp_path / "data.yaml").write_text("names: [cat, owl]\nkpt_shape: [3, 3]\nflip_idx: [2, 1, 0]\n")
    with pytest.warns(GeomatchWarning, match="of two that flip_idx exchanges the first is called left"):
        found = read(file)
    assert found.names == ("left 1", "2", "right 1")
    assert mirror_partners(found.names) == [2, 1, 0]


def test_poses_without_data_file_are_numbered(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("0 .5 .5 .5 .5 .25 .5 2 .75 .5 1\n")
    assert read(file).names == ("1", "2")
    assert read(file).points.tolist() == [[19.5, 19.5], [59.5, 19.5]]
    file.write_text("0 .5 .5 .5 .5 .25 .5 .75 .5\n")
    with pytest.raises(InputError, match=r"line 1: 9 numbers are no class, box and x, y, visibility"):
        read(file)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("flip_idx: [1, 2, 0]", "flip_idx does not exchange points in pairs"),
        ("kpt_shape: [3, 4]", "kpt_shape is .*; it should be"),
        ("kpt_shape: [2, 3]", "has 9 numbers after its box; kpt_shape"),
        ("names: [", "not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "not YAML"),
        ("- 1", "not of the form"),
        ("kpt_names: 3", "not of the form"),
    ],
)
def test_damaged_data_file_is_refused(data: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = write_poses(tmp_path) / "a.txt"
    (tmp_path / "labels" / "data.yaml").write_text(data)
    with pytest.raises(InputError, match=said):
        read(file)


def test_data_file_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    yolo._parse.cache_clear()
    with pytest.raises(MissingLibraryError, match=r"pip install 'geomatch\[yolo\]'"):
        read(write_poses(tmp_path) / "a.txt")
