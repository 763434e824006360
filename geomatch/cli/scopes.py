"""Options of commands that score several features and matchers: values for all that take them, or for a named one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli.options import MATCHING, parse_assignments
from geomatch.errors import InputError, unknown_name
from geomatch.registry import FEATURES, MATCHERS

ScopedWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="[NAME=]FILE",
        help="Weights of the features they belong to, or of those named: anchornet=FILE; repeatable.",
        rich_help_panel=MATCHING,
    ),
]
ScopedParameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="[MATCHER.]NAME=VALUE",
        help="A parameter of the matchers that have it, or of the one named: dsp.levels=3; repeatable.",
        rich_help_panel=MATCHING,
    ),
]


@dataclass(frozen=True)
class Scopes:
    """The values of ``--weights`` and ``--set`` for several features and matchers.

    features, matchers: all that are scored, by name. weights, parameters: as the user wrote them.

    Raises InputError for a value that belongs to none of them.
    """

    features: Sequence[str]
    matchers: Sequence[str]
    weights: Sequence[str] = ()
    parameters: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in self._assignments:
            matcher, _, parameter = name.rpartition(".")
            if matcher and MATCHERS.canonical(matcher) not in map(MATCHERS.canonical, self.matchers):
                raise InputError(f"--set {name}: the matcher {matcher} is not among {', '.join(self.matchers)}")
            if not matcher and len(self.matchers) > 1 and not any(map(self._owners(parameter).get, self.matchers)):
                raise InputError(f"--set {name}: none of the matchers {', '.join(self.matchers)} has this parameter")
        for owner, path in self._files:
            if owner and not any(owner in (each, _kind(each)) for each in self.features):
                raise InputError(f"--weights {owner}={path}: {owner} is not among {', '.join(self.features)}")
            if not owner and len(self.features) > 1 and not any(_belongs(path, each) for each in self.features):
                raise InputError(f"--weights {path}: belongs to none of {', '.join(self.features)}; write NAME=FILE")

    def parameters_of(self, matcher: str) -> dict[str, object]:
        """The parameters given for a matcher, of their types. Raises InputError for one that it does not have."""
        own = {}
        for name, value in self._assignments.items():
            owner, _, parameter = name.rpartition(".")
            if owner and MATCHERS.canonical(owner) == MATCHERS.canonical(matcher):
                own[parameter] = value
            elif not owner and (len(self.matchers) == 1 or self._owners(parameter)[matcher]):
                own.setdefault(parameter, value)
        if not own:
            return {}
        from geomatch.matching.load import parse_matcher_parameters

        return parse_matcher_parameters(matcher, own)

    def weights_of(self, features: str) -> Path | None:
        """The weights given for features: a file for them by name, else one that says it is theirs."""
        named = {owner: path for owner, path in self._files if owner}
        found = named.get(features) or named.get(_kind(features))
        plain = [path for owner, path in self._files if not owner]
        if found or not plain:
            return found
        if len(self.features) == 1:
            return plain[-1]
        return next((path for path in reversed(plain) if _belongs(path, features)), None)

    @property
    def _assignments(self) -> Mapping[str, str]:
        return parse_assignments(self.parameters)

    @property
    def _files(self) -> list[tuple[str, Path]]:
        """The features named, or "", and the file, of each value of ``--weights``."""
        return [_split(text) for text in self.weights]

    def _owners(self, parameter: str) -> dict[str, bool]:
        """Whether each matcher has a parameter of this name."""
        from geomatch.matching.load import has_parameter

        return {matcher: has_parameter(matcher, parameter) for matcher in self.matchers}


def features_named(text: str) -> str | None:
    """The features that a value of ``--weights`` is for: those it names, else those that the file says, or None."""
    from geomatch.features.weights import features_of

    owner, path = _split(text)
    return owner or features_of(path)


def _kind(features: str) -> str:
    return FEATURES.aliases.get(kind := features.partition(":")[0], kind)


def _split(text: str) -> tuple[str, Path]:
    """The features that ``NAME=FILE`` names, "" if it is a file alone, and the file."""
    owner, sign, path = text.partition("=")
    if not sign or Path(text).exists():
        return "", Path(text)
    if _kind(owner) not in FEATURES.names():
        raise InputError(f"--weights {text}: {unknown_name('features', owner, FEATURES.names())}")
    return owner if ":" in owner else _kind(owner), Path(path)


def _belongs(path: Path, features: str) -> bool:
    """Whether a weights file says that it is of these features; a file that does not say so is of none."""
    from geomatch.features.weights import FORMAT, read_tensors

    about = read_tensors(path)[1]
    return about.get("format") == FORMAT and about.get("feature") == _kind(features)
