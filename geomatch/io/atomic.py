"""Output files and folders: each appears whole or not at all, and what is there already is respected.

The rules, for every writer:

- A regular file is written under a temporary name and renamed. It keeps the permissions of the one it replaces.
- A symbolic link is followed: the file or folder that it points to is written, also if it does not exist yet.
- A device, a FIFO or an open descriptor (/dev/stdout) is written into. A folder is refused where a file should be.
- ``-`` is stdout, where a command writes one file alone. It is refused where a folder should be.
- Missing parent folders are made, when something is written.
- A URL, as s3://bucket/folder, is written by fsspec (`geomatch.io.remote.objects`), a folder's files in their order.
- Temporary folders are locked while their process lives. The next run with the same output removes those of dead ones.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from geomatch.errors import InputError
from geomatch.io.remote.objects import check_store, names_below, read_object, remove_object, url_of, write_object

STDOUT = Path("-")
_PREFIX = ".geomatch-"
_NAMED = 180  # bytes of a name that a temporary name repeats, which must not become too long
_RANDOM = "[a-z0-9_]{8}"  # what `tempfile` adds
_LINKS = 40  # in a chain, as for the kernel
FILE_SUFFIXES = (
    *(".flo", ".npy", ".npz", ".pfm", ".tiff", ".safetensors", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4"),
    *(".json", ".csv", ".tsv", ".html"),
)
"""Names of files, which a new folder does not get."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, replacing a file there. Raises InputError if it cannot be written."""
    if path == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    if url_of(path):
        write_object(path, content)
        return
    with _named(path):
        place = _follow(path)
        if _is_special(place):
            _write_into(place, content)
            return
        with _temporary_folder(place) as folder:
            temporary = folder / place.name
            temporary.write_bytes(content)
            _replace(temporary, place)


def write_folder_atomically(folder: Path, files: Mapping[str, bytes], *, instead_of: Collection[str] = ()) -> None:
    """Make ``folder`` with all of ``files`` (content by name), or change nothing if that fails.

    If the folder exists, the files replace those of the same name, and those named ``instead_of`` are deleted, once all
    are on the disk. They appear in the order given. Of several processes that do so one waits for the other.
    Below a URL a folder does not appear at once; it is whole when the last of ``files`` is there.
    Raises InputError if it cannot be written.
    """
    if url_of(folder):
        for name in instead_of:
            remove_object(folder / name)
        for name, content in files.items():
            write_object(folder / name, content)
        return
    with _named(folder):
        folder = _follow(folder)
        there = folder.is_dir()
        if there:
            clear_unfinished(folder)
        with _temporary_folder(folder / folder.name if there else folder) as temporary:  # always on the same disk
            # mkdir applies the umask; a process can read its own only by setting it.
            whole = temporary / folder.name
            whole.mkdir()
            for name, content in files.items():
                (whole / name).write_bytes(content)
            if there or not _move(whole, folder):
                with exclusive(folder):
                    _replace_all(whole, folder, files, instead_of)


def remove_output(path: Path) -> None:
    """Delete the regular file that ``path`` is or links to, if it exists; the link stays. Raises OSError."""
    if path.is_file():
        _follow(path).unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other threads and processes that ask for the same from changing a folder meanwhile."""
    with _opened(folder) as descriptor:
        with suppress(OSError):  # some network file systems cannot lock a folder
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def clear_unfinished(folder: Path, name: str | None = None) -> None:
    """Remove the temporary folders in ``folder`` that killed processes have left, of the output ``name`` or of all."""
    start = re.escape(_shortened(name)) if name is not None else ".*"
    leftover = re.compile(re.escape(_PREFIX) + start + "-" + _RANDOM, re.DOTALL)
    with suppress(OSError):
        for entry in [entry for entry in folder.iterdir() if leftover.fullmatch(entry.name)]:
            with suppress(OSError), _opened(entry) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the process that made it lives
                shutil.rmtree(entry, ignore_errors=True)


def is_special(path: Path) -> bool:
    """Whether ``path`` is, or links to, a device, a FIFO or an open descriptor.
    Raises InputError for links that run in circles.
    """
    with _named(path):
        return _is_special(_follow(path))


def check_new_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise InputError, before any work, if ``folder`` cannot take a result. Leftovers there are removed."""
    if folder == STDOUT:
        raise InputError("- is stdout, which takes one file; give the name of a folder")
    if url_of(folder):
        if not overwrite and names_below(folder):
            raise InputError(f"{url_of(folder)}: exists already; give another folder, or --overwrite")
        check_store(folder)
        return
    with _named(folder):
        place = _follow(folder)
    if place.exists() and not place.is_dir():
        raise InputError(f"{folder}: is a file; give a folder")
    if not place.exists() and place.suffix.lower() in FILE_SUFFIXES:
        raise InputError(f"{folder}: the output is a folder; give a name that does not end in {place.suffix}")
    clear_unfinished(place.parent, place.name)
    clear_unfinished(place)
    if place.exists() and any(place.iterdir()) and not overwrite:
        raise InputError(f"{folder}: exists already; give another folder, or --overwrite")
    _check_can_write(place)


