import json
import subprocess
from csv import DictReader
from pathlib import Path

import pytest
from PIL import Image

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.features.weights import sha256_of, shipped_weights
from geomatch.pipeline import Pipeline
from tests.cli.command import geomatch, own_process
from tests.datasets.layouts import spair_entry, write_tap_vid

FAST = ("--preset", "fast", "--json")


@pytest.fixture
def pictures(spair: Path, teapots: Path) -> Path:
    for path in (spair / "JPEGImages").rglob("*.jpg"):
        Image.open(teapots / "a.png").convert("RGB").resize((80, 60)).save(path)
    return spair


def evaluate(root: Path, *more: object, dataset: str = "animal-parts") -> subprocess.CompletedProcess[str]:
    return geomatch(
        "eval", "--dataset", dataset, "--root", root, "--split", "val", "--preset", "fast", *more, cwd=root.parent
    )


def test_eval_json_fields(pictures: Path) -> None:
    done = evaluate(pictures, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert (found["dataset"], found["split"], found["pairs"], found["keypoints"]) == ("animal-parts", "val", 2, 4)
    assert found["features"] == "distilled"
    assert found["weights"] == sha256_of(shipped_weights("distilled").path)
    assert [(r["protocol"], r["average"], r["alpha"]) for r in found["results"]] == [
        ("geomatch", average, alpha) for average in ("per-image", "per-point") for alpha in (0.05, 0.1, 0.15)
    ]
    for result in found["results"]:
        assert 0 <= result["interval"][0] <= result["pck"] <= result["interval"][1] <= 1
        assert {name: score["pairs"] for name, score in result["per_class"].items()} == {
            "cat": 1,
            "cat-to-dog": 1,
            "within": 1,
            "across": 1,
        }
    assert {"end-point error", "AUSE", "ECE"} <= {measure["name"] for measure in found["measures"]}
    assert found["settings"]["device"] in ("cpu", "cuda", "mps")


def test_eval_several_selections_all_protocols_and_outputs(pictures: Path) -> None:
    folder = pictures.parent
    selections = ("--features", "introspection", "--features", "hypercolumn:3", "--matcher", "nn", "--matcher", "hough")
    outputs = ("--csv", folder / "scores.csv", "--report", folder / "page")
    done = evaluate(pictures, *selections, "--protocol", "all", *outputs)
    assert done.returncode == 0, done.stderr
    for text in ("protocol geomatch, per-image", "PCK@0.10", "cat-to-dog", "within", "geoaware", "all selections"):
        assert text in done.stdout
    with (folder / "scores.csv").open() as file:
        rows = list(DictReader(file))
    assert {(row["features"], row["matcher"]) for row in rows} == {
        (features, matcher) for features in ("introspection", "hypercolumn:3") for matcher in ("nn", "hough")
    }
    assert {"geomatch", "dift", "AUSE"} <= {row["protocol"] for row in rows}
    page = (folder / "page" / "index.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "hypercolumn:3" in page
    assert "data:image" in page


def test_eval_compare(pictures: Path) -> None:
    folder = pictures.parent
    for name, matcher in (("a", "nn"), ("b", "hough")):
        (folder / f"{name}.json").write_text(evaluate(pictures, "--matcher", matcher, "--json").stdout)
    done = geomatch("eval", "--compare", "a.json", "b.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "A: distilled + nn" in done.stdout
    assert "PCK@0.10" in done.stdout
    scores = json.loads(geomatch("eval", "--compare", "a.json", "b.json", "--json", cwd=folder).stdout)["scores"]
    assert {score["better"] for score in scores} <= {"first", "second", "undecided"}


def test_eval_limit_warns_of_subset(pictures: Path) -> None:
    done = evaluate(pictures, "--limit", 1)
    assert done.returncode == 0
    assert "A SUBSET: 1 of 2 pairs, by --limit" in done.stderr
    assert "SUBSET of 1 of 2 pairs" in done.stdout


def test_eval_names_or_counts_bad_pairs(pictures: Path) -> None:
    file = pictures / "PairAnnotation" / "val" / "000000-x-y:cat.json"
    file.write_text(json.dumps(spair_entry(src_kps=[[5, 6], [7, 99]])))
    done = evaluate(pictures, "--strict")
    assert done.returncode == 2
    assert "000000-x-y:cat.json: source keypoint (7, 99) lies outside" in done.stderr
    done = evaluate(pictures, "--strict", "--skip-bad", "--json")
    assert done.returncode == 0
    assert "1 pairs are unusable and left out; the first: 000000-x-y:cat.json" in done.stderr
    assert len(json.loads(done.stdout)["skipped"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "pf-willow", "--root", "."), "pf-willow needs"),
        (("--dataset", "pf-willow", "--root", "none"), "no such folder"),
        (("--dataset", "pf-birch"), "unknown dataset 'pf-birch': the known ones are pf-pascal"),
        (("--dataset", "tss"), "tss is not at data/tss"),
        ((), "give --dataset NAME"),
        (("--compare", "a.json", "b.json"), "a.json: no such file"),
        (("--dataset", "pf-birch", "--csv", "none/a.csv"), "unknown dataset 'pf-birch'"),
    ],
)
def test_eval_bad_request_one_sentence(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = geomatch("eval", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--protocol", "pff"), "unknown protocol 'pff'"),
        (("--protocol", "pf"), "animal-parts has no protocol 'pf'"),
        (("--features", "introspection", "--features", "dino"), "unknown features 'dino'"),
        (("--matcher", "nn", "--matcher", "best"), "unknown matcher 'best'"),
        (("--report", "file"), "is a file"),
    ],
)
def test_eval_refuses_bad_names_before_work(pictures: Path, arguments: tuple[str, ...], said: str) -> None:
    (pictures.parent / "file").write_text("")
    done = evaluate(pictures, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_eval_interrupted_exits_130_and_continues(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    arguments = (
        "eval",
        "--dataset",
        "animal-parts",
        "--root",
        pictures,
        "--split",
        "val",
        "--preset",
        "fast",
        "--json",
    )
    match, taken = Pipeline.match, iter(range(2))

    def interrupted_at_the_second(pipeline: Pipeline, *features: FeatureMap) -> Correspondence:
        if next(taken) == 1:
            raise KeyboardInterrupt
        return match(pipeline, *features)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "match", interrupted_at_the_second)
        stopped = geomatch(*arguments, cwd=tmp_path, env=cache)
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert stopped.stderr.splitlines() == [
        "geomatch: note: interrupted; finished pairs are cached, and the same command continues from there",
        "geomatch: interrupted",
    ]
    done = geomatch(*arguments, cwd=tmp_path, env=cache)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reused"] == 1


@pytest.mark.slow
def test_eval_two_living_runs_share_a_prediction_cache(pictures: Path, tmp_path: Path) -> None:
    command = own_process("eval", "--dataset", "animal-parts", "--root", pictures, "--split", "val", *FAST)
    command["env"] |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    runs = [subprocess.Popen(**command, cwd=tmp_path, stdout=subprocess.PIPE) for _ in range(2)]
    printed = [json.loads(process.communicate(timeout=200)[0]) for process in runs]
    assert [process.returncode for process in runs] == [0, 0]
    assert printed[0]["results"] == printed[1]["results"]
    again = subprocess.run(**command, cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    third = json.loads(again.stdout)
    assert (third["reused"], third["results"]) == (2, printed[0]["results"])


def test_datasets_lists_folders(willow: Path) -> None:
    done = geomatch("datasets", cwd=willow.parent, env={"GEOMATCH_DATA": str(willow.parent)})
    assert done.returncode == 0, done.stderr
    text = done.stdout.replace("\n", "")
    for name in ("pf-pascal", "spair-71k", "tss", "caltech-101", "pascal-parts", "animal-parts", "warps", "PF-dataset"):
        assert name in text


def test_datasets_check_names_faults(willow: Path) -> None:
    done = geomatch("datasets", "check", "pf-willow", "--root", willow, cwd=willow.parent)
    assert done.returncode == 2
    assert "900" in done.stdout
    assert "test: 20 pairs instead of the published 900" in done.stderr
    (willow / "duck(S)" / "a.png").write_bytes(b"")
    done = geomatch("datasets", "check", "pf-willow", "--root", willow, cwd=willow.parent)
    assert "duck(S)/a.png: damaged or not an image" in done.stderr.replace("\n", "")


@pytest.mark.slow
@pytest.mark.realdata
def test_eval_shipped_weights_beat_untrained_trunk(real_data: Path, tmp_path: Path) -> None:
    """Both at the same working size and with nearest neighbours, on pairs like those that settings were chosen on."""
    initial = real_data.parent / "weights-init" / "resnet50v2-imagenet-stages123.safetensors"
    if not initial.is_file():
        pytest.skip("the initial weights are not here")
    pairs = ("--dataset", "spair-71k", "--root", real_data / "SPair-71k", "--split", "val", "--limit", 30)
    arguments = ("eval", *pairs, "--preset", "fast", "--matcher", "nn", "--json")
    trained = geomatch(*arguments, cwd=tmp_path)
    untrained = geomatch(*arguments, "--features", "hypercolumn:3", "--weights", initial, cwd=tmp_path)
    scores = [[r["pck"] for r in json.loads(done.stdout)["results"]] for done in (trained, untrained)]
    assert all(ours > theirs for ours, theirs in zip(*scores, strict=True)), scores
    assert json.loads(trained.stdout)["pairs"] == 30


def test_eval_parameters_and_weights_of_one_matcher_and_one_feature(pictures: Path, anchor_weights: Path) -> None:
    selections = ("--features", "sift", "--features", "anchornet:cat", "--matcher", "nn", "--matcher", "dsp")
    done = evaluate(
        pictures, *selections, "--set", "dsp.levels=2", "--weights", f"anchornet={anchor_weights}", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["features"], each["matcher"]) for each in found] == [
        (features, matcher) for features in ("sift", "anchornet:cat") for matcher in ("nn", "dsp")
    ]
    assert [each["settings"]["method"].get("levels") for each in found] == [None, 2] * 2
    assert [each["weights"] for each in found] == [None] * 2 + [sha256_of(anchor_weights)] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "dsp.levels=3"), "the matcher dsp is not among affine"),
        (("--features", "sift", "--weights", "hog=FILE"), "hog is not among sift"),
        (("--weights", "none.safetensors"), "none.safetensors: no such weights file"),
    ],
)
def test_eval_refuses_values_that_belong_to_nothing(pictures: Path, arguments: tuple[str, ...], said: str) -> None:
    done = evaluate(pictures, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_eval_breaks_down_by_difficulty(pictures: Path) -> None:
    """Pairs of two scales, and one keypoint whose part the target shows twice."""
    folder = pictures / "PairAnnotation" / "val"
    for number, (file, scale) in enumerate(zip(sorted(folder.iterdir()), (0, 2), strict=True)):
        file.unlink()
        (folder / f"00000{number}-x-y:cat.json").write_text(
            json.dumps(spair_entry(scale_variation=scale, kps_ids=["2", "13"]))
        )
    (pictures / "ImageAnnotation" / "cat").mkdir(parents=True)
    for name, shown in (("x", (2, 13, 14)), ("y", (2, 3, 13))):
        content = {"kps": {str(number): [1, 2] if number in shown else None for number in range(30)}}
        (pictures / "ImageAnnotation" / "cat" / f"{name}.json").write_text(json.dumps(content))
    page = pictures.parent / "page"
    done = evaluate(pictures, "--features", "sift", "--matcher", "nn", "--report", page, dataset="spair-71k")
    assert done.returncode == 0, done.stderr
    for row in ("difficulty", "scale: easy", "scale: hard", "geometry-aware points", "KAP@0.10"):
        assert row in done.stdout
    assert "scale: hard" in (page / "index.html").read_text()


def test_eval_follows_points_through_frames(tmp_path: Path) -> None:
    """Every score of TAP-Vid under its own protocol, whose thresholds are 1 to 16 of 256 pixels."""
    root = write_tap_vid(tmp_path / "tap-vid-davis")
    arguments = ("--features", "sift", "--matcher", "nn", "--protocol", "tapvid", "--json")
    done = geomatch("eval", "--dataset", "tap-vid-davis", "--root", root, "--preset", "fast", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [result["alpha"] * 256 for result in found["results"]] == [1, 2, 4, 8, 16]
    assert {result["average"] for result in found["results"]} == {"per-class-pooled"}
    measures = {measure["name"]: measure["value"] for measure in found["measures"]}
    assert measures["delta_avg"] == pytest.approx(sum(result["pck"] for result in found["results"]) / 5)
    assert all(0 <= measures[name] <= 1 for name in ("AJ", "OA"))
