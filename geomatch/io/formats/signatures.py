"""Files that are not images that can be read, recognised by their first bytes."""

from __future__ import annotations

HEAD = 1024
"""Bytes that are enough to recognise a file."""

_EXPORT = "export it as JPEG or PNG"
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", f"JPEG XL; {_EXPORT}"),
    (0, b"\0\0\0\x0cJXL ", f"JPEG XL; {_EXPORT}"),
    (0, b"%PDF", f"a PDF; {_EXPORT}"),
    (0, b"FUJIFILMCCD-RAW", f"a camera's raw file; {_EXPORT}"),
    (8, b"CR\x02", f"a camera's raw file; {_EXPORT}"),
    (128, b"DICM", f"DICOM; {_EXPORT}"),
    (0, b"v/1\x01", f"OpenEXR; {_EXPORT}"),
    (0, b"#?RADIANCE", f"Radiance HDR; {_EXPORT}"),
    (0, b"\x93NUMPY", f"a NumPy array; {_EXPORT}"),
    (0, b"\x89HDF", f"HDF5; {_EXPORT}"),
    (0, b"PK\x03\x04", "a zip archive; unpack it"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it"),
    (0, b"\0\5\x16\7", "a Mac's resource fork; the image is the file without ._ in its name"),
    (0, b"version https://git-lfs", "a pointer of Git LFS; fetch the image with `git lfs pull`"),
)


def recognise(head: bytes) -> str:
    """What a file is by its first bytes, and what to do about it; "" if it is not known.

    >>> recognise(b"%PDF-1.7")
    'a PDF; export it as JPEG or PNG'
    """
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[place : place + 4] for place in range(16, min(len(head), 64), 4))}
        if brands & _HEIC:
            return f"HEIC, as phones store photographs; {_EXPORT}"
        return f"AVIF, which this Pillow cannot read; {_EXPORT}" if b"avif" in brands else f"a film; {_EXPORT}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text and text.startswith(b"<"):
        return "SVG, a drawing without pixels; export it as PNG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not the image; download it again"
    return next((words for place, mark, words in _SIGNATURES if head[place : place + len(mark)] == mark), "")
