import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from geomatch.features.scnet import SCNet, SCNetConfig
from geomatch.features.weights import save_weights
from tests.cli.command import assert_refused, geomatch
from tests.datasets.layouts import write_pascal_parts


def reproduce(root: Path, *more: object, paper: str = "introspection") -> subprocess.CompletedProcess[str]:
    """The rows of SIFT and HOG by nearest neighbours, which need no weights."""
    rows = ("--features", "sift", "--features", "hog", "--matcher", "nn", "--preset", "fast")
    return geomatch("reproduce", paper, "--root", root, *rows, *more, cwd=root.parent, env={"COLUMNS": "80"})


def test_reproduce_prints_tables_and_says_what_is_absent(willow: Path) -> None:
    done = reproduce(willow.parent)
    assert done.returncode == 0, done.stderr
    assert "PF-WILLOW keypoints: PCK@0.10, protocol pf" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for row in ("sift + nn", "hog + nn", "HOG + LOM [2]"):
        assert f"\n{row} " in done.stdout
    assert "pf-pascal: not in" in done.stderr
    assert "download PF-dataset-PASCAL.zip" in done.stderr


def test_reproduce_agrees_with_eval_and_continues(willow: Path) -> None:
    (table,) = map(json.loads, reproduce(willow.parent, "--json").stdout.splitlines())
    options = ("--features", "sift", "--features", "hog", "--matcher", "nn", "--preset", "fast", "--refine", "off")
    done = geomatch(
        "eval", "--dataset", "pf-willow", "--root", willow, *options, "--protocol", "pf", "--json", cwd=willow.parent
    )
    for row, evaluation in zip(table["rows"], map(json.loads, done.stdout.splitlines()), strict=False):
        (result,) = (each for each in evaluation["results"] if each["alpha"] == 0.1)
        assert row["method"] == f"{evaluation['features']} + nn"
        assert row["overall"] == result["pck"]
        assert row["per_class"] == {
            name: score["pck"] for name, score in result["per_class"].items() if name in table["classes"]
        }
        assert evaluation["reused"] == evaluation["pairs"]
    assert len(table["classes"]) == 10


def test_reproduce_writes_every_format(willow: Path) -> None:
    out = willow.parent / "tables"
    done = reproduce(willow.parent, "--limit", 4, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "tables.json", "tables.md", "tables.tex"]
    for path in out.iterdir():
        assert "SUBSET of 4 of 20 pairs" in path.read_text() or path.suffix == ".json"
        assert "pf-willow test: 20 of the 900 published pairs" in path.read_text() or path.suffix == ".json"
    (table,) = json.loads((out / "tables.json").read_text())
    assert (table["pairs"], table["of"]) == (4, 20)
    assert "geomatch reproduce introspection" in (out / "tables.md").read_text()
    again = reproduce(willow.parent, "--out", out)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


def test_reproduce_drops_rows_of_features_without_the_classes(willow: Path, anchor_weights: Path) -> None:
    """The small AnchorNet knows cats, dogs and teapots, PF-WILLOW cars, ducks, motorbikes and bottles."""
    rows = ("--features", "anchornet:auto", "--weights", f"anchornet={anchor_weights}")
    done = reproduce(willow.parent, *rows, "--limit", 2, paper="anchornet")
    assert done.returncode == 0, done.stderr
    assert "pf-willow: no row of anchornet:auto: no anchors of" in done.stderr
    assert "anchornet:auto" not in done.stdout
    assert "sift + nn" in done.stdout


