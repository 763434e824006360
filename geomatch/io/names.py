"""File names that never collide, and names written in files compared with those on disk as people mean them."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*", re.ASCII)
_LONGEST_NAME = 180  # bytes, so that the name of a temporary folder fits into the 255 of a file system, too


def unique_names(names: Iterable[str]) -> Iterator[str]:
    """Names that differ on any file system, also one that ignores case: a, a-2, A-3 for a, a, A. Long ones are cut.

    >>> list(unique_names(["a", "a", "A"]))
    ['a', 'a-2', 'A-3']
    """
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for name in names:
        encoded = name.encode(errors="surrogatepass")
        short = name if len(encoded) <= _LONGEST_NAME else encoded[:_LONGEST_NAME].decode(errors="ignore")
        plain = _folded(short)
        unique = short
        while _folded(unique) in taken:
            numbers[plain] = numbers.get(plain, 1) + 1
            unique = f"{short}-{numbers[plain]}"
        taken.add(_folded(unique))
        yield unique


def name_parts(written: str) -> tuple[str, ...]:
    r"""The folders and the file name of a path as any system or a URL writes it, composed as Unicode's NFC does.

    >>> name_parts("./images\\a.jpg"), name_parts("https://host/b%20c.jpg?size=2")
    (('images', 'a.jpg'), ('host', 'b c.jpg'))
    """
    if re.match(r"https?://", written):
        url = urlsplit(written)
        written = url.netloc + unquote(url.path)
    plain = unicodedata.normalize("NFC", written).replace("\\", "/")
    return tuple(part for part in plain.split("/") if part not in ("", "."))


def plain_name(written: str) -> str:
    """One spelling of a relative path: slashes, no ``./``, Unicode's NFC."""
    if _PLAIN.fullmatch(written):  # quick, for the million names of a data set
        return written
    return "/".join(name_parts(written))


def meant_names(written: Iterable[str], file: Path) -> set[str]:
    """Those of the names written in a document that mean a file: they are how its path ends.

    If none is, those that share its name and most of its folders; they may be of several files. If no name is spelt as
    the file's is, upper and lower case are equal; then blanks round names, and what URLs and services for labelling do
    to them, are left out; then suffixes of files. A file that `has_no_name` may be any of them.
    """
    if has_no_name(file):
        return set(written)
    own = name_parts(str(file.absolute()))
    names = {name: name_parts(name) for name in written}
    for plain in (str, str.casefold, _as_uploaded, _without_suffix):
        shared = {name: _shared([*map(plain, parts)], [*map(plain, own)]) for name, parts in names.items()}
        if most := max(shared.values(), default=0):
            ends = {name for name, parts in names.items() if 0 < shared[name] == len(parts)}
            return ends or {name for name in names if shared[name] == most}
    return set()


def _as_uploaded(name: str) -> str:
    """A name without what Label Studio (3f2504e0-a.jpg) and Roboflow (a_jpg.rf.0123456789abcdef.jpg) add to it.

    >>> _as_uploaded("3f2504e0-A.jpg"), _as_uploaded("A_png.rf.0123456789abcdef.jpg")
    ('a.jpg', 'a.png')
    """
    plain = re.sub(r"^[0-9a-f]{8}-(?=.)", "", unquote(name).strip().casefold())
    return re.sub(r"_(\w{3,4})\.rf\.\w{8,}\.\w{3,4}$", r".\1", plain)


def _without_suffix(name: str) -> str:
    return re.sub(r"(?<=.)\.[a-z]\w{1,4}$", "", _as_uploaded(name))


def has_no_name(file: Path) -> bool:
    """Whether a path says nothing of the file: stdin, as ``-`` or as a shell's, or the descriptor that ``<(…)`` is."""
    return str(file) in ("-", "/dev/stdin") or file.parent in (Path("/dev/fd"), Path("/proc/self/fd"))


def could_be_one(written: Iterable[str]) -> bool:
    """Whether names could be of one file: every path is the end of the longest."""
    paths = sorted((name_parts(name) for name in written), key=len)
    return all(paths[-1][-len(path) :] == path for path in paths)


def find_below(root: Path, written: str) -> Path:
    """The path of ``written`` below a folder; where that does not exist, an entry whose name is the same text in NFC.

    The path that is returned need not exist.
    """
    path = root
    for part in name_parts(written):
        alike: list[Path] = []
        with suppress(OSError):
            if not (path / part).exists() and path.is_dir():
                alike = sorted(entry for entry in path.iterdir() if unicodedata.normalize("NFC", entry.name) == part)
        path = alike[0] if alike else path / part
    return path


def _shared(parts: list[str], own: list[str]) -> int:
    """How many parts at the end are the same."""
    pairs = zip(reversed(parts), reversed(own), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
