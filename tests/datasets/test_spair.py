import json
from pathlib import Path

import pytest
from PIL import Image

from geomatch.datasets.benchmarks.spair import ANIMAL_PARTS, SPAIR_71K
from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import PairErrors
from geomatch.errors import GeomatchWarning, InputError
from tests.datasets.layouts import spair_entry


def load(root: Path) -> list:
    return SPAIR_71K.load(root, "val", PairErrors())


def replace_first(root: Path, entry: object) -> None:
    (root / "PairAnnotation" / "val" / "000000-x-y:cat.json").write_text(json.dumps(entry))


def test_pairs_with_class_per_side_are_grouped(spair: Path) -> None:
    within, across = ANIMAL_PARTS.load(spair, "val", PairErrors())
    assert (within.target.name, across.target.name) == ("JPEGImages/cat/y.jpg", "JPEGImages/dog/y.jpg")
    assert (within.category, across.category) == ("cat", "cat-to-dog")
    assert (within.group, across.group) == ("within", "across")
    assert within.source_points.tolist() == [[1, 2], [3, 4]]
    assert within.target_points.tolist() == [[5, 6], [7, 8]]
    assert (within.source_box, within.target_box) == ((0, 0, 10, 12), (0, 0, 20, 30))


def test_pairs_of_spair_have_no_group(spair: Path) -> None:
    replace_first(spair, spair_entry())
    assert load(spair)[0].group is None


def test_layout_names_missing_pairs_ignoring_colons(spair: Path) -> None:
    (spair / "Layout" / "large").mkdir(parents=True)
    layout = spair / "Layout" / "large" / "val.txt"
    layout.write_text("000000-x-y:cat\n000001-x-y:cat-to-dog\n")
    file = spair / "PairAnnotation" / "val" / "000000-x-y:cat.json"
    file.rename(file.with_name("000000-x-y_cat.json"))
    assert len(load(spair)) == 2
    layout.write_text("000000-x-y:cat\n000001-x-y:cat-to-dog\n000002-p-q:cow\n")
    with pytest.raises(InputError, match=r"spair-71k needs .*000002-p-q:cow\.json; download SPair-71k\.tar\.gz"):
        load(spair)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (spair_entry(src_imname="z.jpg"), r"cat\.json: .*z\.jpg is missing"),
        (spair_entry(src_imname="../../z.jpg"), "must be a path below"),
        (spair_entry(src_kps=[[1, 2]]), "1 source keypoints but 2 target"),
        (spair_entry(src_kps=[], trg_kps=[]), "no keypoint in common"),
        (spair_entry(src_kps=[[5, 36], [None, 2]]), r"source keypoint \(5, 36\) lies outside .*40x30"),
        (spair_entry(trg_bndbox=[5, 5, 5, 9]), "box without area"),
        (spair_entry(trg_bndbox=[5, 5, 9]), "not a pair annotation"),
        (spair_entry(trg_bndbox=[float("-inf"), 5, float("inf"), 9]), "box without area"),
        (spair_entry(src_kps=[[10**400, 2], [3, 4]]), "not a pair annotation"),
        ({"category": "cat"}, "not a pair annotation"),
        ([1], "not a pair annotation"),
    ],
)
def test_bad_annotation_is_named_or_counted(spair: Path, entry: object, reason: str) -> None:
    replace_first(spair, entry)
    with pytest.raises(InputError, match=reason):
        SPAIR_71K.load(spair, "val", PairErrors(strict=True))
    bad = PairErrors(skip=True)
    assert len(SPAIR_71K.load(spair, "val", bad)) == 1
    assert len(bad.reasons) == 1


@pytest.mark.filterwarnings("ignore:.*has 2 of the")
@pytest.mark.parametrize("box", ["5 6 20 9", "5,6, 20,9.0", ["5", "6", "20", "9"]])
def test_box_may_be_written_as_text(spair: Path, box: object) -> None:
    replace_first(spair, spair_entry(src_bndbox=box))
    assert SPAIR_71K.load(spair, "val", PairErrors(strict=True))[0].source_box == (5, 6, 20, 9)


@pytest.mark.filterwarnings("ignore:.*has 2 of the")
@pytest.mark.parametrize(
    "changes",
    [
        {"src_kps": [], "trg_kps": []},
        {"src_kps": [[5, 36], [50, 3]]},
        {"trg_kps": [None, [None, None]]},
        {"src_kps": [[-9, 1], None]},
    ],
)
def test_pair_without_a_usable_keypoint_is_left_out(spair: Path, changes: dict[str, object]) -> None:
    """It stops no benchmark: it is counted in one note, and refused only if that is asked for."""
    changed = spair_entry(**changes)
    replace_first(spair, changed)
    with pytest.warns(GeomatchWarning, match=r"1 pair\(s\) of spair-71k have no usable keypoint.*--strict refuses"):
        found = load_dataset("spair-71k", spair, split="val")
    assert (len(found.pairs), len(found.skipped)) == (1, 1)
    with pytest.raises(InputError):
        load_dataset("spair-71k", spair, split="val", strict=True)


@pytest.mark.parametrize(
    ("points", "left"),
    [
        ({"src_kps": [[1, 2], [7, 31.5]]}, [0]),
        ({"src_kps": [[1, 2], None]}, [0]),
        ({"trg_kps": [[None, None], [7, 8]]}, [1]),
        ({"trg_kps": [[5, 6], [7, 900]]}, [0, 1]),  # nothing is read there
    ],
)
def test_keypoint_that_cannot_be_read_is_left_out(spair: Path, points: dict[str, object], left: list[int]) -> None:
    replace_first(spair, spair_entry(**points))
    errors = PairErrors()
    pair = SPAIR_71K.load(spair, "val", errors)[0]
    assert pair.source_points.tolist() == [[[1, 2], [3, 4]][k] for k in left]
    assert len(pair.target_points) == len(left)
    assert len(errors.keypoints) == 2 - len(left)
    if errors.keypoints:
        with pytest.warns(GeomatchWarning, match="1 keypoint"):
            load_dataset("animal-parts", spair, split="val")
        with pytest.raises(InputError, match="source keypoint"):
            load_dataset("animal-parts", spair, split="val", strict=True)


def test_resource_forks_of_a_mac_are_no_annotations(spair: Path) -> None:
    (spair / "PairAnnotation" / "val" / "._000000-x-y:cat.json").write_bytes(b"\0\5\x16\7Mac OS X\xff")
    assert len(load(spair)) == 2


def test_damaged_image_is_named(spair: Path) -> None:
    (spair / "JPEGImages" / "cat" / "x.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"x\.jpg: damaged or not an image"):
        load(spair)


def test_points_are_in_shown_image(spair: Path) -> None:
    """A photograph stored on its side is turned on reading, so its height counts as width here too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(spair / "JPEGImages" / "cat" / "x.jpg", exif=exif)
    replace_first(spair, spair_entry(src_kps=[[35, 2], [3, 4]]))
    assert load(spair)[0].source_points[0].tolist() == [35, 2]


@pytest.mark.realdata
def test_real_pairs_are_read(real_data: Path) -> None:
    with pytest.warns(GeomatchWarning, match="105 of the 5,384"):
        assert len(load_dataset("spair-71k", real_data / "SPair-71k", split="val").pairs) == 105
    animals = load_dataset("animal-parts", real_data / "animal-parts", split="val").pairs
    assert len(animals) == 300
    assert {pair.group for pair in animals} == {"within", "across"}
