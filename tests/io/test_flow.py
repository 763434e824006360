import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.flow import (
    ENCODERS,
    FILE_NAMES,
    FlowField,
    decode_flo,
    decode_kitti,
    decode_npy,
    decode_npz,
    decode_pfm_flow,
    decode_tiff,
    encode_flo,
    encode_kitti,
    encode_npy,
    encode_npz,
    read_flow,
)
from geomatch.io.formats.png import encode_png
from geomatch.io.formats.png16 import decode_rgb16
from geomatch.io.formats.tiff_pages import encode_pages

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
pixels16 = shapes.flatmap(lambda shape: hnp.arrays(np.uint16, (*shape, 3)))


def field(flow: np.ndarray, valid: np.ndarray | None = None) -> FlowField:
    flow = np.asarray(flow, dtype=np.float32)
    return FlowField(flow, np.ones(flow.shape[1:], bool) if valid is None else valid)


def test_flo_bytes_follow_middlebury() -> None:
    content = encode_flo(field([[[1.5, 2.5]], [[-3.0, 4.0]]]))
    assert content == b"PIEH" + struct.pack("<ii4f", 2, 1, 1.5, -3.0, 2.5, 4.0)


@given(hnp.arrays(np.float32, (2, 3, 5), elements=st.floats(-1e4, 1e4, width=32)))
def test_flo_and_npz_survive_writing_and_reading(flow: np.ndarray) -> None:
    valid = flow[0] > 0
    assert (decode_flo(encode_flo(field(flow))).flow == flow).all()
    back = decode_npz(encode_npz(FlowField(flow, valid, np.abs(flow[1]))))
    assert (back.flow == flow).all()
    assert (back.valid == valid).all()
    assert back.confidence is not None
    assert (back.confidence == np.abs(flow[1])).all()


@given(hnp.arrays(np.float32, (2, 3, 5), elements=st.floats(-1e4, 1e4, width=32)))
def test_npy_is_the_flow_array(flow: np.ndarray) -> None:
    content = encode_npy(FlowField(flow, flow[0] > 0))
    assert (np.load(io.BytesIO(content)) == flow).all()
    assert (decode_npy(content).flow == flow).all()


@pytest.mark.parametrize("content", [b"", b"PIEH", b"\x93NUMPY", encode_npz(field(np.zeros((2, 1, 1))))])
def test_npy_refuses_other_content(content: bytes) -> None:
    with pytest.raises(ValueError, match="npy"):
        decode_npy(content)


def test_flo_marks_unknown_flow_as_invalid() -> None:
    content = encode_flo(field([[[1e10, np.nan, 1]], [[0, 0, 1]]]))
    assert decode_flo(content).valid.tolist() == [[False, False, True]]


@given(hnp.arrays(np.float32, (2, 4, 3), elements=st.floats(-511, 511, width=32)))
def test_kitti_rounds_to_a_64th_of_a_pixel(flow: np.ndarray) -> None:
    valid = flow[0] < 100
    back = decode_kitti(encode_kitti(FlowField(flow, valid)))
    assert (back.valid == valid).all()
    assert np.abs(back.flow - flow)[:, valid].max(initial=0) <= 1 / 128


def test_kitti_warns_of_too_large_displacements() -> None:
    flow = np.zeros((2, 1, 4), dtype=np.float32)
    flow[0, 0] = [511.5, 512.5, -512, -513]
    with pytest.warns(GeomatchWarning, match="2 larger ones are marked invalid"):
        back = decode_kitti(encode_kitti(field(flow)))
    assert back.valid.tolist() == [[True, False, True, False]]
    assert back.flow[0, 0].tolist() == [511.5, 0, -512, 0]


@given(pixels16)
def test_sixteen_bit_png_is_lossless(pixels: np.ndarray) -> None:
    assert (decode_rgb16(encode_png(pixels), max_pixels=100) == pixels).all()


