"""Matchers made by name, with parameters: our own and those of plug-ins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from geomatch.matching.base import Matcher
from geomatch.parameters import parse_parameters, with_parameters
from geomatch.registry import MATCHERS


def load_matcher(name: str, parameters: Mapping[str, object] | None = None) -> Matcher:
    """Make a matcher.

    Args:
        name: one of `geomatch.registry.MATCHERS`, or of an installed package's entry points ``geomatch.matchers``.
        parameters: those to change from their defaults, by name.

    Raises:
        InputError: for an unknown name, or a value that does not fit.
    """
    matcher = MATCHERS.make(name, Matcher)  # type: ignore[type-abstract]
    return with_parameters(matcher, parameters or {}, f"matcher {name}")  # type: ignore[type-var]


def parse_matcher_parameters(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a matcher as the user wrote them, parsed by their types. Raises InputError."""
    return parse_parameters(type(load_matcher(name)), texts, f"matcher {name}")  # type: ignore[arg-type]


def has_parameter(name: str, parameter: str) -> bool:
    """Whether a matcher has a parameter of this name. Raises InputError for an unknown matcher."""
    return parameter in {field.name for field in fields(load_matcher(name))}  # type: ignore[arg-type]
