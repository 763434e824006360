"""Flow files, read and written: Middlebury .flo, NumPy .npy and .npz, KITTI .png, .pfm, and .tiff.

Each `decode_…` raises ValueError, saying what is wrong, for content that is not a flow of its format.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomatch.correspondence import Correspondence
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.formats.pfm import decode_pfm, encode_pfm
from geomatch.io.formats.png import encode_png
from geomatch.io.formats.png16 import decode_rgb16
from geomatch.io.formats.tiff_pages import decode_pages, encode_pages
from geomatch.io.images import MAX_PIXELS
from geomatch.io.inputs import Input, read_input
from geomatch.io.parsing import reading

_FLO_MAGIC = np.float32(202021.25)
_FLO_UNKNOWN = 1e9
_KITTI_RANGE = 512.0
_NPZ_BYTES_PER_PIXEL = 32  # four numbers of 8 bytes


@dataclass(frozen=True)
class FlowField:
    """The content of a flow file.

    flow: (2, H, W) float32, pixels, x then y. valid: (H, W) bool. confidence: (H, W) float32, if the format has it.
    """

    flow: NDArray[np.float32]
    valid: NDArray[np.bool_]
    confidence: NDArray[np.float32] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.valid.shape[0], self.valid.shape[1]

    @classmethod
    def of(cls, correspondence: Correspondence) -> FlowField:
        maps = correspondence.flow, correspondence.valid, correspondence.confidence
        return cls(*(each.cpu().numpy() for each in maps))


def encode_flo(field: FlowField) -> bytes:
    """Middlebury's format: float32 202021.25, int32 width and height, then float32 u, v of each pixel, little-endian.

    Every pixel keeps its flow. The format has no validity.
    """
    height, width = field.valid.shape
    head = np.array([_FLO_MAGIC], "<f4").tobytes() + np.array([width, height], "<i4").tobytes()
    return head + np.stack(tuple(field.flow), axis=-1).astype("<f4").tobytes()


def decode_flo(content: bytes) -> FlowField:
    """The flow of a .flo file. A pixel is invalid if a component is beyond 1e9 or not a number."""
    if len(content) < 12 or np.frombuffer(content, "<f4", 1)[0] != _FLO_MAGIC:
        raise ValueError("not a .flo file")
    width, height = (int(length) for length in np.frombuffer(content, "<i4", 2, offset=4))
    if min(width, height) < 1 or len(content) != 12 + 8 * width * height:
        raise ValueError(f"its size does not fit the {width}x{height} pixels it claims")
    values = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2)
    flow = np.moveaxis(values, -1, 0).astype(np.float32)
    return FlowField(flow, np.asarray((np.abs(flow) <= _FLO_UNKNOWN).all(axis=0)))


def encode_npy(field: FlowField) -> bytes:
    """A NumPy array of the flow, (2, H, W) float32. Every pixel keeps its flow; validity is not written."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(field.flow), allow_pickle=False)
    return buffer.getvalue()


def decode_npy(content: bytes) -> FlowField:
    """The flow of an .npy file. A pixel is invalid if a component is not a finite number."""
    try:
        flow = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # on a damaged file NumPy raises many kinds
        raise ValueError(f"not an .npy file ({error})") from error
    if not isinstance(flow, np.ndarray):
        raise ValueError("not an .npy file, but an .npz archive")
    return _field_of(flow)


