"""Pictures in a row as an animation: WebP, GIF, MP4, or a file each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from geomatch.errors import InputError
from geomatch.io.formats.png import encode_png
from geomatch.runtime.optional import import_av

SUFFIXES = (".webp", ".gif", ".mp4")
_WEBP_QUALITY = 85
_MP4 = "MP4, unlike .webp and .gif,"
_LEAST_GIF_MILLISECONDS = 20  # browsers slow down anything faster


def encode_animation(frames: Sequence[Image.Image], suffix: str, frames_per_second: float) -> bytes:
    """An animation of RGB pictures of one size, of even sides for MP4.

    suffix: one of `SUFFIXES`; WebP and GIF play in a loop. Raises MissingLibraryError for MP4 without PyAV.
    """
    if suffix == ".mp4":
        return _encode_mp4(frames, frames_per_second)
    buffer = io.BytesIO()
    milliseconds = round(1000 / frames_per_second)
    if suffix == ".webp":
        frames[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=list(frames[1:]),
            duration=milliseconds,
            loop=0,
            quality=_WEBP_QUALITY,
        )
    else:
        drawn = [frame.quantize(256, Image.Quantize.MEDIANCUT) for frame in frames]
        duration = max(_LEAST_GIF_MILLISECONDS, milliseconds)
        drawn[0].save(buffer, "GIF", save_all=True, append_images=drawn[1:], duration=duration, loop=0)
    return buffer.getvalue()


def check_animation(path: Path) -> None:
    """Raise GeomatchError, before any work, if an animation cannot be written into a file of this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: give a name that ends in {', '.join(SUFFIXES)}, or without a suffix, for a folder of frames"
        )
    if path.suffix.lower() == ".mp4":
        import_av(_MP4)


def frame_files(frames: Sequence[Image.Image]) -> dict[str, bytes]:
    """The pictures as PNG files, numbered from 1, by name."""
    digits = max(3, len(str(len(frames))))
    return {f"{number:0{digits}d}.png": encode_png(np.asarray(frame)) for number, frame in enumerate(frames, 1)}


def _encode_mp4(frames: Sequence[Image.Image], frames_per_second: float) -> bytes:
    from fractions import Fraction

    av = import_av(_MP4)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_second).limit_denominator(1000))
        stream.width, stream.height = frames[0].size
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_image(frame)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()
