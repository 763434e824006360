"""The errors that geomatch raises, its warning, and the sentence for names that are not known."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


class GeomatchError(Exception):
    """The base of all errors that geomatch raises; the message is one sentence, on one line, for the user.

    ``exit_code`` is the exit status of the command line: 1 for a failure, 2 for usage and bad input.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(GeomatchError):
    """A file, folder, name or value given by the user cannot be used."""

    exit_code = 2


class MissingLibraryError(InputError):
    """An optional library is not installed; the message names what installs it."""


class WeightsError(InputError):
    """A weights file is missing, damaged, unsafe or of another network."""


class OutOfMemoryError(GeomatchError):
    """There is not enough memory; the message names the options that need less."""


class TrainingError(GeomatchError):
    """Training cannot continue."""


class GeomatchWarning(UserWarning):
    """A warning for the user: the work continues, but not exactly as asked."""


def printable(text: str) -> str:
    """Text with line breaks and control characters escaped; file names, and all else that users give, can hold them."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def unknown_name(kind: str, name: str, known: Collection[str]) -> str:
    """The sentence for a name that is not known, with a similar one.

    >>> unknown_name("class", "Cat", ["dog", "cat"])
    "unknown class 'Cat' (did you mean 'cat'?): the known ones are dog, cat"
    """
    return f"unknown {kind} '{name}'{did_you_mean(name, known)}: the known ones are {', '.join(known)}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The known name that is similar, upper and lower case aside, in brackets after a space; "" if there is none."""
    folded = {each.casefold(): each for each in reversed(list(known))}
    similar = get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean '{folded[similar[0]]}'?)" if similar else ""
