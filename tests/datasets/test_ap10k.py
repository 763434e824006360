import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from geomatch.datasets.benchmarks.ap10k import AP_10K_FAMILIES, AP_10K_FAMILY, AP_10K_SPECIES
from geomatch.datasets.benchmarks.ap10k_animals import Animal, Crossing, draw_pairs, read_animals, split_animals
from geomatch.datasets.pairs import AnnotatedPair, PairErrors
from geomatch.errors import GeomatchWarning, InputError
from tests.datasets.layouts import ap_10k_keypoints, write_ap_10k

DRAWN = pytest.mark.filterwarnings("ignore:.*pairs are drawn")


@pytest.fixture(scope="module")
def ap_10k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ap_10k(tmp_path_factory.mktemp("data") / "ap-10k")


@pytest.fixture
def own(ap_10k: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(ap_10k, tmp_path / "ap-10k"))


def load(root: Path, benchmark: object = AP_10K_SPECIES, split: str = "test") -> list[AnnotatedPair]:
    return benchmark.load(root, split, PairErrors())


def change(root: Path, part: str, **changes: object) -> None:
    """Change the first annotation of a file."""
    file = root / "annotations" / f"ap10k-{part}-split1.json"
    document = json.loads(file.read_text())
    document["annotations"][0] |= changes
    file.write_text(json.dumps(document))


def test_animals_are_the_first_of_their_photograph_with_three_keypoints(ap_10k: Path) -> None:
    animals = read_animals(ap_10k, ["000000000102"])
    counts = {name: sum(animal.species == name for animal in animals) for name in ("antelope", "bison", "fox")}
    assert counts == {"antelope": 32, "bison": 4, "fox": 3}, "one of 33 is of a crowd"
    assert {animal.box for animal in animals} == {(1, 2, 21, 12)}, "left, top, width and height in the file"
    assert [animal.image for animal in animals[:2]] == ["data/000000000100.jpg", "data/000000000101.jpg"]


