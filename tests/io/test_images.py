import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.images import image_suffixes, load_image


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_load_image_keeps_colours(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    read = load_image(saved(Image.fromarray(pixels), tmp_path / "a.png"))
    assert read.shape == (3, 20, 30)
    assert (read.permute(1, 2, 0).numpy() == pixels).all()


def test_load_image_repeats_grey(tmp_path: Path) -> None:
    read = load_image(saved(Image.new("L", (20, 20), 77), tmp_path / "a.png"))
    assert (read == 77).all()


def test_load_image_puts_transparency_over_white(tmp_path: Path) -> None:
    read = load_image(saved(Image.new("RGBA", (20, 20), (0, 0, 0, 0)), tmp_path / "a.png"))
    assert (read == 255).all()


def test_load_image_puts_transparent_palette_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.paste(0, (0, 0, 20, 10))
    read = load_image(saved(image, tmp_path / "a.png", transparency=0))
    assert read[:, 0, 0].tolist() == [255, 255, 255]
    assert read[:, 19, 0].tolist() == [200, 10, 10]


def test_load_image_converts_cmyk(tmp_path: Path) -> None:
    read = load_image(saved(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95))
    red, green, blue = read.float().mean(dim=(1, 2)).tolist()
    assert red > 200 > 60 > max(green, blue)


def test_load_image_scales_sixteen_bit_grey(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((20, 20), 128 * 257, dtype=np.uint16))
    assert (load_image(saved(image, tmp_path / "a.png")) == 128).all()


def test_load_image_follows_exif_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    assert load_image(saved(image, tmp_path / "a.jpg", exif=exif)).shape == (3, 40, 20)


def test_load_image_takes_first_frame_with_a_warning(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    path = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(GeomatchWarning, match="first frame"):
        assert load_image(path)[:, 5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "is empty"),
        ("text.png", b"hello, I am a text", "is text, not an image"),
        ("cut.jpg", None, "damaged or incomplete"),
    ],
)
def test_load_image_names_a_damaged_file(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    path = tmp_path / name
    if content is None:
        buffer = io.BytesIO()
        Image.effect_noise((200, 200), 50).save(buffer, "JPEG")
        content = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as raised:
        load_image(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("size", "reason"), [((1, 1), "too small"), ((30_000, 10), "too small"), ((400, 20), "elongated")]
)
def test_load_image_refuses_small_and_elongated(tmp_path: Path, size: tuple[int, int], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_image(saved(Image.new("RGB", size), tmp_path / "a.png"))


def test_load_image_refuses_a_decompression_bomb(tmp_path: Path) -> None:
    path = saved(Image.new("1", (20_000, 20_000)), tmp_path / "bomb.png")
    with pytest.raises(InputError, match="million pixels"):
        load_image(path)


def test_load_image_names_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="is a folder"):
        load_image(tmp_path)


def test_decoding_in_threads_keeps_warning_filters(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (20, 20)), tmp_path / "a.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(load_image, [path] * 200))
    assert len(read) == 200
    assert warnings.filters == before


def test_load_image_refuses_an_impossible_name() -> None:
    with pytest.raises(InputError, match="no file can have such a name"):
        load_image(Path("a\0b.png"))


def test_load_image_refuses_tiff_without_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("L", (20, 24)).save(path)
    path.write_bytes(path.read_bytes().replace(b"\x00\x01\x04\x00\x01", b"\xf0\x01\x04\x00\x01", 1))
    with pytest.raises(InputError, match="damaged"):
        load_image(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "AVIF that is damaged"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0isom", "a camera's raw file"),
        (b"\0\0\0\x18ftypqt  \0\0\0\0", "a film"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a camera's raw file"),
        (b"IIRO\x08\0\0\0", "a camera's raw file"),
        (b"\xff\x0a\1\1", "JPEG XL"),
        (b"%PDF-1.7", "a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n", "PostScript, a drawing without pixels"),
        (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg/>', "SVG, a drawing without pixels; export it as PNG"),
        ('<?xml version="1.0" encoding="utf-16"?><svg/>'.encode("utf-16"), "SVG"),
        (b"<!DOCTYPE html><html>404</html>", "a web page, not the file; download it again"),
        (b'{"error": "rate limit"}', "text, not an image; download it again"),
        (("<Error>" + "\u732b" * 999).encode(), "text, not an image"),
        (b"PK\3\4", "a zip archive or a document; unpack it"),
        (b"", "empty; copy or download it again"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (bytes(range(256)), "not an image file that can be read"),
    ],
)
def test_load_image_names_what_a_file_is_instead(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        load_image(path)


HEIC_HEADS = (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypmif1\0\0\0\0heic")


@pytest.mark.parametrize("content", HEIC_HEADS)
@pytest.mark.parametrize(
    ("installed", "said"),
    [(False, r"is HEIC, .* pip install 'geomatch\[heic\]', or export it as JPEG"), (True, "damaged")],
)
def test_load_image_says_how_to_read_heic(
    content: bytes, installed: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geomatch.io.images.has_heif", lambda: installed)
    (tmp_path / "a.heic").write_bytes(content)
    with pytest.raises(InputError, match=said):
        load_image(tmp_path / "a.heic")


def test_load_image_reads_heic_upright(tmp_path: Path) -> None:
    """As a phone stores it: on its side, with an EXIF orientation, and other images beside the main one."""
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    y, x = np.indices((64, 96))
    pixels = np.stack((x * 2, y * 3, np.full_like(x, 90)), axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = heif.from_pillow(Image.fromarray(pixels))
    file.save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    read = load_image(tmp_path / "a.heic").permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(pixels).rotate(-90, expand=True))
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 3

    file.add_from_pillow(Image.new("RGB", (96, 64), "red"))
    file.save(tmp_path / "two.heic", quality=95, primary_index=0)
    with pytest.warns(GeomatchWarning, match="holds 2 images; the main one is used"):
        first = load_image(tmp_path / "two.heic")
    assert np.abs(first.permute(1, 2, 0).numpy().astype(int) - pixels).mean() < 3
    assert ".heic" in image_suffixes()


@pytest.mark.parametrize(("tags", "raw"), [({254: 1, 330: 8}, True), ({50706: b"\1\4\0\0"}, True), ({254: 1}, False)])
def test_load_image_refuses_the_preview_of_a_raw_file(tags: dict[int, int | bytes], raw: bool, tmp_path: Path) -> None:
    """The first image in a .nef, .arw or .dng is a small preview, which Pillow reads as a TIFF like any other."""
    path, info = tmp_path / "a.nef", TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
    Image.new("RGB", (160, 120)).save(path, "TIFF", tiffinfo=info)
    if raw:
        with pytest.raises(InputError, match="raw file; export it as JPEG or PNG"):
            load_image(path)
    else:
        assert load_image(path).shape == (3, 120, 160)
