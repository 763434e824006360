from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from geomatch.datasets.benchmarks.pf_pascal import PF_PASCAL, VOC_CLASSES
from geomatch.datasets.pairs import AnnotatedPair, PairErrors
from geomatch.errors import GeomatchWarning, InputError
from tests.datasets.layouts import write_pf_pascal

WITH_POINTS = "source_image,target_image,class,XA,YA,XB,YB"
WITH_FLIP = "source_image,target_image,class,flip"
FOLDER = "PF-dataset-PASCAL"
PAIR = f"{FOLDER}/JPEGImages/a.jpg,{FOLDER}/JPEGImages/b.jpg"
GOOD = f"{PAIR},8,2;12,3;13,4;14,5;15"
ABSENT = (np.nan, np.nan)


def write_list(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_annotation(root: Path, image: str, kps: object, bbox: object) -> None:
    path = root / FOLDER / "Annotations" / "cat" / f"{image}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"kps": np.array(kps, dtype=float), "bbox": np.array(bbox, dtype=float)})


@pytest.fixture
def pascal(tmp_path: Path) -> Path:
    """Two cats, of 40x30 and 50x20 pixels, each white at its first keypoint; no list of pairs."""
    images = tmp_path / FOLDER / "JPEGImages"
    images.mkdir(parents=True)
    for name, size, first in (("a", (40, 30), (4, 5)), ("b", (50, 20), (6, 7))):
        image = Image.new("RGB", size)
        image.putpixel(first, (255, 255, 255))
        image.save(images / f"{name}.jpg", format="PNG")  # which, unlike JPEG, keeps the pixel sharp
    write_annotation(tmp_path, "a", [(5, 6), ABSENT, (11, 12), (3, 4)], [[1, 2, 21, 26]])
    write_annotation(tmp_path, "b", [(7, 8), (9, 10), (13, 14), ABSENT], [[4, 1, 40, 20]])
    return tmp_path


def load(root: Path, split: str = "test") -> list[AnnotatedPair]:
    return PF_PASCAL.load(root, split, PairErrors())


def test_listed_points_and_boxes_count_from_one(pascal: Path) -> None:
    write_list(pascal / "image_pairs" / "test_pairs.csv", WITH_POINTS, GOOD)
    (pair,) = load(pascal)
    assert (pair.source.name, pair.target.name) == ("JPEGImages/a.jpg", "JPEGImages/b.jpg")
    assert (pair.category, pair.origin) == ("cat", "test_pairs.csv, line 2")
    assert pair.source_points.tolist() == [[1, 2], [11, 12]]
    assert pair.target_points.tolist() == [[3, 4], [13, 14]]
    assert (pair.source_box, pair.target_box) == ((0, 1, 20, 25), (3, 0, 39, 19))


def test_list_without_points_uses_common_annotations(pascal: Path) -> None:
    write_list(pascal / "image_pairs" / "train_pairs.csv", WITH_FLIP, f"{PAIR},8,0")
    (pair,) = load(pascal, "trn")
    assert pair.source_points.tolist() == [[4, 5], [10, 11]]
    assert pair.target_points.tolist() == [[6, 7], [12, 13]]


def test_keypoints_without_partner_are_kept_apart(pascal: Path) -> None:
    write_list(pascal / "test_pairs.csv", WITH_POINTS, f"{PAIR},8,5,6,7,8")
    write_list(pascal / "val_pairs.csv", WITH_FLIP, f"{PAIR},8,1")
    (pair,), (flipped,) = load(pascal), load(pascal, "val")
    assert (len(pair.source_points), len(pair.target_points)) == (1, 1)
    assert pair.in_source.tolist() == [[4, 5], [10, 11], [2, 3]]
    assert pair.in_target.tolist() == [[6, 7], [8, 9], [12, 13]]
    assert flipped.in_source.tolist() == [[35, 5], [29, 11], [37, 3]]


def test_list_of_three_columns_uses_annotations(pascal: Path) -> None:
    """As HPF's val_pairs.csv and test_pairs.csv: neither points nor flip."""
    write_list(pascal / "test_pairs.csv", "source_image,target_image,class", "a.jpg,b.jpg,8")
    (pair,) = load(pascal)
    assert not pair.source.mirrored
    assert pair.source_points.tolist() == [[4, 5], [10, 11]]
    assert pair.target_points.tolist() == [[6, 7], [12, 13]]


def test_annotations_of_unequal_length_share_their_first_rows(pascal: Path) -> None:
    write_annotation(pascal, "b", [(7, 8), (9, 10)], [[4, 1, 40, 20]])
    write_list(pascal / "test_pairs.csv", "source_image,target_image,class", f"{PAIR},8")
    (pair,) = load(pascal)
    assert (pair.source_points.tolist(), pair.target_points.tolist()) == ([[4, 5]], [[6, 7]])


@pytest.mark.parametrize("place", [FOLDER, "."])
def test_zip_alone_gives_scnets_split(tmp_path: Path, place: str) -> None:
    """First ceil(7 n / 13) of a class train, half of the rest, rounded up, validation: makeGT_combine_PASCAL.m."""
    write_pf_pascal(tmp_path / FOLDER, {"cat": 14, "aeroplane": 3})
    root = tmp_path / place
    assert PF_PASCAL.splits(root) == ["trn", "val", "test"]
    with pytest.warns(GeomatchWarning) as warned:
        train, validation, test = (load(root, split) for split in ("trn", "val", "test"))
    overlap, *sources = (str(each.message) for each in warned)
    assert overlap.startswith("parsePascalVOC.mat: 7 of its 9 images are also in the validation or test")
    assert [each.split(" pairs")[0] for each in sources] == [
        f"no list of the {name}" for name in ("trn", "val", "test")
    ]
    assert all("SCNet's split, each once" in each for each in sources)
    assert [PF_PASCAL.published(root, split) for split in ("trn", "test")] == [None, None]
    numbers = [[(pair.category, pair.origin.split()[-1]) for pair in split] for split in (train, validation, test)]
    assert numbers[0] == [*(("aeroplane", each) for each in "12"), *(("cat", each) for each in "12345678")]
    assert numbers[1] == [("aeroplane", "3"), *(("cat", each) for each in ("9", "10", "11"))]
    assert numbers[2] == [("cat", each) for each in ("12", "13", "14")]
    first, second, third = test
    assert (first.source.name, first.target.name) == ("JPEGImages/cat_5.jpg", "JPEGImages/cat_0.jpg")
    assert first.origin == "parsePascalVOC.mat, cat 12"
    assert first.source_points.tolist() == [[4, 5], [15, 11]]
    assert second.source_points.tolist() == [[4, 5], [10, 11], [2, 3]]
    assert third.source_box == (0, 1, 20, 25)


def test_lists_go_before_pairs_of_the_zip(tmp_path: Path) -> None:
    write_pf_pascal(tmp_path / FOLDER, {"cat": 14})
    write_list(tmp_path / "image_pairs" / "test_pairs.csv", WITH_POINTS, "cat_1.jpg,cat_3.jpg,8,5,6,5,6")
    assert [pair.origin for pair in load(tmp_path)] == ["test_pairs.csv, line 2"]
    assert PF_PASCAL.published(tmp_path, "test") == 299
    with pytest.warns(GeomatchWarning, match="no list of the val pairs"):
        assert len(load(tmp_path, "val")) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"PascalVOC": {"image": 1.0}}, "must be a struct with the field 'pair'"),
        ({"PascalVOC": 3.0}, "must be a struct with the field 'pair'"),
        ({"PascalVOC": {"pair": np.zeros((1, 20))}}, "must have a cell for each of the 20 classes"),
        ({"PascalVOC": {"pair": np.full((1, 3), "a", object)}}, "must have a cell for each of the 20 classes"),
        ({"PascalVOC": {"pair": np.full((1, 20), "ab", object)}}, "the pairs of aeroplane must be n x 2 names"),
        ({"other": 3.0}, "has no variable 'PascalVOC'"),
    ],
)
def test_damaged_catalogue_is_named(tmp_path: Path, content: dict[str, object], reason: str) -> None:
    root = write_pf_pascal(tmp_path / FOLDER, {"cat": 14})
    scipy.io.savemat(root / "parsePascalVOC.mat", content)
    with pytest.raises(InputError, match=rf"parsePascalVOC\.mat: .*{reason}"):
        load(root)


