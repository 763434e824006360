"""What SPair-71k says beyond positions: difficulty and numbers of keypoints; SPair-U, which has other keypoints."""

import json
from pathlib import Path

import pytest

from geomatch.datasets.benchmarks.spair import SPAIR_71K, SPAIR_U
from geomatch.datasets.pairs import AnnotatedPair, PairErrors
from geomatch.errors import InputError
from tests.datasets.layouts import spair_entry

FLAGS = {"viewpoint_variation": 2, "scale_variation": 0, "truncation": 1, "occlusion": 3}


def load(root: Path) -> AnnotatedPair:
    return SPAIR_71K.load(root, "val", PairErrors())[0]


def write_entry(root: Path, folder: str = "PairAnnotation/val", **changes: object) -> None:
    file = root / folder / "000000-x-y:cat.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(spair_entry(**changes)))


def write_keypoints(root: Path, folder: str = "ImageAnnotation", **shown: dict[int, tuple[float, float]]) -> None:
    """The annotations of the images x and y of cats; all 30 numbers are named, those that are absent as null."""
    (root / folder / "cat").mkdir(parents=True, exist_ok=True)
    for name, points in shown.items():
        entry = {"kps": {str(number): points.get(number) for number in range(30)}}
        (root / folder / "cat" / f"{name}.json").write_text(json.dumps(entry))


@pytest.fixture
def numbered(spair: Path) -> Path:
    """Both images show ear 2 and eye 4; x ear 3, too, and y the tail 13 and eye 5."""
    write_entry(spair, kps_ids=["2", "4"])
    (spair / "PairAnnotation" / "val" / "000001-x-y:cat-to-dog.json").unlink()
    write_keypoints(
        spair, x={2: (1, 2), 4: (3, 4), 3: (9, 8)}, y={2: (5, 6), 4: (7, 8), 13: (1, 1), 5: (2, 2), 3: (3, 3)}
    )
    return spair


def test_flags_name_the_difficulty(spair: Path) -> None:
    write_entry(spair, **FLAGS)
    assert load(spair).variations == ("viewpoint: hard", "scale: easy", "truncation: source", "occlusion: both")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"viewpoint_variation": 3}, "viewpoint_variation is 3; known are 0 to 2"),
        ({"truncation": -1}, "truncation is -1; known are 0 to 3"),
        ({"occlusion": "some"}, "'some' is not a whole number"),
        ({"kps_ids": ["1"]}, "2 source keypoints but 1 kps_ids"),
        ({"kps_ids": ["1", "tail"]}, "'tail' is not a whole number"),
        ({"kps_ids": 5}, "is not of the form it should have"),
    ],
)
def test_bad_flag_or_number_is_named(spair: Path, changes: dict[str, object], reason: str) -> None:
    write_entry(spair, **changes)
    with pytest.raises(InputError, match=rf"cat\.json: not a pair annotation of SPair.*{reason}"):
        load(spair)


def test_hidden_and_geometry_aware_keypoints(numbered: Path) -> None:
    """Of y's ears both are shown, so ear 2 has to be told apart; eyes are no such part for GeoAware-SC."""
    write_keypoints(numbered, x={2: (1, 2), 4: (3, 4), 3: (9, 8), 14: (30, 20)})
    pair = load(numbered)
    assert pair.hidden_points.tolist() == [[30, 20]]
    assert pair.geometry_aware.tolist() == [True, False]
    write_keypoints(numbered, y={2: (5, 6), 4: (7, 8)})
    pair = load(numbered)
    assert pair.hidden_points.tolist() == [[9, 8], [30, 20]]
    assert pair.geometry_aware.tolist() == [False, False]


def test_left_out_keypoints_leave_the_subset_too(numbered: Path) -> None:
    write_entry(numbered, kps_ids=["2", "4"], src_kps=[[1, 200], [3, 4]])
    write_keypoints(numbered, x={2: (1, 200), 4: (3, 4), 14: (300, 20)})
    pair = load(numbered)
    assert len(pair.source_points) == len(pair.geometry_aware) == 1
    assert pair.hidden_points.tolist() == [], "nothing can be read outside the image"


def test_without_image_annotations_nothing_is_known(spair: Path) -> None:
    write_entry(spair, kps_ids=["2", "4"])
    assert (load(spair).hidden_points, load(spair).geometry_aware) == (None, None)


def test_half_of_the_image_annotations_is_named(numbered: Path) -> None:
    file = numbered / "ImageAnnotation" / "cat" / "y.json"
    file.write_text('{"kps": {"0": [1]}}')
    with pytest.raises(InputError, match=r"y\.json: not an image annotation of SPair"):
        load(numbered)
    file.unlink()
    with pytest.raises(InputError, match=r"y\.json: missing; unpack the annotations again"):
        load(numbered)


@pytest.mark.parametrize("prefix", ["", "Extra"])
def test_spair_u_takes_images_of_spair_beside_it(spair: Path, prefix: str) -> None:
    """As its archive unpacks, or with the names of the authors' code."""
    root = spair.parent / "SPair-U"
    write_entry(root, f"{prefix}PairAnnotation/test", src_kps=[[9, 9]], trg_kps=[[8, 8]], kps_ids=["21"])
    write_keypoints(root, f"{prefix}ImageAnnotation", x={21: (9, 9), 22: (1, 1)}, y={21: (8, 8)})
    assert list(SPAIR_U.splits(root)) == ["test"]
    (pair,) = SPAIR_U.load(root, "test", PairErrors())
    assert pair.source.load().shape == (3, 30, 40)
    assert pair.source_points.tolist() == [[9, 9]]
    assert pair.hidden_points.tolist() == [[1, 1]]


def test_spair_u_without_images_says_whose_they_are(tmp_path: Path) -> None:
    write_entry(tmp_path / "SPair-U", "PairAnnotation/test")
    with pytest.raises(InputError, match=r"spair-u needs .*SPair-U/JPEGImages; .*SPair-71k\.tar\.gz beside it"):
        SPAIR_U.load(tmp_path / "SPair-U", "test", PairErrors())


def test_spair_u_is_not_spair(spair: Path) -> None:
    """The pairs of SPair-71k itself, which have a training split, are none of SPair-U."""
    for split in ("trn", "test"):
        write_entry(spair, f"PairAnnotation/{split}")
    assert list(SPAIR_U.splits(spair)) == []
    with pytest.raises(InputError, match=r"spair-u needs .*ExtraPairAnnotation/test; download SPair-U\.zip"):
        SPAIR_U.load(spair, "test", PairErrors())
