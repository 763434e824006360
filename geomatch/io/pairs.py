"""Lists of pairs of images, and of images, as a user writes them: TSV, CSV or JSON lines."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from geomatch.errors import InputError
from geomatch.io.inputs import InputFile, read_input
from geomatch.io.json_text import parse_json
from geomatch.io.parsing import decode
from geomatch.io.tables import Row, split_rows

_SIDES = ("source", "target")
_NAMES = {
    **dict.fromkeys(("source", "sourceimage", "src", "srcimage", "srcimname", "image1", "img1", "query"), "source"),
    **dict.fromkeys(("target", "targetimage", "trg", "trgimage", "trgimname", "image2", "img2", "reference"), "target"),
}
"""Of the columns of lists, in small letters."""
_PAIR_OF_WORDS = re.compile(r'\s*[^\s,;"]+ +[^\s,;"]+\s*')


def read_pairs(path: Path) -> list[tuple[Path, Path]]:
    """The pairs of a list, in its order; ``-`` reads it from stdin.

    The suffixes .tsv, .csv, .jsonl and .ndjson say what a list is. Any other list is JSON lines if its first line
    begins with a brace, a JSON list if it is a bracket, TSV if that line has a tab in it, and CSV otherwise. A first
    line that names columns ``source`` and ``target``, or calls them as other programs do, says which they are; without
    it a line has these two columns. JSON lines are objects with the entries ``source`` and ``target``, and a JSON list
    holds such objects, or lists of two names. In TSV nothing is quoted. Semicolons separate the columns of a CSV whose
    first line has one and no comma, and blanks those of a list whose first line is two words. Blank lines are passed
    over, and so are lines before the first pair that begin with # and are no pair.

    Raises InputError, naming the line, if the list cannot be read, is empty or has a line that is not a pair.
    """
    file = read_input(path)
    text, name = _text_of(file), str(file)
    kind = _kind(path, text)
    if kind in (".jsonl", ".ndjson", ".json"):
        rows = list(_json_rows(text, name, one_list=kind == ".json"))
    else:
        rows = _split(text, name, tabs=kind == ".tsv")
    header: Sequence[str] = [_side(value) for value in rows[0].values] if rows else ()
    if set(_SIDES) <= set(header):
        rows = rows[1:]
    else:
        header = _SIDES
    columns = [header.index(side) for side in _SIDES]
    known: dict[str, Path] = {}
    pairs = [_pick(row, columns, len(header), known) for row in rows]
    if not pairs:
        raise InputError(f"{name}: holds no pairs; write SOURCE and TARGET, one pair a line")
    return pairs


def read_names(path: Path, *, null: bool = False) -> list[Path]:
    """The files that a list names, one a line, or with ``null`` each ending in NUL; ``-`` reads it from stdin.

    Raises InputError if it names none.
    """
    file = read_input(path)
    # Names that end in NUL are the bytes that the system gave.
    text = os.fsdecode(file.content) if null else _text_of(file)
    lines = text.split("\0") if null else text.replace("\r\n", "\n").split("\n")
    names = [_file(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line]
    if not names:
        raise InputError(f"{file}: names no images; write one a line")
    return names


def _text_of(file: InputFile) -> str:
    # File names need not be valid Unicode: surrogates stand for the bytes that are not.
    return decode(file.content, str(file), errors="surrogateescape")


def _split(text: str, name: str, *, tabs: bool) -> list[Row]:
    """The rows of TSV or CSV, without the comments before the first pair."""
    first = _first_line(text)
    semicolons = ";" in first and "," not in first and first.count('"') % 2 == 0  # otherwise it ends within a name
    if not tabs and _PAIR_OF_WORDS.fullmatch(first):
        lines = ((line, line.split()) for line in text.split("\n"))
        text = "\n".join(line if line[:1] == "#" or len(words) != 2 else "\t".join(words) for line, words in lines)
        tabs = True
    delimiter = "\t" if tabs else ";" if semicolons else ","
    rows = split_rows(text, name, delimiter, quoted=not tabs)
    return list(itertools.dropwhile(lambda row: row.values[0].startswith("#") and len(row.values) == 1, rows))


def _first_line(text: str) -> str:
    """The first line that is not blank and not a comment: one that begins with # and has no columns."""
    lines = (line for line in text.split("\n") if line.strip())
    return next((line for line in lines if not line.startswith("#") or set(line) & set("\t,;")), "")


def _kind(path: Path, text: str) -> str:
    if path.suffix.lower() in (".tsv", ".csv", ".jsonl", ".ndjson"):
        return path.suffix.lower()
    first = _first_line(text).lstrip()
    if first.startswith("[") and text.rstrip().endswith("]"):
        return ".json"
    return ".jsonl" if first.startswith("{") else ".tsv" if "\t" in first else ".csv"


def _json_rows(text: str, name: str, *, one_list: bool) -> Iterator[Row]:
    """The pairs of JSON lines, or of one list. The first row is the header."""
    yield Row(name, (), _SIDES)
    if one_list:
        entries = [(f"{name}, entry {number}", entry) for number, entry in enumerate(parse_json(text, name), 1)]
    else:
        lines = split_rows(text, name, "\n", quoted=False)
        entries = [(row.origin, parse_json(row.values[0], row.origin)) for row in lines]
    for origin, entry in entries:
        sides = entry if isinstance(entry, list) else []
        if isinstance(entry, dict):
            named = {_side(key): value for key, value in reversed(entry.items())}
            sides = [named.get(side) for side in _SIDES]
        if len(sides) != len(_SIDES) or not all(isinstance(side, str) for side in sides):
            raise InputError(f'{origin}: write a pair as {{"source": "a.jpg", "target": "b.jpg"}}')
        yield Row(origin, (), sides)


def _side(written: str) -> str:
    """What the name of a column or an entry means: source or target; any other name in small letters."""
    plain = re.sub(r"[\W_]+", "", written.lower())
    return _NAMES.get(plain, plain)


def _pick(row: Row, columns: Sequence[int], count: int, known: dict[str, Path]) -> tuple[Path, Path]:
    """The source and the target that stand in two columns of a row that should have ``count``.

    known: paths by name, to which new ones are added, so that a path is in memory once for all pairs of its image.
    """
    if len(row.values) != count:
        held = f"{len(row.values)} column{'s' if len(row.values) > 1 else ''} instead of {count}"
        raise InputError(f"{row.origin}: {held}; a pair is SOURCE and TARGET, with a tab or a comma")
    source, target = (row.values[column] for column in columns)
    if not source or not target:
        raise InputError(f"{row.origin}: {'SOURCE' if not source else 'TARGET'} is empty")
    for name in (source, target):
        if name not in known:
            known[name] = _file(name, row.origin)
    return known[source], known[target]


def _file(name: str, origin: str) -> Path:
    """Raises InputError if no file can have this name, or if it is stdin's, which is for the command line alone."""
    if name == "-":
        raise InputError(f"{origin}: - is stdin, which a list cannot name")
    try:
        valid = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise InputError(f"{origin}: no file can be named {name!r}")
    return Path(name)
