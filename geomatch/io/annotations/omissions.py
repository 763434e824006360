"""What of a file is left out, and what is assumed of it: gathered, and told in one note."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.parsing import reading

_NAMED_AT_MOST = 3


class _RefusedError(InputError):
    """A fault that is not tolerated; its message is complete."""


@dataclass
class Omissions:
    """What of a file cannot be used, is not what was asked for, or is not clear.

    origin: the file, for messages. strict: a fault is an error, and the file refused.
    faults: for each item that cannot be used, which one it is and why. others: how many there are of each kind that
    was not asked for. assumptions: what was taken for granted where the file is not clear, each once.
    """

    origin: str
    strict: bool = False
    faults: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    assumptions: dict[str, None] = field(default_factory=dict)

    def fault(self, item: str, reason: str) -> None:
        """Leave out an item that cannot be used. Raises InputError if that is not allowed."""
        if self.strict:
            raise _RefusedError(f"{self.origin}, {item}: {reason}")
        self.faults.append(f"{item}: {reason}")

    def assumed(self, what: str) -> None:
        """Say how something unclear is read."""
        self.assumptions[what] = None

    @contextmanager
    def tolerated(self, item: str = "") -> Iterator[None]:
        """Leave out what raises an InputError or, if the ``item`` is named, is of a wrong type or value.

        Raises InputError if that is not allowed.
        """
        try:
            with reading(item) if item else nullcontext():
                yield
        except _RefusedError:
            raise
        except InputError as error:
            reason = str(error).removeprefix(f"{self.origin}, ")
            if self.strict:
                raise _RefusedError(f"{self.origin}, {reason}") from error
            self.faults.append(reason)

    def summary(self) -> str:
        """What was assumed and left out, in a few words; empty if nothing was."""
        said = list(self.assumptions)
        if self.faults:
            more = len(self.faults) - _NAMED_AT_MOST
            named = "; ".join(self.faults[:_NAMED_AT_MOST]) + (f"; and {more} more" if more > 0 else "")
            said.append(f"{len(self.faults)} item{'s' * (len(self.faults) > 1)} left out: {named}")
        if self.others:
            said.append("passed over: " + ", ".join(f"{count} {kind}" for kind, count in sorted(self.others.items())))
        return "; ".join(said)

    def warn(self) -> None:
        """Say in one GeomatchWarning what was assumed and left out, if anything was."""
        if said := self.summary():
            warnings.warn(f"{self.origin}: {said}", GeomatchWarning, stacklevel=2)
