"""`geomatch crops` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.datasets.crops import read_crops
from geomatch.features.weights import load_weights, sha256_of
from tests.cli.command import assert_refused, geomatch
from tests.conftest import ROOT
from tests.datasets.layouts import png, write_shard


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Three noisy pictures of 60 x 40 pixels, one with a true box, one of the background, and a damaged one."""
    pictures = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8)
    pixels = {f"{index}.png": png(picture) for index, picture in enumerate(pictures)} | {"4.png": b"damaged"}
    labels = {
        "0.png": ("cat", '[["cat", 0, 0, 59, 39]]'),
        "1.png": ("cat dog", ""),
        "2.png": ("background", ""),
        "3.png": ("dog", ""),
        "4.png": ("dog", ""),
    }
    write_shard(tmp_path, labels, pixels)
    return tmp_path


def test_crops_table_is_complete_and_deterministic(shard: Path) -> None:
    places = ("--data", "shard.tar", "--max-unreadable", "0.2", "--device", "cpu")
    done = geomatch("crops", *places, "--out", "crops.csv", "--json", cwd=shard)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "geomatch: note: 1 photographs cannot be read and have no crop: 4.png\n"
    said = json.loads(done.stdout)
    assert (said["output"], said["crops"], said["unreadable"]) == ("crops.csv", 4, ["4.png"])
    assert said["corloc"]["whole photograph"] == {"mean": 1.0, "labels": {"cat": {"photographs": 1, "share": 1.0}}}
    crops = read_crops(shard / "crops.csv")
    assert [(crop.file, crop.label) for crop in crops] == [
        ("0.png", "cat"),
        ("1.png", "cat"),
        ("1.png", "dog"),
        ("3.png", "dog"),
    ]
    for left, top, right, bottom in (crop.box for crop in crops):
        assert -0.5 <= left < right <= 59.5
        assert -0.5 <= top < bottom <= 39.5
    again = geomatch("crops", *places, "--out", "again.csv", cwd=shard)
    assert again.returncode == 0, again.stderr
    assert "CorLoc" in again.stdout
    assert "mean over labels" in again.stdout
    assert (shard / "again.csv").read_bytes() == (shard / "crops.csv").read_bytes()


def test_crops_detector_wsddn_is_deterministic(shard: Path) -> None:
    places = ("--data", "shard.tar", "--max-unreadable", "0.2", "--device", "cpu")
    for name in ("one.csv", "two.csv"):
        arguments = ("--detector", "wsddn", "--epochs", "2", "--out", name, "--json")
        done = geomatch("crops", *places, *arguments, cwd=shard)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["crops"] == 4
    assert (shard / "one.csv").read_bytes() == (shard / "two.csv").read_bytes()
    crops = read_crops(shard / "one.csv")
    assert [(crop.file, crop.label) for crop in crops] == [
        ("0.png", "cat"), ("1.png", "cat"), ("1.png", "dog"), ("3.png", "dog"),
    ]  # fmt: skip


def test_crops_without_true_boxes_print_nothing(tmp_path: Path) -> None:
    (tmp_path / "photographs" / "cat").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "photographs" / "cat" / "a.png")
    done = geomatch("crops", "--data", "photographs", "--out", "crops.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [crop.file for crop in read_crops(tmp_path / "crops.csv")] == ["cat/a.png"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "nowhere"), ["nowhere", "no such folder"]),
        (("--data", "unlabelled"), ["no photograph has a label", "sub-folders"]),
        (("--data", "shard.tar"), ["1 of 5 photographs cannot be read", "--max-unreadable"]),
        (("--data", "shard.tar", "--out", "crops.json"), ["crops.json", "ends in .csv"]),
        (("--data", "shard.tar", "--weights", "labels.csv"), ["labels.csv"]),
        (("--data", "shard.tar", "--detector", "rcnn"), ["rcnn", "centre", "wsddn"]),
    ],
)
def test_crops_bad_request_one_sentence_no_output(options: tuple[str, ...], said: list[str], shard: Path) -> None:
    (shard / "unlabelled").mkdir()
    Image.new("RGB", (40, 30)).save(shard / "unlabelled" / "a.png")
    done = geomatch("crops", "--out", "crops.csv", *options, cwd=shard)
    (shard / "unlabelled" / "a.png").unlink()
    (shard / "unlabelled").rmdir()
    assert_refused(done, *said, folder=shard)
    assert done.stderr.count("\n") == 1
    assert not (shard / "crops.csv").exists()


def test_train_foreground_writes_weights_for_the_network_that_it_read(shard: Path) -> None:
    distilled = ROOT / "weights" / "distilled.safetensors"
    options = ("--data", "shard.tar", "--init", str(distilled), "--max-unreadable", "0.3", "--device", "cpu")
    for name in ("one.safetensors", "two.safetensors"):
        done = geomatch("train", "foreground", *options, "--out", name, cwd=shard)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "geomatch: note: 1 photographs cannot be read: 4.png\n"
    weights = load_weights(shard / "one.safetensors")
    assert weights.feature == "foreground"
    assert weights.config == {"descriptor_size": 256, "reads": sha256_of(distilled)}
    assert (shard / "one.safetensors").read_bytes() == (shard / "two.safetensors").read_bytes()
    again = geomatch("train", "foreground", *options, "--out", "one.safetensors", cwd=shard)
    assert_refused(again, "one.safetensors", "--overwrite", folder=shard)
