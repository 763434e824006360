"""The files in an uncompressed tar file, found without reading what is in them.

Python's tarfile keeps an object of a kilobyte for every member, and takes 20 s for the million of ILSVRC. Here headers
are read one after another and kept as columns. Archives with anything but plain files and folders go through tarfile.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geomatch.errors import InputError

_BLOCK = 512
_FILES, _FOLDER = frozenset(b"0\0"), ord("5")
_PACKED = {
    b"PK\x03\x04": "a zip file: unpack it with `unzip` and give the folder",
    b"\x1f\x8b": "a compressed file: unpack it with `tar -xzf` and give the folder, or with `gunzip`",
    b"BZh": "a compressed file: unpack it with `tar -xjf` and give the folder, or with `bunzip2`",
    b"\xfd7zX": "a compressed file: unpack it with `tar -xJf` and give the folder, or with `unxz`",
}


@dataclass(frozen=True)
class TarMembers:
    """The regular files in a tar file: their names, where in the file each begins, and its size in bytes."""

    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(self, name: str, offset: int, size: int) -> None:
        self.names.append(name)
        self.offsets.append(offset)
        self.sizes.append(size)


def read_members(path: Path, start: int = 0, length: int | None = None, inner: str = "") -> TarMembers:
    """The regular files of a tar file, in their order, or of the one within it that lies at these bytes.

    inner: the name of that one, for messages. Raises InputError, naming the file, if it is not an uncompressed tar file
    or ends too early.
    """
    name = f"{path}: {inner} in it" if inner else f"{path}:"
    with _named(name), path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):  # else each header is read with much of the image behind it
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        end = os.fstat(file.fileno()).st_size if length is None else start + length
        for magic, about in _PACKED.items():
            if os.pread(file.fileno(), len(magic), start) == magic:
                raise InputError(f"{name} is {about}")
        found = _read_plain(file.fileno(), start, end)
        return _read_any(file, start, end) if found is None else found


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, ValueError) as error:  # ValueError: a number in a damaged header
        raise InputError(f"{name} cannot be read as an uncompressed tar file ({error}); half a download?") from error


def _read_plain(descriptor: int, start: int, end: int) -> TarMembers | None:
    """The files of an archive of plain files and folders; None if there is anything else, or damage."""
    headers: list[bytes] = []
    found = TarMembers()
    at = start
    while at < end:
        header = os.pread(descriptor, _BLOCK, at)
        if len(header) < _BLOCK or header[0] == 0:
            break
        kind, body = header[156], at + _BLOCK
        try:
            size = int(header[124:135], 8)
        except ValueError:
            return None
        if kind in _FILES and not header[345]:
            name = header[:100].split(b"\0", 1)[0].decode(errors="surrogateescape")
            if size < 0 or name.endswith("/"):
                return None
            found.add(name, body, size)
            at = body + -(-size // _BLOCK) * _BLOCK
        elif kind == _FOLDER:
            at = body
        else:
            return None
        headers.append(header)
    ended = at == end or (at < end and not os.pread(descriptor, _BLOCK, at).strip(b"\0"))
    return found if headers and ended and _checksums_fit(headers) else None


def _checksums_fit(headers: list[bytes]) -> bool:
    bytes_of = np.frombuffer(b"".join(headers), np.uint8).reshape(-1, _BLOCK)
    sums = bytes_of.sum(axis=1, dtype=np.int64) - bytes_of[:, 148:156].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
    try:
        stated = [int(header[148:156].strip(b" \0"), 8) for header in headers]
    except ValueError:
        return False
    return bool((sums == stated).all())


def _read_any(file: io.FileIO, start: int, end: int) -> TarMembers:
    """The files of any archive, as tarfile reads them."""
    found = TarMembers()
    file.seek(start)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None and member.offset_data <= end:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
            if member.isfile() and member.offset_data + member.size > end:
                raise tarfile.ReadError("unexpected end of data")
            if member.isfile() and not member.issparse():
                found.add(member.name.partition("\0")[0], member.offset_data, member.size)
        # tarfile takes a damaged header for the end.
        if archive.offset < end and os.pread(file.fileno(), _BLOCK, archive.offset).strip(b"\0"):
            raise tarfile.ReadError("damaged header")
    return found