def test_half_of_a_download_is_named(tmp_path: Path) -> None:
    root = write_pf_pascal(tmp_path / FOLDER, {"cat": 14})
    (root / "parsePascalVOC.mat").write_bytes((root / "parsePascalVOC.mat").read_bytes()[:300])
    with pytest.raises(InputError, match=r"parsePascalVOC\.mat: not a readable Matlab file"):
        load(root)
    (root / "parsePascalVOC.mat").unlink()
    (root / "Annotations").rename(root / "elsewhere")
    with pytest.raises(
        InputError, match=r"needs .*/Annotations, .*/parsePascalVOC\.mat; download PF-dataset-PASCAL\.zip"
    ):
        load(root)


def test_flipped_pair_is_mirrored(pascal: Path) -> None:
    write_list(pascal / "image_pairs" / "train_pairs.csv", WITH_FLIP, f"{PAIR},8,0", f"{PAIR},8,1")
    plain, pair = load(pascal, "trn")
    assert pair.source_points.tolist() == [[39 - 4, 5], [39 - 10, 11]]
    assert pair.target_points.tolist() == [[49 - 6, 7], [49 - 12, 13]]
    assert (pair.source_box, pair.target_box) == ((19, 1, 39, 25), (10, 0, 46, 19))
    for image, (x, y) in ((pair.source, (35, 5)), (pair.target, (43, 7))):
        assert image.load()[0].nonzero().tolist() == [[y, x]]
    assert plain.source.fingerprint() != pair.source.fingerprint()


