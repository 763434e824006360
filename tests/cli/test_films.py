"""Commands on films: a film stands for its frames wherever a folder stands for its images."""

import json
from pathlib import Path

import numpy as np
import pytest

from geomatch.cli.options import PipelineOptions
from tests.cli.command import geomatch
from tests.stub import build_stub, picture

COUNT = 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture, a point marked on it, and a film of other views of it."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'geomatch[video]'")
    monkeypatch.setattr(PipelineOptions, "build", build_stub)
    picture(72, 96).save(tmp_path / "a.png")
    (tmp_path / "points.csv").write_text("name,x,y\nnose,50,40\n")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "yuv420p"
        for number in range(COUNT):
            view = np.asarray(picture(72, 96, left=4 * number))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())
    return tmp_path


def test_transfer_to_a_film_is_transfer_to_its_frames(folder: Path) -> None:
    asked = ("--keypoints", "points.csv", "--format", "labelme", "-o", "out", "--review", "look")
    done = geomatch("transfer", "a.png", "clip.mp4", *asked, cwd=folder)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    names = [f"clip.mp4#{number:06d}" for number in range(COUNT)]
    assert [record["image"] for record in records] == names
    assert [record["items"][0]["x"] for record in records] == pytest.approx([50, 46, 42], abs=3)
    assert sorted(file.name for file in (folder / "out").glob("*.json")) == [
        f"clip-{number:06d}.json" for number in range(COUNT)
    ]
    again = geomatch("transfer", "a.png", names[1], *asked[:-2], "--resume", cwd=folder)
    assert json.loads(again.stdout)["items"] == records[1]["items"]
    assert "kept from before" in again.stderr


def test_match_takes_films_and_frames(folder: Path) -> None:
    many = geomatch("match", "--against", "a.png", "clip.mp4", "-o", "out", "--no-pictures", cwd=folder)
    assert many.returncode == 0, many.stderr
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        f"a--clip-{number:06d}" for number in range(COUNT)
    ]
    one = geomatch("match", "a.png", "clip.mp4#2", "--no-pictures", cwd=folder)
    assert one.returncode == 0, one.stderr
    assert (folder / "a--clip-000002" / "flow.flo").read_bytes() == (
        folder / "out" / "a--clip-000002" / "flow.flo"
    ).read_bytes()


def test_film_that_cannot_be_read_is_refused_before_any_work(folder: Path) -> None:
    (folder / "bad.mp4").write_bytes(b"no film")
    done = geomatch("transfer", "a.png", "clip.mp4", "bad.mp4", "--keypoints", "points.csv", "-o", "o.csv", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad.mp4: not a film that can be read" in done.stderr
    assert not (folder / "o.csv").exists()
