import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from geomatch.datasets.load import check_dataset, find_benchmark, load_dataset, without_unreadable
from geomatch.errors import GeomatchWarning, InputError
from geomatch.evaluation.protocols import default_protocol
from geomatch.registry import DATASETS
from tests.datasets.layouts import write_spair, write_willow

SUBSET = "the scores are not those of the benchmark"


def test_every_benchmark_has_the_default_protocol() -> None:
    assert [default_protocol(name).name for name in DATASETS.entries] == ["geomatch"] * len(DATASETS.entries)


def test_find_benchmark_lists_known_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown dataset 'pf-birch': the known ones are pf-pascal, pf-willow, "):
        load_dataset("pf-birch", tmp_path)


def test_find_root_names_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such folder; --root must be the folder of pf-willow"):
        load_dataset("pf-willow", tmp_path / "none")


def test_find_root_searches_data_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"pf-willow is not at data/pf-willow; download PF-dataset\.zip from https"):
        load_dataset("pf-willow")
    write_willow(tmp_path / "data" / "pf-willow")
    with pytest.warns(GeomatchWarning, match=SUBSET):
        assert len(load_dataset("pf-willow").pairs) == 20
    write_spair(tmp_path / "elsewhere" / "animal-parts")
    monkeypatch.setenv("GEOMATCH_DATA", str(tmp_path / "elsewhere"))
    assert len(load_dataset("animal-parts", split="val").pairs) == 2


def test_find_root_says_how_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive given as the folder, beside the folder that is not there, or inside it; whole or half downloaded."""
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "data" / "PF-dataset.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("PF-dataset/readme", "many bytes" * 100)
    command = re.escape(f"{archive} is still packed: run `unzip {archive} -d {archive.parent}`")
    for root in (archive, archive.with_suffix("")):
        with pytest.raises(InputError, match=f"^pf-willow: {command}, and name the folder with --root$"):
            load_dataset("pf-willow", root)
    with pytest.raises(InputError, match=r"^pf-willow: data/PF-dataset\.zip is still packed: run `unzip "):
        load_dataset("pf-willow")
    with pytest.raises(InputError, match=f"^pf-willow needs .*/car\\(G\\), .*; {command}$"):
        load_dataset("pf-willow", archive.parent)
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(InputError, match=r"PF-dataset\.zip is damaged, or half of a download: download it again"):
        load_dataset("pf-willow", archive)
    packed = tmp_path / "SPair-71k.tar.gz"
    with tarfile.open(packed, "w:gz") as shards:
        shards.add(tmp_path / "data", "SPair-71k")
    with pytest.raises(InputError, match=r"^spair-71k: .*SPair-71k\.tar\.gz is still packed: run `tar -xf .* -C "):
        load_dataset("spair-71k", packed)


def test_choose_split_takes_only_split_with_warning(spair: Path) -> None:
    with pytest.warns(GeomatchWarning, match="has only the split 'val', which is used"):
        assert load_dataset("animal-parts", spair).split == "val"


def test_choose_split_asks_without_test_split(spair: Path) -> None:
    (spair / "PairAnnotation" / "trn").mkdir()
    (spair / "PairAnnotation" / "trn" / "0.json").write_text("{}")
    with pytest.raises(InputError, match=r"no test split of animal-parts; choose with --split trn\|val"):
        load_dataset("animal-parts", spair)


def test_load_dataset_refuses_empty_or_unknown_split(spair: Path) -> None:
    with pytest.raises(InputError, match=r"needs .*PairAnnotation/test"):
        load_dataset("animal-parts", spair, split="test")
    with pytest.raises(InputError, match="has no split 'dev'"):
        load_dataset("animal-parts", spair, split="dev")


def test_load_dataset_warns_of_fewer_pairs(willow: Path) -> None:
    with pytest.warns(GeomatchWarning, match="20 of the 900 pairs of pf-willow test"):
        load_dataset("pf-willow", willow)


def test_load_dataset_without_usable_pair_gives_reason(spair: Path) -> None:
    for annotation in (spair / "PairAnnotation" / "val").iterdir():
        annotation.write_text("{}")
    with pytest.raises(InputError, match=r"has no usable pair: all 2 are unusable; the first: .*000000"):
        load_dataset("animal-parts", spair, split="val", skip_bad=True)


def test_without_unreadable_finds_damaged_pixels(spair: Path) -> None:
    image = spair / "JPEGImages" / "dog" / "y.jpg"
    image.write_bytes(image.read_bytes()[:-20])
    dataset = without_unreadable(load_dataset("animal-parts", spair, split="val"))
    assert [pair.category for pair in dataset.pairs] == ["cat"]
    assert "dog/y.jpg" in dataset.skipped[0]
    found = check_dataset(find_benchmark("animal-parts"), spair, "val")
    assert (found.pairs, found.images, len(found.faults)) == (1, 2, 1)


def test_limited_keeps_every_class(willow: Path) -> None:
    with pytest.warns(GeomatchWarning, match=SUBSET):
        dataset = load_dataset("pf-willow", willow)
    some = dataset.limited(10)
    assert (len(some.pairs), some.of) == (10, 20)
    assert len({pair.category for pair in some.pairs}) == 10
    assert dataset.limited(20) is dataset