def test_sixteen_bit_png_is_read_by_pillow(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (5, 7, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(encode_png(pixels))
    assert (np.asarray(Image.open(tmp_path / "a.png")) == pixels >> 8).all()  # it keeps the upper byte


@pytest.mark.parametrize("name", ["pfm", "tiff"])
def test_float_formats_are_lossless(name: str, tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32) * 1e3
    valid, confidence = flow[0] > 0, np.abs(flow[1]) / 1e4
    path = tmp_path / FILE_NAMES[name]
    path.write_bytes(ENCODERS[name](FlowField(flow, valid, confidence)))
    back = read_flow(path)
    assert (back.flow == flow).all()
    assert (back.valid == valid).all()
    assert name == "pfm" or (back.confidence is not None and (back.confidence == confidence).all())
    (tmp_path / "bare").write_bytes(path.read_bytes())
    assert (read_flow(tmp_path / "bare").flow == flow).all()


def test_pfm_is_as_others_write_it() -> None:
    """Rows from the bottom, either byte order, and a third channel that says nothing."""
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    values[..., 2] = 0
    for scale, order in ((b"-1.0", "<f4"), (b"1", ">f4")):
        found = decode_pfm_flow(b"PF\n2 2\n" + scale + b"\n" + values.astype(order).tobytes())
        assert found.flow[:, 0].tolist() == [[6, 9], [7, 10]]
        assert found.valid.all()


def test_tiff_of_two_pages_is_valid_where_finite() -> None:
    pages = np.array([[[1, np.nan]], [[2, 3]]], np.float32)
    found = decode_tiff(encode_pages(list(pages)))
    assert found.valid.tolist() == [[True, False]]
    assert found.flow[:, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pfm", b"PF\n2 2\n-1.0\n" + bytes(40)),
        ("a.pfm", b"Pf\n2 2\n-1.0\n" + bytes(16)),
        ("a.pfm", b"PF\n2 2\n1.2.3\n" + bytes(48)),
        ("a.tiff", b"II*\0nothing"),
        ("a.tif", encode_pages([np.zeros((2, 3), np.float32)])),
        ("a.tiff", encode_pages([np.zeros((2, 3), np.float32)] * 9)),
    ],
)
def test_bad_float_files_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_flow(tmp_path / name)


@settings(max_examples=30)
@given(pixels16, st.integers(0, 2**32 - 1))
def test_every_png_row_filter_is_undone(pixels: np.ndarray, seed: int) -> None:
    """Against the filters as the specification words them, one byte at a time."""
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").tobytes()
    stride = width * 6
    body = b""
    for y in range(height):
        kind = int(np.random.default_rng((seed, y)).integers(5))
        body += bytes([kind])
        for x in range(stride):
            a = rows[y * stride + x - 6] if x >= 6 else 0
            b = rows[(y - 1) * stride + x] if y else 0
            c = rows[(y - 1) * stride + x - 6] if y and x >= 6 else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            body += bytes([(rows[y * stride + x] - (0, a, b, (a + b) // 2, paeth)[kind]) % 256])

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    assert (decode_rgb16(content, max_pixels=100) == pixels).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.flo", b"PIEH"),
        ("a.flo", b"PIEH" + struct.pack("<ii", 1000, 1000)),
        ("a.flo", b"nothing of the kind"),
        ("a.npz", b"no zip"),
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.png", encode_png(np.zeros((4, 4, 3), np.uint16))[:-30]),
        ("a.xyz", b""),
    ],
)
def test_read_flow_names_a_bad_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_flow(tmp_path / name)
    assert name in str(raised.value)


def test_npz_refuses_pickled_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", flow=np.array([{}], dtype=object), valid=np.zeros(1))
    with pytest.raises(InputError, match=r"a\.npz"):
        read_flow(tmp_path / "a.npz")


def test_kitti_refuses_too_many_pixels_before_unpacking() -> None:
    with pytest.raises(ValueError, match="more than the limit"):
        decode_rgb16(encode_png(np.zeros((10, 11, 3), np.uint16)), max_pixels=100)


def test_npy_refuses_a_damaged_header() -> None:
    content = encode_npy(field(np.zeros((2, 2, 3)))).replace(b"{", b"z")
    with pytest.raises(ValueError, match=r"not an \.npy file"):
        decode_npy(content)


@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 3, 0)])
def test_flow_without_pixels_is_refused(shape: tuple[int, int, int]) -> None:
    empty = np.zeros(shape, np.float32)
    for decode, encode in ((decode_npy, encode_npy), (decode_npz, encode_npz)):
        with pytest.raises(ValueError, match="H, W"):
            decode(encode(FlowField(empty, np.ones(shape[1:], bool))))


def test_flow_beyond_float32_is_not_valid() -> None:
    file = io.BytesIO()
    np.save(file, np.array([[[1e300, 1.0]], [[0.0, 0.0]]]))
    assert decode_npy(file.getvalue()).valid.tolist() == [[False, True]]


def test_npz_flow_of_nan_is_not_valid() -> None:
    assert decode_npz(encode_npz(field([[[np.nan, 1.0]], [[0.0, 0.0]]]))).valid.tolist() == [[False, True]]


def test_npz_refuses_to_unpack_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomatch.io.flow.MAX_PIXELS", 100)
    with pytest.raises(ValueError, match="bytes when unpacked"):
        decode_npz(encode_npz(field(np.zeros((2, 50, 50)))))


def test_kitti_refuses_a_side_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="a side is longer"):
        decode_rgb16(encode_png(np.zeros((1, 70_000, 3), np.uint16)), 10**8)