def test_species_are_split_as_the_authors_split_them(ap_10k: Path) -> None:
    """The last 30 are for testing, up to 20 before them for validation, the rest for training."""
    animals = read_animals(ap_10k, ())
    parts = {split: split_animals(animals, split) for split in ("trn", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"trn": 0, "val": 3, "test": 37}
    many = [Animal(str(number), "fox", "Canidae", np.zeros((17, 3)), (0, 0, 1, 1)) for number in range(60)]
    assert [len(split_animals(many, split)) for split in ("trn", "val", "test")] == [10, 20, 30]
    assert [split_animals(many, split)[0].image for split in ("trn", "val", "test")] == ["0", "10", "30"]


@DRAWN
def test_pairs_within_species_across_them_and_across_families(ap_10k: Path) -> None:
    within = load(ap_10k)
    assert {name: sum(pair.category == name for pair in within) for name in ("antelope", "bison", "fox")} == {
        "antelope": 30 * 29 // 2,
        "bison": 6,
        "fox": 3,
    }
    across = load(ap_10k, AP_10K_FAMILY)
    assert {pair.category for pair in across} == {"Bovidae"}
    assert len(across) == 30 * 4
    families = load(ap_10k, AP_10K_FAMILIES)
    assert {pair.category for pair in families} == {"all"}
    assert len(families) == 30, "of 34 x 3"
    again = load(ap_10k, AP_10K_FAMILIES)
    assert [pair.origin for pair in families] == [pair.origin for pair in again], "drawn with a fixed seed"
    assert len(load(ap_10k, AP_10K_SPECIES, "val")) == 3


@DRAWN
def test_pair_knows_hidden_and_geometry_aware_keypoints(ap_10k: Path) -> None:
    """Photographs whose number three divides lack the eyes; of shoulders, elbows, paws and hips all are shown."""
    pair = next(
        pair for pair in load(ap_10k) if pair.source.name.endswith("0103.jpg") and pair.target.name.endswith("0105.jpg")
    )
    numbers = np.arange(2, 17)
    assert pair.source_points.tolist() == [[2 + number, 3 + 103 % 5] for number in numbers]
    assert pair.hidden_points.tolist() == [[2, 6], [3, 6]]
    assert numbers[pair.geometry_aware].tolist() == [*range(5, 17)]
    assert pair.target_box == (1, 2, 21, 12)


def test_pairs_must_share_three_keypoints() -> None:
    """A covered keypoint, 1, counts half: two seen by both and two covered in one of them are three."""

    def animal(*visibility: int) -> Animal:
        keypoints = np.zeros((17, 3))
        keypoints[: len(visibility), 2] = visibility
        return Animal(str(visibility), "fox", "Canidae", keypoints, (0, 0, 1, 1))

    seen = animal(2, 2, 2, 2)
    for other, enough in ((animal(2, 2, 1, 1), True), (animal(2, 2, 1, 0), False), (animal(1, 1, 1, 1), False)):
        assert bool(draw_pairs([seen, other], Crossing.within_species, "test")) is enough


def test_drawn_pairs_warn(ap_10k: Path) -> None:
    with pytest.warns(GeomatchWarning, match=r"drawn with seed 42.*without ap-10k_is_crowd\.txt.*not comparable"):
        load(ap_10k)


def write_prepared(root: Path) -> Path:
    """A pair as ``prepare_ap10k.ipynb`` writes it, with paths from the authors' working folder."""
    paths = {}
    for side, number in (("src", 103), ("trg", 105)):
        place = Path("Bovidae/antelope") / f"{number:012d}.json"
        for folder in ("ImageAnnotation", "JPEGImages"):
            (root / folder / place.parent).mkdir(parents=True, exist_ok=True)
        entry = {"keypoints": ap_10k_keypoints(number), "bbox": [1, 2, 20, 10], "num_keypoints": 15}
        (root / "ImageAnnotation" / place).write_text(json.dumps(entry))
        shutil.copy(root / "data" / f"{number:012d}.jpg", root / "JPEGImages" / place.parent)
        paths[f"{side}_json_path"] = f"data/ap-10k/ImageAnnotation/{place}"
    shutil.rmtree(root / "data")
    for folder, end in (("test", "antelope"), ("test_cross_family", "all")):
        (root / "PairAnnotation" / folder).mkdir(parents=True)
        file = root / "PairAnnotation" / folder / f"000000000103-000000000105:{end}.json"
        file.write_text(json.dumps(paths))
    return root


def test_prepared_lists_are_read(own: Path) -> None:
    root = write_prepared(own)
    assert list(AP_10K_SPECIES.splits(root)) == ["test"]
    (pair,) = load(root)
    assert (pair.category, pair.source.name) == ("antelope", "JPEGImages/Bovidae/antelope/000000000103.jpg")
    assert len(pair.source_points) == 15
    assert load(root, AP_10K_FAMILIES)[0].category == "all"
    (root / "ImageAnnotation" / "Bovidae" / "antelope" / "000000000105.json").unlink()
    with pytest.raises(InputError, match=r"000000000105\.json: missing, but in a list of pairs"):
        load(root)


def test_prepared_list_must_stay_below_the_folder(own: Path) -> None:
    (file,) = (write_prepared(own) / "PairAnnotation" / "test").iterdir()
    for path in ("data/ImageAnnotation/../../secret.json", "/etc/passwd", "ImageAnnotation/fox.json"):
        file.write_text(json.dumps({"src_json_path": path, "trg_json_path": path}))
        with pytest.raises(InputError, match=r"is not a file of ImageAnnotation|missing, but in a list"):
            load(own)


@DRAWN
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"category_id": 77}, r"annotation 100: unknown species 77: it is none of the file's 3 categories"),
        ({"image_id": 77}, "its image 77 is not among the document's"),
        ({"keypoints": [1, 2]}, "2 numbers of keypoints instead of 51"),
        ({"bbox": [1, 2, 0, 5]}, "a box without area"),
        ({"bbox": None}, "annotation 100: is not of the form it should have"),
    ],
)
def test_bad_annotation_is_named(own: Path, changes: dict[str, object], reason: str) -> None:
    change(own, "train", **changes)
    with pytest.raises(InputError, match=reason):
        load(own)


@DRAWN
def test_half_a_download_is_named(own: Path) -> None:
    photograph = own / "data" / "000000000110.jpg"
    photograph.unlink()
    with pytest.raises(InputError, match=r"000000000110\.jpg is missing; unpack the images again"):
        load(own)
    file = own / "annotations" / "ap10k-val-split1.json"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"ap10k-val-split1\.json: not JSON"):
        load(own)
    file.unlink()
    shutil.rmtree(own / "data")
    with pytest.raises(InputError, match=r"ap-10k needs .*ap10k-val-split1\.json, .*data; download ap-10k\.zip from"):
        load(own)


def test_pairs_of_a_set_differ() -> None:
    assert Crossing("cross-family") is Crossing.across_families
    many = [
        Animal(f"{family}{number}", family, family, np.full((17, 3), 2.0), (0, 0, 1, 1))
        for family, number in itertools.product("ab", range(8))
    ]
    drawn = draw_pairs(many, Crossing.across_families, "val")
    assert len(drawn) == len({(source.image, target.image) for source, target, _ in drawn}) == 20
    assert all(source.family == "a" and target.family == "b" for source, target, _ in drawn)
