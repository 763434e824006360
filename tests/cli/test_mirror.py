"""`--mirror` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from geomatch.cli.options import PipelineOptions
from geomatch.io.flow import read_flow
from tests.cli.command import geomatch
from tests.stub import build_stub, picture


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture, a.png, and the same flipped left to right, b.png."""
    monkeypatch.setattr(PipelineOptions, "build", build_stub)
    shown = picture(60, 80)
    shown.save(tmp_path / "a.png")
    ImageOps.mirror(shown).save(tmp_path / "b.png")
    return tmp_path


def test_match_record_says_whether_the_source_was_flipped(pair: Path) -> None:
    records = {}
    for mirror in ("off", "auto", "on"):
        done = geomatch("match", "a.png", "b.png", "-o", mirror, "--mirror", mirror, cwd=pair)
        assert done.returncode == 0, done.stderr
        records[mirror] = json.loads(done.stdout)
        assert json.loads((pair / mirror / "match.json").read_text()) == records[mirror]
    assert not {"mirrored", "mirror_probability"} & records["off"].keys()
    assert 0 < records["auto"]["mirror_probability"] < 1
    assert records["auto"]["mirrored"] is (records["auto"]["mirror_probability"] > 0.5)
    assert (records["on"]["mirrored"], records["on"]["mirror_probability"]) == (True, None)
    flow = read_flow(pair / "on" / "flow.flo").flow
    np.testing.assert_allclose(flow[0, 30, 4:-4], (79 - 2 * np.arange(80.0))[4:-4], atol=1)


def test_match_without_mirror_is_match_with_mirror_off(pair: Path) -> None:
    for folder, more in (("plain", ()), ("off", ("--mirror", "off"))):
        assert geomatch("match", "a.png", "b.png", "-o", folder, *more, cwd=pair).returncode == 0
    names = {path.name for path in (pair / "plain").iterdir()} - {"match.json"}
    assert len(names) == 4
    for name in names:
        assert (pair / "plain" / name).read_bytes() == (pair / "off" / name).read_bytes()


def test_at_and_view_take_mirror(pair: Path) -> None:
    done = geomatch("at", "a.png", "b.png", "--point", "20,30", "--mirror", "on", cwd=pair)
    record = json.loads(done.stdout)
    assert (record["to_x"], record["to_y"]) == pytest.approx((59, 30), abs=1)
    assert record["mirrored"] is True
    pages = {}
    for mirror in ("off", "on"):
        done = geomatch("view", "a.png", "b.png", "-o", f"{mirror}.html", "--mirror", mirror, cwd=pair)
        assert done.returncode == 0, done.stderr
        pages[mirror] = (pair / f"{mirror}.html").read_text()
    said = "the source was flipped left to right"
    assert said in pages["on"]
    assert said not in pages["off"]


def test_match_unknown_mirror_is_refused(pair: Path) -> None:
    done = geomatch("match", "a.png", "b.png", "--mirror", "maybe", cwd=pair)
    assert done.returncode == 2
    assert "auto" in done.stderr
    assert Image.open(pair / "a.png").size == (80, 60)