@pytest.mark.parametrize("padding", ["-1", "nan"])
def test_padding_is_not_a_keypoint(pascal: Path, padding: str) -> None:
    padded = ",".join(f"{value};{value + 9};{padding}" for value in (10, 3, 4, 5))
    write_list(pascal / "test_pairs.csv", WITH_POINTS, f"{PAIR},8,{padded}")
    (pair,) = load(pascal)
    assert np.ptp(pair.source_points, axis=0).tolist() == [9, 9]
    assert np.ptp(pair.target_points, axis=0).tolist() == [9, 9]


@pytest.mark.parametrize("root", [".", FOLDER])
@pytest.mark.parametrize("folder", [".", "image_pairs", FOLDER, f"{FOLDER}/image_pairs"])
@pytest.mark.parametrize(
    ("split", "name"),
    [
        ("trn", "trn_pairs.csv"),
        ("trn", "train_pairs_pf_pascal.csv"),
        ("val", "val_pairs_pf_pascal.csv"),
        ("test", "test_pairs_pf_pascal.csv"),
    ],
)
def test_lists_are_found_under_every_name(pascal: Path, root: str, folder: str, split: str, name: str) -> None:
    write_list(pascal / folder / name, WITH_POINTS, GOOD)
    assert PF_PASCAL.splits(pascal / root) == [split]
    assert len(load(pascal / root, split)) == 1


