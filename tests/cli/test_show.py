import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.io.images import load_image
from geomatch.pipeline import Pipeline
from tests.cli.test_match import geomatch


def test_a_sheet_and_a_line_of_json_for_each_photograph(teapots: Path, tmp_path: Path) -> None:
    paths = [teapots / "a.png", teapots / "b.png"]
    done = geomatch("show", "confidence", *paths, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["image"] for record in records] == [str(path) for path in paths]
    sigma = Pipeline.build().describe(load_image(paths[1])).inverse_confidence
    assert sigma is not None
    expected = [float(sigma.min()), float(sigma.mean()), float(sigma.max())]
    assert [records[1][name] for name in ("min", "mean", "max")] == pytest.approx(expected, abs=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["sigma.png"]
    assert len(np.unique(np.asarray(Image.open(tmp_path / "sigma.png")).reshape(-1, 3), axis=0)) > 1000


def test_the_same_command_gives_the_same_picture_and_quiet_says_nothing(teapots: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        arguments = (teapots / "a.png", "-o", name, "--preset", "fast", "--quiet")
        done = geomatch("show", "confidence", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.png"], "missing.png: no such file"),
        (["photo.png", "noise.png"], "noise.png: not an image"),
        (["photo.png", "-o", "sheet.jpg"], "ends in .png"),
        (["photo.png", "-o", "photo.png"], "one of the photographs"),
        (["photo.png", "-o", "nowhere/sheet.png"], "no such folder"),
        (["photo.png", "--weights", "noise.png"], "noise.png"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(
    arguments: list[str], said: str, teapots: Path, tmp_path: Path
) -> None:
    shutil.copy(teapots / "a.png", tmp_path / "photo.png")
    (tmp_path / "noise.png").write_bytes(b"no picture")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = geomatch("show", "confidence", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_photograph_at_all_is_a_usage_error(tmp_path: Path) -> None:
    done = geomatch("show", "confidence", cwd=tmp_path)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []
