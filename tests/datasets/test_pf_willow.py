from pathlib import Path

import numpy as np
import pytest
import scipy.io

from geomatch.datasets.benchmarks.pf_willow import CLASSES, KEYPOINTS, PF_WILLOW
from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import PairErrors
from geomatch.errors import InputError


def load(root: Path) -> list:
    return PF_WILLOW.load(root, "test", PairErrors())


def write_list(root: Path, *rows: list[object]) -> None:
    columns = ["imageA", "imageB", *(f"{axis}{image}{k}" for image in "AB" for axis in "XY" for k in range(1, 11))]
    lines = [",".join(map(str, row)) for row in (columns, *rows)]
    (root / "test_pairs_pf.csv").write_text("\n".join(lines) + "\n")


def row(**changes: object) -> list[object]:
    values = {"a": "PF-dataset/duck(S)/a.png", "b": "PF-dataset/duck(S)/b.png", "points": list(range(1, 41))} | changes
    return [values["a"], values["b"], *values["points"]]


def test_all_ordered_pairs_of_a_class_from_zero(willow: Path) -> None:
    pairs = load(willow)
    assert len(pairs) == 20
    assert [(pair.source.name, pair.target.name) for pair in pairs[:2]] == [
        ("car(G)/a.png", "car(G)/b.png"),
        ("car(G)/b.png", "car(G)/a.png"),
    ]
    assert pairs[0].source_points[0].tolist() == [0.0, 10.0]


def test_parent_folder_is_accepted(willow: Path) -> None:
    assert len(load(willow.parent)) == 20


def test_list_replaces_missing_annotations(willow: Path) -> None:
    for annotation in willow.rglob("*.mat"):
        annotation.unlink()
    write_list(willow.parent, row(points=[*range(1, 21), *range(2, 22)]))
    (pair,) = load(willow.parent)
    assert pair.category == "duck(S)"
    assert pair.source_points.tolist() == [[k, k + KEYPOINTS] for k in range(KEYPOINTS)]
    assert pair.target_points.tolist() == [[k + 1, k + KEYPOINTS + 1] for k in range(KEYPOINTS)]


def test_padding_is_not_a_keypoint(willow: Path) -> None:
    for annotation in willow.rglob("*.mat"):
        annotation.unlink()
    write_list(willow, row(points=[*range(21, 30), -1, *range(11, 20), -1, *range(21, 30), -1, *range(11, 20), -1]))
    (pair,) = load(willow)
    assert len(pair.source_points) == 9
    assert np.ptp(pair.target_points, axis=0).tolist() == [8, 8]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"points": ["x", *range(2, 41)]}, r"test_pairs_pf.csv, line 2: XA1 to YB10 must be numbers"),
        ({"points": list(range(1, 40))}, r"line 2: has 41 columns of 42"),
        ({"a": "geese/a.png"}, r"line 2: .*geese.* is missing"),
        ({"points": list(range(41, 81))}, r"line 2: source keypoint \(40, 50\) lies outside"),
        ({"points": [-1] * 40}, r"line 2: the two images have no keypoint in common"),
    ],
)
def test_bad_row_is_named_or_counted(willow: Path, changes: dict[str, object], reason: str) -> None:
    for annotation in willow.rglob("*.mat"):
        annotation.unlink()
    write_list(willow, row(**changes), row(points=list(range(1, 11)) * 4))
    with pytest.raises(InputError, match=reason):
        PF_WILLOW.load(willow, "test", PairErrors(strict=True))
    bad = PairErrors(skip=True)
    assert len(PF_WILLOW.load(willow, "test", bad)) == 1
    assert len(bad.reasons) == 1


def test_missing_classes_are_named(willow: Path) -> None:
    (willow / "duck(S)").rename(willow / "geese")
    with pytest.raises(InputError, match=r"pf-willow needs .*duck\(S\); download PF-dataset\.zip from https://"):
        load(willow)


def test_missing_image_and_malformed_annotation_are_named(willow: Path) -> None:
    annotation = willow / "car(M)" / "b.mat"
    scipy.io.savemat(annotation, {"pts_coord": np.ones((3, 10))})
    with pytest.raises(InputError, match=r"b\.mat: 'pts_coord' must be 2 x K"):
        load(willow)
    annotation.write_bytes(b"no matlab file")
    with pytest.raises(InputError, match=r"b\.mat: not a readable Matlab file"):
        load(willow)
    (willow / "car(G)" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png is missing"):
        load(willow)


def test_training_split_is_refused(willow: Path) -> None:
    with pytest.raises(InputError, match="pf-willow has no split 'trn'; choose from test"):
        PF_WILLOW.load(willow, "trn", PairErrors())


@pytest.mark.realdata
def test_real_benchmark_has_published_size(real_data: Path) -> None:
    dataset = load_dataset("pf-willow", real_data / "PF-dataset")
    assert (len(dataset.pairs), dataset.keypoints) == (900, 9000)
    assert {pair.category for pair in dataset.pairs} == set(CLASSES)
