"""Options of commands that score several features and matchers: values for all that take them, or for a named one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.options import MATCHING, PipelineOptions, parse_assignments
from geomatch.errors import InputError, unknown_name
from geomatch.registry import FEATURES, MATCHERS

if TYPE_CHECKING:
    from geomatch.io.inputs import InputFile

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
class ScopedFile:
    """A value of ``--weights``: the features that it names, "" if none, and a file, which is read once if needed."""

    owner: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> ScopedFile:
        """The value of ``NAME=FILE``, or of ``FILE`` alone. Raises InputError for unknown features."""
        owner, sign, path = text.partition("=")
        if not sign or Path(text).exists():
            return cls("", Path(text))
        if _kind(owner) not in FEATURES.names():
            raise InputError(f"--weights {text}: {unknown_name('features', owner, FEATURES.names())}")
        return cls(owner if ":" in owner else _kind(owner), Path(path))

    @cached_property
    def file(self) -> InputFile:
        """Raises WeightsError if it cannot be read."""
        from geomatch.features.weights import read_weights_file

        return read_weights_file(self.path)

    def features(self) -> str:
        """The features that it names, else those that the file says. Raises WeightsError."""
        from geomatch.features.weights import features_of

        return self.owner or features_of(self.file)

    def belongs(self, features: str) -> bool:
        """Whether the file says that it is of these features; one that does not say so is of none."""
        from geomatch.features.weights import FORMAT, read_tensors

        about = read_tensors(self.file)[1]
        return about.get("format") == FORMAT and about.get("feature") == _kind(features)


@dataclass(frozen=True)
class Scopes:
    """The values of ``--weights`` and ``--set`` for several features and matchers.

    features, matchers: all that are scored, by name. parameters: as the user wrote them.

    Raises InputError for a value that belongs to none of them.
    """

    features: Sequence[str]
    matchers: Sequence[str]
    weights: Sequence[ScopedFile] = ()
    parameters: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in self._assignments:
            matcher, _, parameter = name.rpartition(".")
            if matcher and MATCHERS.canonical(matcher) not in map(MATCHERS.canonical, self.matchers):
                raise InputError(f"--set {name}: the matcher {matcher} is not among {', '.join(self.matchers)}")
            if not matcher and len(self.matchers) > 1 and not any(map(self._owners(parameter).get, self.matchers)):
                raise InputError(f"--set {name}: none of the matchers {', '.join(self.matchers)} has this parameter")
        for given in self.weights:
            owner, path, known = given.owner, given.path, ", ".join(self.features)
            if owner and not any(owner in (each, _kind(each)) for each in self.features):
                raise InputError(f"--weights {owner}={path}: {owner} is not among {known}")
            if not owner and len(self.features) > 1 and not any(map(given.belongs, self.features)):
                raise InputError(f"--weights {path}: belongs to none of {known}; write NAME=FILE")

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

    def weights_of(self, features: str) -> InputFile | None:
        """The weights given for features: a file for them by name, else one that says it is theirs.

        Raises WeightsError if it cannot be read.
        """
        named = {each.owner: each for each in self.weights if each.owner}
        found = named.get(features) or named.get(_kind(features))
        plain = [each for each in reversed(self.weights) if not each.owner]
        if found is None and plain:
            found = (
                plain[0] if len(self.features) == 1 else next((each for each in plain if each.belongs(features)), None)
            )
        return found.file if found else None

    def has_weights_of(self, features: str) -> bool:
        """Whether weights are given for exactly these features: hypercolumn=FILE is not for hypercolumn:1+3+4."""
        named = any(each.owner == features for each in self.weights)
        return named or (features == _kind(features) and self.weights_of(features) is not None)

    def options_of(self, features: str, matcher: str, options: PipelineOptions) -> PipelineOptions:
        """The options with these features, the weights given for them, and a matcher. Raises WeightsError."""
        # Typer takes a path; what was read from one serves several pipelines.
        weights = self.weights_of(features)
        return replace(options, features=features, matcher=matcher, weights=weights)  # type: ignore[arg-type]

    @property
    def _assignments(self) -> Mapping[str, str]:
        return parse_assignments(self.parameters)

    def _owners(self, parameter: str) -> dict[str, bool]:
        """Whether each matcher has a parameter of this name."""
        from geomatch.matching.load import has_parameter

        return {matcher: has_parameter(matcher, parameter) for matcher in self.matchers}


def _kind(features: str) -> str:
    return FEATURES.aliases.get(kind := features.partition(":")[0], kind)
