"""Files that are not images that can be read, recognised by their first bytes."""

from __future__ import annotations

import codecs

HEAD = 1024
"""Bytes that are enough to recognise a file."""

_EXPORT = "export it as JPEG or PNG"
_RAW = f"a camera's raw file; {_EXPORT}"
_TIFF = f"a TIFF that is damaged, or of a kind that cannot be read, as a camera's raw file; {_EXPORT}"
_DRAWING = "a drawing without pixels; export it as PNG"
_LAYERS = f"an image editor's own file; {_EXPORT}"
_PHONE = f"HEIC, as phones store photographs: pip install 'geomatch[heic]', or {_EXPORT}"
_ARCHIVE = "unpack it, or export the image in it"
_FILM = f"a film; name a frame of it, as clip.mp4#12, or {_EXPORT}"
_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", f"JPEG XL; {_EXPORT}"),
    (0, b"\0\0\0\x0cJXL ", f"JPEG XL; {_EXPORT}"),
    (0, b"%PDF", f"a PDF; {_EXPORT}"),
    (0, b"%!PS", f"PostScript, {_DRAWING}"),
    (0, b"\xc5\xd0\xd3\xc6", f"PostScript, {_DRAWING}"),
    (0, b"\xd7\xcd\xc6\x9a", f"a Windows metafile, {_DRAWING}"),
    (40, b" EMF", f"a Windows metafile, {_DRAWING}"),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (8, b"CR\x02", _RAW),
    (6, b"HEAPCCDR", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"IIRS", _RAW),
    (0, b"MMOR", _RAW),
    (0, b"IIU\0", _RAW),
    (0, b"FOVb", _RAW),
    (0, b"\0MRM", _RAW),
    (0, b"II*\0", _TIFF),
    (0, b"MM\0*", _TIFF),
    (0, b"II+\0", _TIFF),
    (0, b"MM\0+", _TIFF),
    (128, b"DICM", f"DICOM; {_EXPORT}"),
    (344, b"n+1\0", f"NIfTI; {_EXPORT}"),
    (0, b"v/1\x01", f"OpenEXR; {_EXPORT}"),
    (0, b"#?RADIANCE", f"Radiance HDR; {_EXPORT}"),
    (0, b"gimp xcf", _LAYERS),
    (0, b"8BPS", _LAYERS),
    (0, b"\x93NUMPY", f"a NumPy array; {_EXPORT}"),
    (0, b"\x89HDF", f"HDF5; {_EXPORT}"),
    (0, b"\x1aE\xdf\xa3", _FILM),
    (0, b"PK\x03\x04", f"a zip archive or a document; {_ARCHIVE}"),
    (0, b"7z\xbc\xaf", f"a 7z archive; {_ARCHIVE}"),
    (0, b"Rar!", f"a RAR archive; {_ARCHIVE}"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it"),
    (0, b"BZh", "compressed by bzip2; unpack it"),
    (0, b"\xfd7zXZ", "compressed by xz; unpack it"),
    (0, b"\0\5\x16\7", "a Mac's resource fork; the image is the file without ._ in its name"),
)


def stand_in(head: bytes) -> str:
    """What a file is that stands in the place of another, and what to do about it; "" if it is none.

    >>> stand_in(b"version https://git-lfs.github.com/spec/v1")
    'a pointer of Git LFS; fetch the file with `git lfs pull`'
    """
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS; fetch the file with `git lfs pull`"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file; download it again"
    return ""


def recognise(head: bytes) -> str:
    """What a file is by its first `HEAD` bytes, and what to do about it; "" if it is not known.

    >>> recognise(b"%PDF-1.7")
    'a PDF; export it as JPEG or PNG'
    """
    if not head:
        return "empty; copy or download it again"
    if head[4:8] == b"ftyp":
        return _media_container(head)
    known = next((words for place, mark, words in _SIGNATURES if head[place : place + len(mark)] == mark), "")
    return stand_in(head) or known or _text(head)


def is_heic(head: bytes) -> bool:
    """Whether a file is HEIC, by its first bytes."""
    return head[4:8] == b"ftyp" and not _brands(head) & _AVIF and bool(_brands(head) & _HEIC)


def _brands(head: bytes) -> set[bytes]:
    """The brands of a file of ISO 14496-12: its own, and those it is compatible with."""
    return {head[8:12], *(head[place : place + 4] for place in range(16, min(len(head), 64), 4))}


def _media_container(head: bytes) -> str:
    """Which of the formats of ISO 14496-12 a file is, by its brands."""
    brands = _brands(head)
    if brands & _AVIF:
        return f"AVIF that is damaged, or that this Pillow cannot read; {_EXPORT}"
    if b"crx " in brands:
        return _RAW
    return _PHONE if brands & _HEIC else _FILM


def _text(head: bytes) -> str:
    """What a file of text is, and what to do about it; "" if it is none."""
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return ""
    if not all(each.isprintable() or each.isspace() for each in text):
        return ""
    begin = text.lstrip().lower()
    if begin.startswith("<") and "<svg" in begin:
        return f"SVG, {_DRAWING}"
    return "text, not an image; download it again, or give another file"
