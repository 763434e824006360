"""Whatever stands in an image, a flow file, a file of features or a list of pairs, it is read or refused."""

import io
import json
import zipfile
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geomatch.datasets.base import image_size
from geomatch.errors import InputError
from geomatch.io.features import decode_features_npz, encode_features_npz
from geomatch.io.flow import ENCODERS, FILE_NAMES, FlowField, read_flow
from geomatch.io.images import MIN_SIDE, load_image
from geomatch.io.pairs import read_names, read_pairs
from tests.conftest import random_features
from tests.fuzzing import assert_read_or_refused, fuzzed, junk, mutations, with_png_checksums

NOISE = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
MOVES = np.random.default_rng(1).normal(size=(2, 6, 7)).astype(np.float32)
FLOW = FlowField(MOVES, NOISE[:6, :7, 0] > 99, np.full((6, 7), 0.5, np.float32))


def encoded(mode: str, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    return exif


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(np.roll(NOISE, step, axis=1)).convert("RGB") for step in range(3)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


IMAGES = {
    "grey.jpg": encoded("L", "JPEG"),
    "turned.jpg": encoded("RGB", "JPEG", exif=turned()),
    "progressive.jpg": encoded("CMYK", "JPEG", progressive=True),
    "plain.png": encoded("RGB", "PNG", exif=turned()),
    "palette.png": encoded("P", "PNG", transparency=3),
    "clear.png": encoded("RGBA", "PNG", dpi=(72, 72)),
    "deep.png": encoded("I;16", "PNG"),
    "moving.gif": animation("GIF"),
    "moving.png": animation("PNG"),
    "moving.webp": animation("WEBP"),
    "plain.webp": encoded("RGB", "WEBP", exif=turned()),
    "plain.bmp": encoded("RGB", "BMP"),
    "plain.tif": encoded("RGB", "TIFF", exif=turned()),
    "packed.tif": encoded("RGB", "TIFF", compression="tiff_lzw"),
    "pages.tif": animation("TIFF"),
    "real.tif": encoded("F", "TIFF"),
    "plain.ppm": encoded("RGB", "PPM"),
}
FLOWS = {FILE_NAMES[name]: encode(FLOW) for name, encode in ENCODERS.items()}
FEATURES = encode_features_npz(random_features(2, 3, sigma=0.5), {"features": "random"})
LISTS = {
    "pairs.csv": b'source,target\na.jpg,"b, c.jpg"\nd.jpg,e.jpg\n',
    "pairs.tsv": b"target\tsource\tnote\na.jpg\tb c.jpg\tx\n",
    "pairs.jsonl": b'{"source": "a.jpg", "target": "b.jpg"}\n{"source": "c", "target": "d"}\n',
    "pairs.txt": b"a.jpg\tb.jpg\n",
}


def archive_of(content: bytes, damage: st.DataObject) -> bytes:
    """The arrays of an archive, one of them damaged, in an archive that is whole."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(file, "w") as made:
        chosen = damage.draw(st.sampled_from(whole.namelist()))
        for name in whole.namelist():
            made.writestr(name, damage.draw(mutations(whole.read(name))) if name == chosen else whole.read(name))
    return file.getvalue()


def read_image_file(path: Path) -> None:
    pixels = load_image(path)
    assert pixels.dtype.itemsize == 1
    assert pixels.shape[0] == 3
    assert min(pixels.shape[1:]) >= MIN_SIDE
    assert image_size(path) == pixels.shape[1:]


def read_flow_file(path: Path) -> None:
    field = read_flow(path)
    assert field.flow.dtype == np.float32
    assert field.flow.shape == (2, *field.valid.shape)
    assert field.valid.size > 0
    assert field.valid.dtype == bool
    assert np.isfinite(field.flow[:, field.valid]).all()
    if field.confidence is not None:
        assert field.confidence.shape == field.valid.shape


class TemporaryFile:
    def __init__(self, content: bytes, name: str) -> None:
        self._folder, self._content, self._name = TemporaryDirectory(), content, name

    def __enter__(self) -> Path:
        path = Path(self._folder.__enter__()) / self._name
        path.write_bytes(self._content)
        return path

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()


@pytest.mark.parametrize("name", IMAGES)
@given(st.data())
@fuzzed(10)
def test_damaged_image_files(name: str, data: st.DataObject) -> None:
    content = data.draw(mutations(IMAGES[name]))
    if name.endswith(".png") and data.draw(st.booleans()):
        content = with_png_checksums(content)
    with TemporaryFile(content, name) as path:
        assert_read_or_refused(partial(read_image_file, path), named=name)


@pytest.mark.parametrize("name", IMAGES)
def test_fuzzed_image_files_are_valid_themselves(name: str) -> None:
    with TemporaryFile(IMAGES[name], name) as path:
        assert assert_read_or_refused(partial(read_image_file, path))


@given(st.binary(max_size=300), st.sampled_from([*IMAGES, *FLOWS]))
@fuzzed(40)
def test_any_bytes_as_an_image_or_a_flow(content: bytes, name: str) -> None:
    with TemporaryFile(content, name) as path:
        assert_read_or_refused(partial(read_image_file, path), named=name)
        if name in FLOWS:
            assert_read_or_refused(partial(read_flow_file, path), named=name)


@pytest.mark.parametrize("name", FLOWS)
@given(st.data())
@fuzzed(40)
def test_damaged_flow_files(name: str, data: st.DataObject) -> None:
    content = data.draw(mutations(FLOWS[name]))
    if name.endswith(".png"):
        content = with_png_checksums(content)
    if name.endswith(".npz") and data.draw(st.booleans()):
        content = archive_of(FLOWS[name], data)
    with TemporaryFile(content, name) as path:
        assert_read_or_refused(partial(read_flow_file, path), named=name)


@pytest.mark.parametrize("name", FLOWS)
def test_fuzzed_flow_files_are_valid_themselves(name: str) -> None:
    with TemporaryFile(FLOWS[name], name) as path:
        assert assert_read_or_refused(partial(read_flow_file, path))


@given(st.data())
@fuzzed(60)
def test_damaged_feature_files(data: st.DataObject) -> None:
    content = archive_of(FEATURES, data) if data.draw(st.booleans()) else data.draw(mutations(FEATURES))
    try:
        found = decode_features_npz(content)
    except ValueError:
        return
    assert found.descriptors.shape[1:] == found.grid.shape


@given(st.data(), st.sampled_from(list(LISTS)))
@fuzzed(80)
def test_damaged_lists_of_pairs_and_of_names(data: st.DataObject, name: str) -> None:
    with TemporaryFile(data.draw(mutations(LISTS[name])), name) as path:
        assert_read_or_refused(partial(read_listed_images, path))


@given(junk | st.fixed_dictionaries({"source": junk, "target": junk}))
@fuzzed(40)
def test_anything_as_a_line_of_a_list_of_pairs(entry: object) -> None:
    with TemporaryFile(json.dumps(entry).encode(), "pairs.jsonl") as path:
        assert_read_or_refused(partial(read_listed_images, path))


def read_listed_images(path: Path) -> None:
    for image in {image for pair in read_pairs(path) for image in pair} | set(read_names(path)):
        with pytest.raises(InputError):
            load_image(path.parent / "nowhere" / image)
