import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from geomatch.datasets.pf_willow import CLASSES
from geomatch.datasets.registry import load_dataset
from geomatch.errors import InputError


@pytest.fixture
def willow(tmp_path: Path) -> Path:
    """PF-WILLOW's layout with two images a class."""
    for number, category in enumerate(CLASSES):
        (tmp_path / category).mkdir()
        for name in ("a", "b"):
            Image.new("RGB", (40, 30)).save(tmp_path / category / f"{name}.png")
            points = np.arange(20.0).reshape(2, 10) + number + 1
            scipy.io.savemat(tmp_path / category / f"{name}.mat", {"pts_coord": points})
    return tmp_path


def test_pf_willow_pairs_every_two_images_of_a_class_both_ways_and_counts_from_zero(willow: Path) -> None:
    dataset = load_dataset("pf-willow", willow)
    assert len(dataset.pairs) == 20
    assert dataset.keypoints == 200
    first, second = dataset.pairs[:2]
    assert (first.source.name, first.target.name) == ("a.png", "b.png")
    assert (second.source.name, second.target.name) == ("b.png", "a.png")
    assert first.source_points[0].tolist() == [0.0, 10.0]


def test_a_missing_class_is_named_with_where_it_comes_from(willow: Path) -> None:
    (willow / "duck(S)").rename(willow / "geese")
    with pytest.raises(InputError, match=r"duck\(S\).*missing.*PF-dataset\.zip"):
        load_dataset("pf-willow", willow)


def test_a_missing_image_and_a_malformed_annotation_are_named(willow: Path) -> None:
    annotation = willow / "car(M)" / "b.mat"
    scipy.io.savemat(annotation, {"pts_coord": np.ones((3, 10))})
    with pytest.raises(InputError, match=r"b\.mat.*should be 2 x K"):
        load_dataset("pf-willow", willow)
    annotation.write_bytes(b"no matlab file")
    with pytest.raises(InputError, match=r"b\.mat: not a PF-WILLOW annotation"):
        load_dataset("pf-willow", willow)
    (willow / "car(G)" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: missing"):
        load_dataset("pf-willow", willow)


def spair_entry(**changes: object) -> dict[str, object]:
    return {
        "src_imname": "x.jpg",
        "trg_imname": "y.jpg",
        "src_kps": [[1, 2], [3, 4]],
        "trg_kps": [[5, 6], [7, 8]],
        "trg_bndbox": [0, 0, 20, 30],
        "category": "cat",
    } | changes


@pytest.fixture
def spair(tmp_path: Path) -> Path:
    for category, name in (("cat", "x.jpg"), ("cat", "y.jpg"), ("dog", "y.jpg")):
        (tmp_path / "JPEGImages" / category).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages" / category / name)
    (tmp_path / "PairAnnotation" / "val").mkdir(parents=True)
    entries = [spair_entry(), spair_entry(category="cat-to-dog", src_category="cat", trg_category="dog")]
    for index, entry in enumerate(entries):
        (tmp_path / "PairAnnotation" / "val" / f"{index}.json").write_text(json.dumps(entry))
    return tmp_path


def test_spair_s_layout_is_read_with_one_class_or_with_one_a_side(spair: Path) -> None:
    same, across = load_dataset("animal-parts", spair).pairs
    assert same.target.parent.name == "cat"
    assert across.target.parent.name == "dog"
    assert across.category == "cat-to-dog"
    assert same.target_points.tolist() == [[5, 6], [7, 8]]
    assert same.target_box == (0, 0, 20, 30)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (spair_entry(src_imname="z.jpg"), "z.jpg: missing"),
        (spair_entry(src_kps=[[1, 2]]), "1 source keypoints but 2 target"),
        ({"category": "cat"}, "not a pair annotation"),
    ],
)
def test_a_bad_spair_annotation_is_named(spair: Path, entry: dict[str, object], reason: str) -> None:
    (spair / "PairAnnotation" / "val" / "0.json").write_text(json.dumps(entry))
    with pytest.raises(InputError, match=reason):
        load_dataset("spair-71k", spair)


def test_wrong_names_and_roots_are_answered_with_what_is_right(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pf-willow, spair-71k, animal-parts"):
        load_dataset("pf-birch", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        load_dataset("pf-willow", tmp_path / "none")
    with pytest.raises(InputError, match="no pair annotations"):
        load_dataset("spair-71k", tmp_path)


@pytest.mark.realdata
def test_the_real_benchmarks_have_their_published_size(real_data: Path) -> None:
    willow = load_dataset("pf-willow", real_data / "PF-dataset")
    assert (len(willow.pairs), willow.keypoints) == (900, 9000)
    assert len(load_dataset("spair-71k", real_data / "SPair-71k").pairs) == 105
    assert len(load_dataset("animal-parts", real_data / "animal-parts").pairs) == 300