def encode_npz(field: FlowField) -> bytes:
    """A NumPy archive with the arrays ``flow``, ``valid`` and ``confidence`` of a `FlowField`."""
    buffer = io.BytesIO()
    arrays = {name: array for name, array in vars(field).items() if array is not None}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def decode_npz(content: bytes) -> FlowField:
    """The flow of an .npz file. A pixel is also invalid if a component is not a finite number."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _NPZ_BYTES_PER_PIXEL * MAX_PIXELS:
            raise ValueError(f"{unpacked} bytes when unpacked are more than {MAX_PIXELS // 10**6} million pixels take")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("flow", "valid", "confidence") if name in arrays.files}
    except Exception as error:  # on a damaged file zipfile and NumPy raise many kinds
        raise ValueError(f"not an .npz file ({error})") from error
    if not {"flow", "valid"} <= found.keys():
        raise ValueError("an .npz flow file needs the arrays 'flow' and 'valid'")
    return _field_of(**found)


def encode_kitti(field: FlowField) -> bytes:
    """KITTI's format: a 16-bit RGB PNG of u * 64 + 2^15, v * 64 + 2^15 and validity, in steps of 1/64 pixel.

    Pixels with a displacement beyond the format's range of 512 pixels are marked invalid, with a GeomatchWarning.
    """
    codes = np.round(field.flow.astype(np.float64) * 64 + 2**15)
    fits = ((codes >= 0) & (codes < 2**16)).all(axis=0)
    lost = int((field.valid & ~fits).sum())
    if lost:
        warnings.warn(
            f"KITTI png holds displacements up to {_KITTI_RANGE:.0f} pixels: {lost} larger ones are marked invalid; "
            "use --format flo or npz to keep them",
            GeomatchWarning,
            stacklevel=2,
        )
    valid = field.valid & fits
    pixels = np.stack((*np.where(valid, codes, 0), valid), axis=-1)
    return encode_png(pixels.astype(np.uint16), level=6)


def decode_kitti(content: bytes) -> FlowField:
    """The flow of a KITTI file. Invalid pixels have the flow 0."""
    pixels = decode_rgb16(content, MAX_PIXELS)
    valid = pixels[..., 2] > 0
    flow = (pixels[..., :2].astype(np.float32) - 2**15) / 64 * valid[..., None]
    return FlowField(np.moveaxis(flow, -1, 0).astype(np.float32), valid)


def encode_pfm_flow(field: FlowField) -> bytes:
    """A portable float map of u, v and validity (1 or 0), as FlyingThings3D's, whose third channel says nothing.

    Every pixel keeps its flow.
    """
    return encode_pfm(np.stack((*field.flow, field.valid.astype(np.float32)), axis=-1))


def decode_pfm_flow(content: bytes) -> FlowField:
    """The flow of a .pfm file. Validity is the third channel, if that is 1 or 0 everywhere and somewhere 1."""
    u, v, third = np.moveaxis(decode_pfm(content), -1, 0)
    states = bool(np.isin(third, (0, 1)).all() and third.any())
    return _field_of(np.stack((u, v)), third if states else None)


def encode_tiff(field: FlowField) -> bytes:
    """A TIFF file of float32 pages: u, v, validity (1 or 0) and, if it is known, confidence."""
    pages = [*field.flow, field.valid.astype(np.float32)]
    return encode_pages(pages if field.confidence is None else [*pages, field.confidence])


def decode_tiff(content: bytes) -> FlowField:
    """The flow of a .tiff file, as `encode_tiff` writes it; without a third page all that is finite is valid."""
    u, v, *others = decode_pages(content, MAX_PIXELS)
    return _field_of(np.stack((u, v)), *others[:2])


def _field_of(flow: object, valid: object = None, confidence: object = None) -> FlowField:
    """Arrays as a flow field, valid only where the flow is finite in float32. Raises ValueError for other shapes."""
    flow = _numbers("flow", flow)
    if flow.ndim != 3 or flow.shape[0] != 2 or not flow.size:
        raise ValueError(f"'flow' {flow.shape} should be (2, H, W)")
    size = flow.shape[1:]
    valid = np.ones(size, bool) if valid is None else _numbers("valid", valid, size).astype(bool)
    if confidence is not None:
        confidence = _numbers("confidence", confidence, size).astype(np.float32)
    with np.errstate(over="ignore"):
        field = flow.astype(np.float32)
    return FlowField(field, valid & np.isfinite(field).all(axis=0), confidence)


def _numbers(name: str, array: object, shape: tuple[int, ...] | None = None) -> NDArray[np.generic]:
    """The same array, if it holds numbers and has this shape. Raises ValueError."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"'{name}' should be an array of numbers")
    if shape is not None and array.shape != shape:
        raise ValueError(f"'{name}' {array.shape} should be (H, W), as 'flow' (2, H, W), that is {shape}")
    return array


ENCODERS: Mapping[str, Callable[[FlowField], bytes]] = {
    "flo": encode_flo,
    "npy": encode_npy,
    "npz": encode_npz,
    "kitti": encode_kitti,
    "pfm": encode_pfm_flow,
    "tiff": encode_tiff,
}
FILE_NAMES: Mapping[str, str] = {name: f"flow.{name}" for name in ENCODERS} | {"kitti": "flow.png"}
_DECODERS = {
    ".flo": decode_flo,
    ".npy": decode_npy,
    ".npz": decode_npz,
    ".png": decode_kitti,
    ".pfm": decode_pfm_flow,
    ".tiff": decode_tiff,
    ".tif": decode_tiff,
}
FLOW_SUFFIXES = tuple(_DECODERS)

_MAGIC = {
    ".flo": b"PIEH",
    ".npy": b"\x93NUMPY",
    ".npz": b"PK",
    ".png": b"\x89PNG",
    ".pfm": b"PF",
    ".tiff": b"II*\0",
    ".tif": b"MM\0*",
}
"""How a file begins; it says the format of one without a suffix."""


def read_flow(source: Input) -> FlowField:
    """The flow in a file, whose suffix tells the format, or its content. Raises InputError, naming the file."""
    file = read_input(source)
    kind = file.path.suffix.lower() or next((name for name in _MAGIC if file.content.startswith(_MAGIC[name])), "")
    if kind not in _DECODERS:
        raise InputError(f"{file}: a flow file ends in {', '.join(_DECODERS)}")
    with reading(str(file)):
        return _DECODERS[kind](file.content)
