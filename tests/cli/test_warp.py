"""`geomatch warp` and `geomatch morph` as a user meets them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from geomatch.io.flow import ENCODERS, FlowField
from geomatch.io.formats.animations import encode_animation
from tests.cli.command import assert_refused, geomatch

SIZE, TARGET = (20, 30), (40, 50)
SHIFT = (12, 7)


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """A folder with the flow of a shift, a third of it not valid, and an image and labels of the target."""
    flow = np.broadcast_to(np.array(SHIFT, np.float32)[:, None, None], (2, *SIZE))
    valid = np.ones(SIZE, bool)
    valid[:, :10] = False
    confidence = np.full(SIZE, 0.5, np.float32)
    (tmp_path / "flow.npz").write_bytes(ENCODERS["npz"](FlowField(flow.copy(), valid, confidence)))
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (*TARGET, 3), np.uint8)).save(tmp_path / "photo.png")
    labels = Image.fromarray(random.integers(0, 4, TARGET, np.uint8)).convert("P")
    labels.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    labels.save(tmp_path / "labels.png")
    return tmp_path


def test_warp_images_and_labels_into_the_source(shifted: Path) -> None:
    done = geomatch("warp", "flow.npz", "photo.png", "-o", "warped.png", cwd=shifted)
    assert (done.returncode, json.loads(done.stdout)["files"]) == (0, 1), done.stderr
    warped, photo = (np.asarray(Image.open(shifted / name)) for name in ("warped.png", "photo.png"))
    moved = slice(SHIFT[1], SHIFT[1] + SIZE[0]), slice(SHIFT[0], SHIFT[0] + SIZE[1])
    assert (warped[..., :3] == photo[moved]).all()
    assert (warped[:, :10, 3] == 0).all()
    assert (warped[:, 15:, 3] == 255).all()
    done = geomatch("warp", "flow.npz", "labels.png", "--as", "labels", "-o", "moved.png", cwd=shifted)
    assert done.returncode == 0, done.stderr
    labels, found = Image.open(shifted / "labels.png"), Image.open(shifted / "moved.png")
    assert found.getpalette() == labels.getpalette()
    assert (np.asarray(found)[:, 10:] == np.asarray(labels)[moved][:, 10:]).all()
    assert (np.asarray(found)[:, :10] == 0).all()


@pytest.mark.parametrize(("of", "sign"), [("source", 1), ("target", -1)])
def test_warp_points_in_both_directions(of: str, sign: int, shifted: Path) -> None:
    points = [(15, 9), (20, 12.5)] if sign > 0 else [(27, 16), (32, 19.5)]
    table = "name,x,y\n" + "".join(f"p{x},{x},{y}\n" for x, y in points)
    (shifted / "points.csv").write_text(table)
    done = geomatch("warp", "flow.npz", "points.csv", "--points-of", of, "-o", "out.jsonl", cwd=shifted)
    assert done.returncode == 0, done.stderr
    for line, (x, y) in zip((shifted / "out.jsonl").read_text().splitlines(), points, strict=True):
        record = json.loads(line)
        assert (record["to_x"], record["to_y"]) == (x + sign * SHIFT[0], y + sign * SHIFT[1])
        assert (record["name"], record["valid"], record["confidence"]) == (f"p{x}", True, 0.5)


def test_warp_several_files_into_a_folder(shifted: Path) -> None:
    (shifted / "more").mkdir()
    (shifted / "photo.png").rename(shifted / "more" / "photo.png")
    done = geomatch("warp", "flow.npz", "labels.png", "more", "-o", "out", cwd=shifted)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (shifted / "out").iterdir()) == ["labels.png", "photo.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("photo.png", "photo.png", "-o", "x.png"), "photo.png"),
        (("flow.npz", "none.png", "-o", "x.png"), "none.png: no such file"),
        (("flow.npz", "photo.png", "-o", "x.jpg"), "ends in .png"),
        (("flow.npz", "photo.png", "--as", "labels", "-o", "x.png"), "labels are grey or have a palette"),
        (("flow.npz", "small.png", "-o", "x.png"), "leads to no pixel of these 18x16"),
        (("flow.npz", "empty.csv", "-o", "x.jsonl"), "empty.csv: holds no points"),
    ],
)
def test_warp_bad_input_is_named(arguments: tuple[str, ...], said: str, shifted: Path) -> None:
    Image.new("RGB", (18, 16)).save(shifted / "small.png")
    (shifted / "empty.csv").write_text("x,y\n")
    assert_refused(geomatch("warp", *arguments, cwd=shifted), said, folder=shifted)
    assert not (shifted / "x.png").exists()


def test_morph_begins_and_ends_with_its_images(teapots: Path, tmp_path: Path) -> None:
    asked = ("--frames", 3, "--size", 96, "--preset", "fast", "-o", "frames")
    done = geomatch("morph", teapots / "a.png", teapots / "b.png", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 4
    frames = [np.asarray(Image.open(tmp_path / "frames" / f"00{k}.png")).astype(int) for k in (1, 2, 3, 4)]
    assert {frame.shape for frame in frames} == {(72, 96, 3)}
    assert (frames[1] == frames[3]).all()
    for frame, name in ((frames[0], "a.png"), (frames[2], "b.png")):
        small = np.asarray(Image.open(teapots / name).convert("RGB").resize((96, 72), Image.Resampling.LANCZOS))
        assert np.abs(frame - small).mean() < 1
    between = [np.abs(frames[1] - frames[k]).mean() for k in (0, 2)]
    assert max(between) < np.abs(frames[0] - frames[2]).mean()


def test_morph_refuses_other_files_before_any_work(teapots: Path, tmp_path: Path) -> None:
    done = geomatch("morph", teapots / "a.png", teapots / "b.png", "-o", "x.avi", cwd=tmp_path)
    assert_refused(done, "x.avi", "ends in .webp, .gif, .mp4", folder=tmp_path)


def test_mp4_names_what_to_install(teapots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    done = geomatch("morph", teapots / "a.png", teapots / "b.png", "-o", "x.mp4", cwd=tmp_path)
    assert_refused(done, "pip install 'geomatch[video]'", folder=tmp_path)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_animations_hold_all_frames(suffix: str, tmp_path: Path) -> None:
    shades = (0, 80, 200)
    content = encode_animation([Image.new("RGB", (32, 24), (shade,) * 3) for shade in shades], suffix, 20)
    (tmp_path / "a").write_bytes(content)
    with Image.open(tmp_path / "a") as picture:
        found = [np.asarray(frame.convert("RGB")).mean() for frame in ImageSequence.Iterator(picture)]
        assert picture.info["loop"] == 0
    np.testing.assert_allclose(found, shades, atol=3)