def test_reproduce_scnet_with_its_weights_alone(willow: Path, scnet_weights: Path, tmp_path: Path) -> None:
    """Rows of SCNet for those who have trained it; SCNet-AG+ needs weights with its second embedding."""
    pytest.importorskip("cv2")
    rows = ("--root", willow.parent, "--features", "scnet", "--preset", "fast", "--limit", 1)
    small = ("--set", "scnet-a.proposals=sliding", "--set", "scnet-a.count=20")
    refused = geomatch("reproduce", "anchornet", *rows, cwd=willow.parent)
    assert refused.returncode == 2
    assert "no rows of scnet: train its weights with `geomatch train scnet`, and give --weights" in refused.stderr
    done = geomatch(
        "reproduce", "anchornet", *rows, *small, "--weights", scnet_weights, "--matcher", "scnet-a", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "\nscnet + scnet-a " in done.stdout
    network = SCNet(SCNetConfig(stages=("1",), descriptor_size=8, bins=1, embedding_size=2))
    save_weights(tmp_path / "a.safetensors", "scnet", asdict(network.config), network.state_dict())
    weights = ("--weights", f"scnet={tmp_path / 'a.safetensors'}")
    refused = geomatch("reproduce", "anchornet", *rows, *weights, "--matcher", "scnet-ag+", cwd=tmp_path)
    assert refused.returncode == 2
    assert "no row of scnet + scnet-ag+: these weights have no embedding of geometry" in refused.stderr


def test_reproduce_untrained_hypercolumn_needs_its_trunk(willow: Path) -> None:
    """The rows HC of the papers: left out with the option that adds them, and computed by the file that it names."""
    done = reproduce(willow.parent, "--features", "hypercolumn:1+3+4", "--limit", 1)
    assert done.returncode == 0, done.stderr
    assert "no rows of hypercolumn:1+3+4: give a ResNet-50 as torchvision publishes it, --weights" in done.stderr
    assert "hypercolumn" not in done.stdout
    weights = ("--weights", "hypercolumn:1+3+4=none.pth")
    refused = reproduce(willow.parent, "--features", "hypercolumn:1+3+4", *weights, "--limit", 1)
    assert refused.returncode == 2
    assert "none.pth: no such weights file" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ancornet", "--root", "."), "unknown paper 'ancornet' (did you mean 'anchornet'?)"),
        (("anchornet", "--root", "none"), "none: no such folder; --root must be the folder that holds"),
        (("anchornet", "--root", "."), "holds none of the benchmarks: pascal-parts: not in"),
        (("anchornet", "--root", "all.zip"), "all.zip is damaged, or half of a download"),
        (("anchornet", "--root", ".", "--features", "introspection"), "have no features 'introspection'"),
        (("anchornet", "--root", ".", "--matcher", "hough"), "have no matchers 'hough'"),
        (("anchornet", "--root", ".", "--out", "all.zip"), "all.zip"),
    ],
)
def test_reproduce_bad_request_one_sentence(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "all.zip").write_bytes(b"PK")
    done = geomatch("reproduce", *arguments, cwd=tmp_path)
    assert_refused(done, said, folder=tmp_path)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--set", "dsp.levels=2"), "the matcher dsp is not among nn"),
        (("--set", "nn.levels=2"), "matcher nn has no parameter 'levels'"),
        (("--weights", "anchornet=x"), "anchornet is not among sift, hog"),
    ],
)
def test_reproduce_refuses_values_that_belong_to_nothing(willow: Path, more: tuple[str, ...], said: str) -> None:
    done = reproduce(willow.parent, *more)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_reproduce_names_half_a_download(willow: Path) -> None:
    (willow / "duck(S)" / "a.png").unlink()
    done = reproduce(willow.parent)
    assert done.returncode == 2
    assert "pf-willow: left out, since it cannot be read" in done.stderr
    assert "a.png" in done.stderr


def test_reproduce_drops_rows_that_lack_a_library(
    willow: Path, anchor_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    rows = ("--features", "anchornet", "--weights", f"anchornet={anchor_weights}", "--limit", 1)
    done = reproduce(willow.parent, *rows)
    assert done.returncode == 0, done.stderr
    assert "no row of sift + nn: sift needs OpenCV: pip install 'geomatch[baselines]'" in done.stderr
    assert {line.split(" .")[0] for line in done.stdout.splitlines() if " + nn" in line} == {"anchornet + nn"}
    alone = reproduce(willow.parent)
    assert alone.returncode == 2
    assert "error: no row of sift + nn: sift needs OpenCV" in alone.stderr


def test_reproduce_all_tables_of_parts_and_none_without_keypoints(tmp_path: Path) -> None:
    root = write_pascal_parts(tmp_path / "all" / "PASCAL-Parts")
    done = reproduce(root.parent, "--features", "sift", paper="anchornet")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("PASCAL-Part")] == [
        "PASCAL-Part part masks: part IoU; pascal-parts test, 16 pairs",
        "PASCAL-Part keypoints: PCK@0.05, protocol geomatch; pascal-parts test, 16 pairs",
        "PASCAL-Part object masks: mask IoU; pascal-parts test, 16 pairs",
        "PASCAL-Part across classes: part IoU; pascal-parts-across test, 18 pairs",
    ]
    assert "their scores cannot be compared with published ones" in done.stderr
    shutil.rmtree(root / "PASCAL3D+_release1.1")
    done = reproduce(root.parent, paper="anchornet")
    assert "PASCAL-Part keypoints: no table, since pascal-parts here lacks PCK@0.05" in done.stderr
    assert "PASCAL-Part keypoints" not in done.stdout


def test_reproduce_odd_folder_names_stay_on_one_line(willow: Path) -> None:
    parent = willow.parent / "two\nlines"
    parent.mkdir()
    willow.rename(parent / "PF-dataset")
    done = reproduce(parent, "--limit", 1, "--out", parent / "tables")
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("geomatch: note: ") for line in done.stderr.splitlines())
    tables = (parent / "tables" / "tables.tex").read_text()
    assert all(line.startswith("%") for line in tables[: tables.index("\\begin")].splitlines())
