"""`geomatch match` of parts of images: masks as files and as boxes, what the record says, and what is refused."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geomatch as library
from geomatch.arguments import mask_of
from geomatch.cli.options import PipelineOptions
from geomatch.errors import InputError
from geomatch.io.annotations.label_image import mask_of_picture
from geomatch.io.flow import read_flow
from tests.cli.command import assert_refused, geomatch
from tests.stub import build_stub, picture, stub_pipeline, to_tensor

WIDTH, HEIGHT = 96, 72


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(PipelineOptions, "build", build_stub)
    picture(HEIGHT, WIDTH).save(tmp_path / "a.png")
    picture(HEIGHT, WIDTH, left=20, top=8).save(tmp_path / "b.png")


def save_mask(path: Path, columns: slice, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    mask = np.zeros(size, np.uint8)
    mask[:, columns] = 255
    Image.fromarray(mask).save(path)


def test_match_keeps_masked_background_out(tmp_path: Path) -> None:
    save_mask(tmp_path / "half.png", slice(0, 48))
    asked = ("--source-mask", "half.png", "--target-mask", "10,0,40,72", "--format", "npz", "-o", "out")
    done = geomatch("match", "a.png", "b.png", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = read_flow(tmp_path / "out" / "flow.npz")
    rows, columns = found.valid.nonzero()
    assert len(columns) > 500
    assert columns.max() < 48
    to = np.floor(columns + found.flow[0, rows, columns] + 0.5)
    assert to.min() >= 10
    assert to.max() < 50
    record = json.loads(done.stdout)
    assert record["source_mask"]["path"] == "half.png"
    assert len(record["source_mask"]["sha256"]) == 64
    assert record["target_mask"] == [10, 0, 40, 72]
    assert record["valid_share"] == pytest.approx(found.valid[:, :48].mean(), abs=1e-4)
    opacity = np.asarray(Image.open(tmp_path / "out" / "warped.png"))[..., 3]
    assert opacity[:, :40].any()
    assert not opacity[:, 48:].any()


def test_points_are_found_within_the_masks(tmp_path: Path) -> None:
    save_mask(tmp_path / "half.png", slice(0, 48))
    asked = ("--point", "30,30", "--point", "60,30", "--source-mask", "half.png", "--target-mask", "0,0,30,72")
    done = geomatch("at", "a.png", "b.png", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    inside, outside = map(json.loads, done.stdout.splitlines())
    assert inside["valid"]
    assert inside["to_x"] < 30
    assert not outside["valid"]
    assert outside["confidence"] == 0


def test_page_of_a_pair_shows_no_match_outside_the_masks(tmp_path: Path) -> None:
    asked = ("view", "a.png", "b.png", "-q", "--overwrite")
    whole = json.loads(geomatch(*asked, cwd=tmp_path).stdout)
    part = json.loads(geomatch(*asked, "--target-mask", "0,0,24,72", cwd=tmp_path).stdout)
    assert part["target_mask"] == [0, 0, 24, 72]
    assert 0 < part["valid_share"] < whole["valid_share"] / 2


@pytest.mark.parametrize("command", [("view",), ("at", "--point", "3,3")])
def test_masks_of_another_size_are_refused(command: tuple[str, ...], tmp_path: Path) -> None:
    save_mask(tmp_path / "small.png", slice(0, 9), (30, 40))
    done = geomatch(*command, "a.png", "b.png", "--target-mask", "small.png", cwd=tmp_path)
    assert_refused(done, "small.png", "is 40x30 pixels", folder=tmp_path)


def test_smooth_and_inverse_flows_keep_to_the_masks() -> None:
    source, target = (to_tensor(picture(HEIGHT, WIDTH, left=left)) for left in (0, 20))
    found = stub_pipeline().match(source, target, source_mask=(8, 8, 60, 50), target_mask=(0, 0, 30, 72))
    smooth, back = found.smooth(), found.inverse()
    row, column = smooth.valid.nonzero().unbind(dim=1)
    assert len(row) > 200
    assert ((row >= 8) & (row < 58) & (column >= 8) & (column < 68)).all()
    assert ((column + smooth.flow[0, row, column] + 0.5).floor() < 30).all()
    row, column = back.valid.nonzero().unbind(dim=1)
    assert len(row) > 200
    assert (column < 30).all()
    to_row, to_column = (
        (back.flow[1, row, column] + row + 0.5).floor(),
        (back.flow[0, row, column] + column + 0.5).floor(),
    )
    assert ((to_row >= 8) & (to_row < 58) & (to_column >= 8) & (to_column < 68)).all()


def test_both_ways_and_mirrored_matches_keep_to_the_masks() -> None:
    source, target = to_tensor(picture(HEIGHT, WIDTH)), to_tensor(picture(HEIGHT, WIDTH, left=20)).flip(-1)
    pipeline = stub_pipeline().with_mirror("on")
    masks = {"source_mask": (30, 0, 40, 72), "target_mask": (20, 10, 60, 50)}
    there, back = pipeline.match_both_ways(source, target, **masks)  # type: ignore[arg-type]
    for found, own, other in ((there, (30, 70), (20, 80)), (back, (20, 80), (30, 70))):
        row, column = found.valid.nonzero().unbind(dim=1)
        to = (column + found.flow[0, row, column] + 0.5).floor()
        assert len(row) > 200
        assert own[0] <= column.min() <= column.max() < own[1]
        assert other[0] <= to.min() <= to.max() < other[1]


def test_resume_matches_again_under_another_mask(tmp_path: Path) -> None:
    save_mask(tmp_path / "half.png", slice(0, 48))
    asked = ("match", "--against", "a.png", "b.png", "--no-pictures", "-o", "out")
    first = geomatch(*asked, "--source-mask", "half.png", cwd=tmp_path)
    again = geomatch(*asked, "--source-mask", "half.png", "--resume", cwd=tmp_path)
    other = geomatch(*asked, "--source-mask", "0,0,40,40", "--resume", cwd=tmp_path)
    whole = geomatch(*asked, "--resume", cwd=tmp_path)
    assert again.stdout == first.stdout
    assert "kept from before" in again.stderr
    for done in (other, whole):
        assert done.returncode == 0, done.stderr
        assert "kept" not in done.stderr
    assert "source_mask" not in json.loads(whole.stdout)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("small.png", ("small.png", "is 40x30 pixels", "96x72")),
        ("empty.png", ("empty.png", "is empty")),
        ("photo.png", ("photo.png", "not a mask", "RGB")),
        ("text.png", ("text.png", "not an image")),
        ("missing.png", ("missing.png", "no such file")),
        ("200,0,10,10", ("source_mask", "holds no pixel")),
        ("0,0,0,10", ("0,0,0,10", "above 0")),
    ],
)
def test_match_refuses_masks_that_are_none(mask: str, said: tuple[str, ...], tmp_path: Path) -> None:
    save_mask(tmp_path / "small.png", slice(0, 9), (30, 40))
    save_mask(tmp_path / "empty.png", slice(0, 0))
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("not an image, but long enough to be read as one")
    assert_refused(geomatch("match", "a.png", "b.png", "--source-mask", mask, cwd=tmp_path), *said, folder=tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--against", "a.png", "b.png", "--target-mask", "0,0,9,9", "-o", "out"),
        ("--all-pairs", ".", "--source-mask", "0,0,9,9", "-o", "out"),
    ],
)
def test_match_refuses_one_mask_for_many_images(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert_refused(geomatch("match", *arguments, cwd=tmp_path), "is of one image", folder=tmp_path)


def test_masks_are_read_as_their_makers_meant_them() -> None:
    shape = np.zeros((20, 30), np.uint8)
    shape[4:9, 5:20] = 1
    expected = shape.astype(bool)
    palette = Image.fromarray(shape * 3, mode="P")
    palette.putpalette([0, 0, 0, 9, 9, 9, 1, 1, 1, 200, 0, 0])
    cut_out = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    cut_out.putalpha(Image.fromarray(shape * 255))
    colours = Image.fromarray(np.stack([shape * 200, shape * 0, shape * 7], axis=2))
    for made in (Image.fromarray(shape), Image.fromarray(shape * 255), palette, cut_out, colours):
        assert (mask_of_picture(made) == expected).all(), made.mode
    soft = io.BytesIO()
    Image.fromarray(np.kron(shape, np.ones((8, 8), np.uint8)) * 255).save(soft, "JPEG", quality=60)
    with Image.open(soft) as stored:
        found = mask_of_picture(stored)
    assert (found == np.kron(expected, np.ones((8, 8), bool))).mean() > 0.999


def test_python_masks_of_any_type_are_one() -> None:
    expected = np.zeros((4, 6), bool)
    expected[1:3, 2:5] = True
    given = (expected, expected.astype(int), expected.tolist(), (2, 1, 3, 2), Image.fromarray(expected))
    for each in given:
        assert (mask_of("mask", each, (4, 6)).numpy() == expected).all()
    for wrong in ("no", 7, object(), [[1, 2], [3]]):
        with pytest.raises(InputError):
            mask_of("mask", wrong, (4, 6))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mask: is 4x6 pixels"):
        mask_of("mask", expected.T, (4, 6))


def test_match_function_takes_masks() -> None:
    images = picture(HEIGHT, WIDTH), picture(HEIGHT, WIDTH, left=20)
    found = library.match(*images, features="hog", matcher="nn", source_mask=(0, 0, 40, 72), device="cpu")
    assert found.valid[:, :40].any()
    assert not found.valid[:, 40:].any()