def test_training_images_in_other_splits_are_warned_of(pascal: Path) -> None:
    write_list(pascal / "image_pairs" / "train_pairs.csv", WITH_FLIP, f"{PAIR},8,0")
    write_list(pascal / "image_pairs" / "val_pairs.csv", WITH_POINTS, "a.jpg,a.jpg,8,1,1,1,1")
    with pytest.warns(GeomatchWarning, match=r"train_pairs\.csv: 1 of its 2 images are also in the validation or test"):
        assert len(load(pascal, "trn")) == 1


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        (WITH_POINTS, f"{PAIR},8,2;12,3;13,4;14", "has nothing in the column 'YB'"),
        (WITH_POINTS, f"{PAIR},8,2;x,3;13,4;14,5;15", "must be numbers joined by ';'"),
        (WITH_POINTS, f"{PAIR},8,2,3;13,4;14,5;15", "as many x as y"),
        (WITH_POINTS, f"{PAIR},8,2,3,4;14,5;15", "1 source keypoints but 2 target keypoints"),
        (WITH_POINTS, f"{PAIR},8,42,3,4,5", r"source keypoint \(41, 2\) lies outside JPEGImages/a\.jpg, 40x30 pixels"),
        (WITH_POINTS, f"{PAIR},8,2;-1,3;-1,-1;4,-1;5", "no keypoint in common"),
        (WITH_POINTS, f"{PAIR},0,2,3,4,5", "class is '0' and must be 1 to 20"),
        (WITH_POINTS, "a.jpg,c.jpg,8,2,3,4,5", r"JPEGImages/c\.jpg is missing"),
        (WITH_POINTS, "a.jpg,..,8,2,3,4,5", r"must be a path below"),
        (WITH_POINTS, "a.jpg,../../../c.jpg,8,2,3,4,5", rf"{FOLDER}/JPEGImages/c\.jpg is missing"),
        (WITH_FLIP, f"{PAIR},8,2", "flip is '2' and must be 0 or 1"),
        ("source_image,target_image,class", f"{PAIR},x", "class is 'x' and must be 1 to 20"),
        (WITH_FLIP, f"{PAIR},8", "has nothing in the column 'flip'"),
        (WITH_FLIP, f"{PAIR},9,0", r"has no points, and .*Annotations/chair has no \.mat of JPEGImages/a\.jpg"),
    ],
)
def test_bad_row_is_named_or_counted(pascal: Path, header: str, row: str, reason: str) -> None:
    good = GOOD if header == WITH_POINTS else f"{PAIR},8,0"
    write_list(pascal / "test_pairs.csv", header, good, row, good)
    with pytest.raises(InputError, match=rf"test_pairs\.csv, line 3: .*{reason}"):
        PF_PASCAL.load(pascal, "test", PairErrors(strict=True))
    bad = PairErrors(skip=True)
    assert len(PF_PASCAL.load(pascal, "test", bad)) == 2
    assert len(bad.reasons) == 1


def test_malformed_annotation_or_image_is_named(pascal: Path) -> None:
    write_list(pascal / "test_pairs.csv", WITH_POINTS, GOOD)
    write_annotation(pascal, "b", [(1, 2, 3)], [[1, 1, 9, 9]])
    with pytest.raises(InputError, match=r"Annotations/cat/b\.mat: 'kps' must be K x 2"):
        load(pascal)
    write_annotation(pascal, "b", [(1, 2)], [[1, 1, 9, np.nan]])
    with pytest.raises(InputError, match=r"Annotations/cat/b\.mat: 'bbox' must be 4 finite numbers"):
        load(pascal)
    annotation = pascal / FOLDER / "Annotations" / "cat" / "b.mat"
    annotation.write_bytes(b"no matlab file")
    with pytest.raises(InputError, match=r"b\.mat: not a readable Matlab file"):
        load(pascal)
    annotation.unlink()
    (pascal / FOLDER / "JPEGImages" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.jpg: damaged or not an image"):
        load(pascal)


def test_unknown_and_missing_splits_are_named(tmp_path: Path) -> None:
    assert PF_PASCAL.splits(tmp_path) == []
    with pytest.raises(InputError, match="pf-pascal has no split 'train'; choose from trn, val, test"):
        load(tmp_path, "train")
    with pytest.raises(
        InputError,
        match=r"needs .*/JPEGImages, .*/parsePascalVOC\.mat; download .*image_pairs/test_pairs\.csv.*https",
    ):
        load(tmp_path)


@pytest.mark.realdata
def test_real_pairs_are_read(real_data: Path) -> None:
    pairs = load(real_data / "pf-pascal")
    assert len(pairs) == 20
    assert {pair.category for pair in pairs} <= set(VOC_CLASSES)
    assert all(len(pair.source_points) for pair in pairs)
