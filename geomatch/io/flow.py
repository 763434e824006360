"""Flow fields on disk: Middlebury .flo, NumPy .npy and .npz, and KITTI .png, each read and written."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomatch.correspondence import Correspondence
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.formats.png16 import decode_rgb16, encode_rgb16
from geomatch.io.images import MAX_PIXELS

_FLO_MAGIC = np.float32(202021.25)
_FLO_UNKNOWN = 1e9
_KITTI_RANGE = 512.0
_NPZ_BYTES_PER_PIXEL = 32  # four numbers of 8 bytes


@dataclass(frozen=True)
class FlowField:
    """What a flow file holds.

    flow: (2, H, W) float32, pixels, x then y. valid: (H, W) bool. confidence: (H, W) float32, where the format has it.
    """

    flow: NDArray[np.float32]
    valid: NDArray[np.bool_]
    confidence: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, correspondence: Correspondence) -> FlowField:
        return cls(
            correspondence.flow.cpu().numpy(),
            correspondence.valid.cpu().numpy(),
            correspondence.confidence.cpu().numpy(),
        )


def encode_flo(field: FlowField) -> bytes:
    """Middlebury: float32 202021.25, int32 width and height, then interleaved float32 u, v, all little-endian.

    Every pixel keeps its flow; validity, which the format lacks, is not written.
    """
    height, width = field.valid.shape
    head = np.array([_FLO_MAGIC], "<f4").tobytes() + np.array([width, height], "<i4").tobytes()
    return head + np.stack(tuple(field.flow), axis=-1).astype("<f4").tobytes()


def decode_flo(content: bytes) -> FlowField:
    """Raises ValueError, saying what is wrong. A component beyond 1e9 or not a number makes a pixel invalid."""
    if len(content) < 12 or np.frombuffer(content, "<f4", 1)[0] != _FLO_MAGIC:
        raise ValueError("not a .flo file")
    width, height = (int(length) for length in np.frombuffer(content, "<i4", 2, offset=4))
    if min(width, height) < 1 or len(content) != 12 + 8 * width * height:
        raise ValueError(f"its size does not fit the {width}x{height} pixels it claims")
    values = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2)
    flow = np.moveaxis(values, -1, 0).astype(np.float32)
    return FlowField(flow, np.asarray((np.abs(flow) <= _FLO_UNKNOWN).all(axis=0)))


def encode_npy(field: FlowField) -> bytes:
    """NumPy array of the flow alone, (2, H, W) float32. Every pixel keeps its flow; validity is not written."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(field.flow), allow_pickle=False)
    return buffer.getvalue()


def decode_npy(content: bytes) -> FlowField:
    """Raises ValueError, saying what is wrong. A component that is not a finite number makes a pixel invalid."""
    try:
        flow = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # on a damaged file NumPy raises whatever it stumbles over
        raise ValueError(f"not an .npy file ({error})") from error
    if not _is_numbers(flow) or flow.ndim != 3 or flow.shape[0] != 2 or not flow.size:
        raise ValueError("an .npy flow file holds one array of numbers of shape (2, H, W)")
    return _finite(flow, np.ones(flow.shape[1:], dtype=bool))


def encode_npz(field: FlowField) -> bytes:
    """NumPy archive with the arrays ``flow``, ``valid`` and ``confidence`` of a FlowField."""
    buffer = io.BytesIO()
    if field.confidence is None:
        np.savez_compressed(buffer, flow=field.flow, valid=field.valid)
    else:
        np.savez_compressed(buffer, flow=field.flow, valid=field.valid, confidence=field.confidence)
    return buffer.getvalue()


def decode_npz(content: bytes) -> FlowField:
    """Raises ValueError, saying what is wrong. A component that is not a finite number makes a pixel invalid."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _NPZ_BYTES_PER_PIXEL * MAX_PIXELS:
            raise ValueError(f"{unpacked} bytes when unpacked are more than {MAX_PIXELS // 10**6} million pixels take")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            names = [name for name in ("flow", "valid", "confidence") if name in arrays.files]
            found = {name: arrays[name] for name in names}
    except Exception as error:  # on a damaged file zipfile and NumPy raise whatever they stumble over
        raise ValueError(f"not an .npz file ({error})") from error
    if not {"flow", "valid"} <= found.keys():
        raise ValueError("an .npz flow file needs the arrays 'flow' and 'valid'")
    if not all(map(_is_numbers, found.values())):
        raise ValueError(f"{', '.join(names)} should be arrays of numbers")
    flow, valid, confidence = found["flow"], found["valid"], found.get("confidence")
    if flow.ndim != 3 or flow.shape[0] != 2 or not flow.size or valid.shape != flow.shape[1:]:
        raise ValueError(f"'flow' {flow.shape} and 'valid' {valid.shape} should be (2, H, W) and (H, W)")
    if confidence is not None and confidence.shape != valid.shape:
        raise ValueError(f"'confidence' {confidence.shape} should be (H, W), as 'valid' {valid.shape}")
    return _finite(flow, valid.astype(bool), None if confidence is None else confidence.astype(np.float32))


def encode_kitti(field: FlowField) -> bytes:
    """KITTI: 16-bit RGB PNG of u * 64 + 2^15, v * 64 + 2^15 and validity, in steps of 1/64 pixel.

    Displacements beyond the format's range of 512 pixels cannot be stored: they are marked invalid, with a
    GeomatchWarning.
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
    return encode_rgb16(pixels.astype(np.uint16))


def decode_kitti(content: bytes) -> FlowField:
    """Raises ValueError, saying what is wrong. The flow of invalid pixels is 0."""
    pixels = decode_rgb16(content, MAX_PIXELS)
    valid = pixels[..., 2] > 0
    flow = (pixels[..., :2].astype(np.float32) - 2**15) / 64 * valid[..., None]
    return FlowField(np.moveaxis(flow, -1, 0).astype(np.float32), valid)


def _is_numbers(array: object) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiub"


def _finite(
    flow: NDArray[np.generic], valid: NDArray[np.bool_], confidence: NDArray[np.float32] | None = None
) -> FlowField:
    """Any numbers as a flow field, whose pixels are valid only where the flow is finite in float32."""
    with np.errstate(over="ignore"):
        field = flow.astype(np.float32)
    return FlowField(field, valid & np.isfinite(field).all(axis=0), confidence)


ENCODERS: Mapping[str, Callable[[FlowField], bytes]] = {
    "flo": encode_flo,
    "npy": encode_npy,
    "npz": encode_npz,
    "kitti": encode_kitti,
}
FILE_NAMES: Mapping[str, str] = {"flo": "flow.flo", "npy": "flow.npy", "npz": "flow.npz", "kitti": "flow.png"}
_DECODERS = {".flo": decode_flo, ".npy": decode_npy, ".npz": decode_npz, ".png": decode_kitti}


def read_flow(path: Path) -> FlowField:
    """Read a flow file by its suffix. Raises InputError, naming the file."""
    if path.suffix.lower() not in _DECODERS:
        raise InputError(f"{path}: a flow file ends in {', '.join(_DECODERS)}")
    try:
        return _DECODERS[path.suffix.lower()](path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
