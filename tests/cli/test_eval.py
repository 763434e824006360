import json
from pathlib import Path

import pytest
from PIL import Image

from geomatch.features.weights import sha256_of, shipped_weights
from tests.cli.test_match import geomatch
from tests.datasets.test_loaders import spair as spair_layout  # noqa: F401 (a fixture)


@pytest.fixture
def pictures(spair_layout: Path, teapots: Path) -> Path:  # noqa: F811
    for path in (spair_layout / "JPEGImages").rglob("*.jpg"):
        Image.open(teapots / "a.png").convert("RGB").resize((80, 60)).save(path)
    return spair_layout


def test_scores_as_json_say_what_was_scored_and_how(pictures: Path) -> None:
    done = geomatch("eval", "--dataset", "spair-71k", "--root", pictures, "--preset", "fast", "--json", cwd=pictures)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert (found["dataset"], found["split"], found["pairs"], found["keypoints"]) == ("spair-71k", "val", 2, 4)
    assert found["features"] == "introspection"
    assert found["weights"] == sha256_of(shipped_weights("introspection"))
    assert [(r["protocol"], r["average"], r["alpha"]) for r in found["results"]] == [
        ("geomatch", average, alpha) for average in ("per-image", "per-point") for alpha in (0.05, 0.1, 0.15)
    ]
    for result in found["results"]:
        assert 0 <= result["pck"] <= 1
        assert {name: score["pairs"] for name, score in result["per_class"].items()} == {"cat": 1, "cat-to-dog": 1}


def test_scores_as_a_table_name_the_protocol_and_the_classes(pictures: Path) -> None:
    done = geomatch("eval", "--dataset", "animal-parts", "--root", pictures, "--preset", "fast", cwd=pictures)
    assert done.returncode == 0, done.stderr
    for text in ("geomatch", "PCK@0.10", "cat-to-dog", "per-image", "per-point"):
        assert text in done.stdout


def test_a_wrong_root_is_named(tmp_path: Path) -> None:
    done = geomatch("eval", "--dataset", "pf-willow", "--root", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.realdata
def test_shipped_weights_beat_the_untrained_trunk_on_pf_willow(real_data: Path, tmp_path: Path) -> None:
    """Both at the same working size and decoding, all 900 pairs."""
    initial = real_data.parent / "weights-init" / "resnet50v2-imagenet-stages123.safetensors"
    if not initial.is_file():
        pytest.skip("the initial weights are not here")
    arguments = ("eval", "--dataset", "pf-willow", "--root", real_data / "PF-dataset", "--preset", "fast", "--json")
    trained = geomatch(*arguments, cwd=tmp_path)
    untrained = geomatch(*arguments, "--features", "hypercolumn:3", "--weights", initial, cwd=tmp_path)
    scores = [[r["pck"] for r in json.loads(done.stdout)["results"]] for done in (trained, untrained)]
    assert all(ours > theirs for ours, theirs in zip(*scores, strict=True)), scores
