"""`geomatch average` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.cli.options import PipelineOptions
from geomatch.visualize.match_pictures.average import AveragePicture
from tests.cli.command import assert_refused, geomatch
from tests.stub import build_stub, picture

HEIGHT, WIDTH = 64, 96


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(PipelineOptions, "build", build_stub)
    for place, left in enumerate((0, 12, 24)):
        picture(HEIGHT, WIDTH, left=left).save(tmp_path / f"{place}.png")


def test_average_brings_shifted_pictures_into_one_frame(tmp_path: Path) -> None:
    """All show one large picture from different places, so that their mean in one frame is the reference again."""
    done = geomatch("average", "0.png", "1.png", "2.png", "-o", "mean.png", "--reference", "1.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["reference"], record["width"], record["height"]) == ("1.png", WIDTH, HEIGHT)
    assert [each["image"] for each in record["images"]] == ["0.png", "2.png"]
    assert all(0.5 < each["reached"] <= 1 for each in record["images"])
    mean, reference = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("mean.png", "1.png"))
    opaque = mean[..., 3] == 255
    assert opaque.mean() > 0.6
    assert np.abs(mean[..., :3] - reference)[opaque].mean() < 4


def test_average_again_gives_the_same_bytes_and_takes_folders(tmp_path: Path) -> None:
    first = geomatch("average", "0.png", "1.png", "2.png", "-o", "a.png", "-q", cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    (tmp_path / "photos").mkdir()
    for name in ("0.png", "1.png", "2.png"):
        (tmp_path / name).rename(tmp_path / "photos" / name)
    assert geomatch("average", "photos", "-o", "b.png", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_average_weighs_by_confidence_in_the_light_of_the_reference() -> None:
    """Where the confident image is sure its contrast prevails; where none reaches, the picture is transparent."""
    reference = torch.zeros(3, 4, 8, dtype=torch.uint8)
    reference[:, :, ::2] = 200
    bright = torch.cat((reference // 2 + 100, torch.full((1, 4, 8), 255, dtype=torch.uint8)))
    bright[3, :, 6:] = 0
    other = bright.flip(2)
    other[3] = bright[3]
    average = AveragePicture(reference)
    average.add(bright, torch.full((4, 8), 0.9))
    reached = average.add(other, torch.full((4, 8), 0.0))
    assert reached == pytest.approx(6 / 8)
    pixels = average.pixels()
    assert (pixels[:, 6:, 3] == 0).all()
    assert (pixels[:, :6, 3] == 255).all()
    sure = reference.permute(1, 2, 0).numpy()[:, :6].astype(int)
    assert np.abs(pixels[:, :6, :3] - sure).max() <= 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("0.png", "-o", "mean.png"), "give two images or more"),
        (("0.png", "0.png", "-o", "mean.png"), "no other image"),
        (("0.png", "missing.png", "-o", "mean.png"), "missing.png: no such file"),
        (("0.png", "1.png", "-o", "mean.jpg"), "ends in .png"),
        (("0.png", "1.png", "-o", "2.png"), "exists already"),
        (("0.png", "1.png", "-o", "mean.png", "--reference", "missing.png"), "missing.png: no such file"),
    ],
)
def test_average_refuses_what_it_cannot_average(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    assert_refused(geomatch("average", *arguments, cwd=tmp_path), said, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
