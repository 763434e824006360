"""File names: those that never collide, and how any name is shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

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


def printable(text: str) -> str:
    """Text with line breaks and control characters escaped; file names can hold them."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
