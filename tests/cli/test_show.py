import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.cli.commands.show import _print_means
from geomatch.features.anchornet import AnchorFeatures, Responses
from geomatch.features.load import load_features
from geomatch.io.images import load_image
from geomatch.options import PRESETS, Precision, Preset
from geomatch.pipeline import Pipeline
from geomatch.visualize.responses import GAP, PICTURE
from geomatch.visualize.sheet import MARGIN
from tests.cli.command import geomatch


def test_show_confidence_writes_sheet_and_json_lines(teapots: Path, tmp_path: Path) -> None:
    paths = [teapots / "a.png", teapots / "b.png"]
    done = geomatch("show", "confidence", *paths, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["image"] for record in records] == [str(path) for path in paths]
    sigma = Pipeline(features="introspection").extract(load_image(paths[1])).inverse_confidence
    assert sigma is not None
    expected = [float(sigma.min()), float(sigma.mean()), float(sigma.max())]
    assert [records[1][name] for name in ("min", "mean", "max")] == pytest.approx(expected, abs=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["sigma.png"]
    assert len(np.unique(np.asarray(Image.open(tmp_path / "sigma.png")).reshape(-1, 3), axis=0)) > 1000


def test_show_confidence_is_deterministic_and_quiet(teapots: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        arguments = (teapots / "a.png", "-o", name, "--preset", "fast", "--quiet")
        done = geomatch("show", "confidence", *arguments, cwd=tmp_path)
        assert (done.returncode, json.loads(done.stdout)["output"], done.stderr) == (0, name, "")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("command", ["confidence", "responses"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.png"], "missing.png: no such file"),
        (["noise.png", "missing.png"], "noise.png: is text, not an image"),
        (["photo.png", "-o", "sheet.jpg"], "ends in .png"),
        (["photo.png", "-o", "photo.png"], "one of the photographs"),
        (["photo.png", "-o", "noise.png/sheet.png"], "noise.png: is a file"),
        (["photo.png", "--weights", "noise.png"], "noise.png"),
    ],
)
def test_show_refuses_bad_input_and_writes_nothing(
    arguments: list[str], said: str, command: str, teapots: Path, anchor_weights: Path, tmp_path: Path
) -> None:
    shutil.copy(teapots / "a.png", tmp_path / "photo.png")
    (tmp_path / "noise.png").write_bytes(b"no picture")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    own = ["--weights", anchor_weights] if command == "responses" and "--weights" not in arguments else []
    done = geomatch("show", command, *arguments, *own, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("command", ["confidence", "responses"])
def test_show_draws_all_images_that_can_be_read(
    command: str, teapots: Path, anchor_weights: Path, tmp_path: Path
) -> None:
    """A file that is damaged or missing does not stop a list; each gets its line, in the list's order."""
    good = [shutil.copy(teapots / f"{name}.png", tmp_path) for name in "ab"]
    (tmp_path / "noise.png").write_bytes(b"no picture")
    own = ["--weights", anchor_weights, "--class", "teapot"] if command == "responses" else []
    listed = ["noise.png", good[0], "missing.png", good[1]]
    done = geomatch("show", command, *listed, "-o", "some.png", "--preset", "fast", *own, cwd=tmp_path)
    assert done.returncode == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["image"] for record in records] == [str(path) for path in listed]
    assert ["error" in record for record in records] == [True, False, True, False]
    assert [line.removeprefix("geomatch: error: ") for line in done.stderr.splitlines()] == [
        *(record["error"] for record in records if "error" in record),
        "4 photographs, 2 failed",
    ]
    whole = geomatch("show", command, *good, "-o", "good.png", "--preset", "fast", *own, cwd=tmp_path)
    assert whole.returncode == 0
    assert (tmp_path / "some.png").read_bytes() == (tmp_path / "good.png").read_bytes()


@pytest.mark.parametrize("command", ["confidence", "responses"])
def test_show_without_photograph_is_a_usage_error(command: str, tmp_path: Path) -> None:
    done = geomatch("show", command, cwd=tmp_path)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_show_responses_draws_and_measures(teapots: Path, anchor_weights: Path, tmp_path: Path) -> None:
    paths = [teapots / "a.png", teapots / "b.png"]
    arguments = ("--weights", anchor_weights, "--class", "teapot", "--channels", "3")
    done = geomatch("show", "responses", *paths, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["responses.png"]
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["image"], each["class"], each["output"]) for each in records] == [
        (str(path), "teapot", "responses.png") for path in paths
    ]

    found = [respond(path, anchor_weights) for path in paths]
    banks = [each.maps[8:].double().numpy() for each in found]
    strongest = np.array([bank.max(axis=(1, 2)) for bank in banks])
    drawn = np.argsort(-strongest.mean(axis=0))[:3]
    for record, each, bank, responses in zip(records, found, banks, strongest, strict=True):
        assert record["score"] == pytest.approx(responses.mean() - math.log(2), abs=1e-4)  # their thresholds are 0
        unit = bank.reshape(4, -1) / np.linalg.norm(bank.reshape(4, -1), axis=1, keepdims=True)
        assert record["diversity"] == pytest.approx((unit @ unit.T)[np.triu_indices(4, 1)].mean(), abs=1e-4)
        assert [one["filter"] for one in record["filters"]] == drawn.tolist()
        for one in record["filters"]:
            energy = np.sort(bank[one["filter"]].ravel() ** 2)[::-1]
            assert one["sparsity"] == pytest.approx(energy[: round(len(energy) / 20)].sum() / energy.sum(), abs=1e-4)
            assert one["response"] == pytest.approx(responses[one["filter"]], abs=1e-4)
            x, y = each.grid.centres()[bank[one["filter"]].argmax()].tolist()
            assert one["at"] == pytest.approx([x, y], abs=0.06)


def test_show_responses_chooses_the_strongest_class(teapots: Path, anchor_weights: Path, tmp_path: Path) -> None:
    paths = [teapots / "a.png", teapots / "b.png"]
    done = geomatch("show", "responses", *paths, "--weights", anchor_weights, cwd=tmp_path)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    strongest = sum(respond(path, anchor_weights).maps.amax(dim=(1, 2)).reshape(3, 4).mean(dim=1) for path in paths)
    assert {each["class"] for each in records} == {("cat", "dog", "teapot")[int(strongest.argmax())]}
    assert all(len(each["filters"]) == 4 for each in records)  # of 8 asked for, all there are


def test_show_responses_is_deterministic_and_quiet(teapots: Path, anchor_weights: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        arguments = (teapots / "a.png", "--weights", anchor_weights, "-o", name, "--preset", "fast", "--quiet")
        done = geomatch("show", "responses", *arguments, cwd=tmp_path)
        assert (done.returncode, json.loads(done.stdout)["output"], done.stderr) == (0, name, "")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_show_responses_refuses_unknown_class(teapots: Path, anchor_weights: Path, tmp_path: Path) -> None:
    arguments = (teapots / "a.png", "--weights", anchor_weights, "--class", "unicorn")
    done = geomatch("show", "responses", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no anchors of 'unicorn'" in done.stderr
    assert "cat, dog, teapot" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_show_responses_of_introspection_beside_sigma(teapots: Path, tmp_path: Path) -> None:
    """The channels drawn, and their numbers, against a loop over the cells of phi."""
    paths = [teapots / "a.png", teapots / "b.png"]
    arguments = ("--features", "introspection", "--channels", "3", "--preset", "fast")
    done = geomatch("show", "responses", *paths, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["responses.png"]
    records = [json.loads(line) for line in done.stdout.splitlines()]
    pipeline = Pipeline(features="introspection", preset="fast")
    found = [pipeline.extract(load_image(path)) for path in paths]
    scores = np.zeros(len(found[0].descriptors))
    for each in found:
        phi = np.maximum(each.descriptors.double().numpy(), 0).reshape(len(scores), -1)
        sigma = each.inverse_confidence.numpy().ravel()  # type: ignore[union-attr]
        sure = sorted(range(len(sigma)), key=lambda cell: (sigma[cell], cell))[: round(len(sigma) / 4)]
        scores += phi[:, sure].mean(axis=1) - phi.mean(axis=1)
    drawn = np.argsort(-scores, kind="stable")[:3].tolist()
    for record, path, each in zip(records, paths, found, strict=True):
        assert (record["image"], record["output"]) == (str(path), "responses.png")
        assert [one["channel"] for one in record["channels"]] == drawn
        for one in record["channels"]:
            phi = each.descriptors[one["channel"]]
            assert one["response"] == pytest.approx(float(phi.max()), abs=1e-4)
            assert one["at"] == pytest.approx(each.grid.centres()[phi.argmax()].tolist(), abs=0.06)
    width = Image.open(tmp_path / "responses.png").width
    assert width == 2 * MARGIN + 5 * PICTURE[0] + 4 * GAP  # the photograph, sigma and three channels


def test_show_responses_of_introspection_has_no_class(teapots: Path, tmp_path: Path) -> None:
    arguments = (teapots / "a.png", "--features", "introspection", "--class", "cat")
    done = geomatch("show", "responses", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--class chooses filters of AnchorNet" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_show_responses_prints_means_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def record(response: float, sparsity: float, diversity: float | None) -> dict[str, object]:
        return {"diversity": diversity, "filters": [{"filter": 7, "response": response, "sparsity": sparsity}]}

    _print_means("cat", "filter", [7], [record(1, 0.25, 0.5), record(3, 0.75, 0.25)])
    said = capsys.readouterr().out
    means = next(line for line in said.splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in means.split("│")[1:-1]] == ["7", "2.00", "0.50"]
    assert "diversity of all its filters 0.38" in said
    _print_means("cat", "filter", [7], [record(1, 0.25, None)])
    assert "diversity" not in capsys.readouterr().out


def respond(path: Path, weights: Path) -> Responses:
    extractor = load_features(
        "anchornet",
        working_size=PRESETS[Preset.default].working_size,
        device=torch.device("cpu"),
        weights=weights,
        precision=Precision.auto,
    )
    assert isinstance(extractor, AnchorFeatures)
    return extractor.respond(load_image(path))