def check_output(path: Path, *, overwrite: bool, suffixes: Collection[str] = ()) -> None:
    """Raise InputError as `check_new_file` does, but for ``-`` only if stdout cannot take a file."""
    if path != STDOUT:
        check_new_file(path, overwrite=overwrite, suffixes=suffixes)
    elif sys.__stdout__ is None:
        raise InputError("-o - sends the file to stdout, which is closed; open it, or give the name of a file")
    elif sys.stdout.isatty():
        raise InputError("-o - sends the file to stdout, which is a terminal; send it to a file or a pipe")


def check_new_file(
    path: Path, *, overwrite: bool, suffixes: Collection[str] = (), instead: str = "give another file"
) -> None:
    """Raise InputError, before any work, if the file ``path`` exists or cannot be written. Leftovers are removed.

    To write into a device or a FIFO is not to overwrite. suffixes: those that a new file's name may have, () for any.
    instead: what to do about a file that exists, besides --overwrite.
    """
    if url_of(path):
        if suffixes and path.suffix.lower() not in suffixes:
            raise InputError(f"{path}: give a name that ends in {' or '.join(suffixes)}")
        if not overwrite and read_object(path) is not None:
            raise InputError(f"{url_of(path)}: exists already; {instead}, or --overwrite")
        check_store(path.parent)
        return
    with _named(path):
        place = _follow(path)
    if place.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    if _is_special(place):
        if not os.access(place, os.W_OK):
            raise InputError(f"{path}: not writable; check its permissions")
        return
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: give a name that ends in {' or '.join(suffixes)}")
    clear_unfinished(place.parent, place.name)
    if place.exists() and not overwrite:
        raise InputError(f"{path}: exists already; {instead}, or --overwrite")
    _check_can_write(place.parent)


def _check_can_write(folder: Path) -> None:
    """Raise InputError unless files can be made in ``folder``, or in the nearest folder that is to hold it."""
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file, and cannot hold another")
    try:
        with tempfile.TemporaryFile(dir=folder):  # the only sure test of permissions
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error


def _follow(path: Path) -> Path:
    """What a chain of symbolic links leads to, which need not exist; a link to an open descriptor stays as it is."""
    for _ in range(_LINKS):
        parent = Path(os.path.realpath(path.parent))
        path = parent / path.name if path.name not in ("", "..") else Path(os.path.realpath(path))
        if not path.is_symlink() or _descriptor(path) is not None:
            return path
        path = parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _descriptor(path: Path) -> int | None:
    """The number of this process's descriptor that a path such as /dev/stdout has led to."""
    own = path.parent == Path(f"/proc/{os.getpid()}/fd") or path.parent == Path("/dev/fd")
    return int(path.name) if own and path.name.isdecimal() else None


def _is_special(place: Path) -> bool:
    """Whether it exists, is neither a regular file nor a folder, and so is written into."""
    try:
        mode = place.stat().st_mode
    except OSError:
        return False
    return _descriptor(place) is not None or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_into(place: Path, content: bytes) -> None:
    number = _descriptor(place)
    with open(place if number is None else os.dup(number), "wb") as file:  # noqa: PTH123 (a descriptor)
        file.write(content)


def _replace(temporary: Path, place: Path) -> None:
    """Rename a file, which gets the permissions of the one it replaces."""
    with suppress(FileNotFoundError):
        temporary.chmod(stat.S_IMODE(place.stat().st_mode))
    try:
        os.replace(temporary, place)
    except OSError as error:
        if error.errno != errno.EBUSY:  # as that of a file that is mounted into a container
            raise
        place.write_bytes(temporary.read_bytes())


def _move(whole: Path, folder: Path) -> bool:
    """Rename a folder; False if another process has made a folder of its new name meanwhile."""
    try:
        whole.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True


def _replace_all(whole: Path, folder: Path, files: Mapping[str, bytes], instead_of: Collection[str]) -> None:
    """Move the files of one folder into another, each to where a link of its name leads, or into what is special."""
    places = {name: _follow(folder / name) for name in files}
    for place in places.values():
        if place.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    for name in instead_of:
        (folder / name).unlink(missing_ok=True)
    for name, place in places.items():
        if _is_special(place):
            _write_into(place, files[name])
        elif place.parent == folder:
            _replace(whole / name, place)
        else:
            write_atomically(place, files[name])  # it may be on another disk


@contextmanager
def _temporary_folder(beside: Path) -> Iterator[Path]:
    """A folder that is deleted afterwards, and that no other process removes before."""
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        folder, descriptor = _locked_folder(beside)
    except OSError as error:
        raise InputError(f"{beside.parent}: cannot be written to ({error.strerror})") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(beside: Path) -> tuple[Path, int]:
    """A new folder and a descriptor of it that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=beside.parent, prefix=f"{_PREFIX}{_shortened(beside.name)}-"))
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another process has taken it for a leftover
            continue
        with suppress(OSError):  # some network file systems cannot lock a folder
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():  # or took it just before it was locked
            return folder, descriptor
        os.close(descriptor)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _shortened(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:_NAMED])


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror})") from error
