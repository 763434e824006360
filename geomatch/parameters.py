"""Parameters of matchers and recipes: fields of frozen dataclasses, checked by type, parsed from text by the CLI.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Example:
...     cells: int = 20
...     mirrored: bool = False
>>> parse_parameters(Example, {"cells": "8", "mirrored": "yes"}, "matcher example")
{'cells': 8, 'mirrored': True}
>>> with_parameters(Example(), {"cells": 8}, "matcher example")
Example(cells=8, mirrored=False)
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, replace
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from geomatch.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse_parameters(kind: type[DataclassInstance], texts: Mapping[str, str], owner: str) -> dict[str, Any]:
    """Parse texts by the types of a dataclass's fields.

    Args:
        kind: the dataclass. Its fields are int, float, bool, str, a StrEnum, a tuple of one of these (written with
            commas), or one of these or None (written ``none``).
        texts: values by field name, as the user wrote them.
        owner: what has the parameters, for messages, such as "matcher dsp".

    Raises:
        InputError: for a name that is not a field, or a text that does not fit its type.
    """
    return {
        name: _parse(text, _type_of(kind, name, owner), f"parameter {name} of {owner}") for name, text in texts.items()
    }


def with_parameters(settings: Settings, values: Mapping[str, object], owner: str) -> Settings:
    """The settings with other values for some fields.

    Raises:
        InputError: for a name that is not a field, a value of another type, or one that the settings refuse.
    """
    typed = {}
    for name, value in values.items():
        wanted = _type_of(type(settings), name, owner)
        if not has_type(value, wanted):
            raise InputError(f"parameter {name} of {owner}: {value!r} is not {_in_words(wanted)}")
        typed[name] = wanted(value) if _is_enum(wanted) else value
    return replace(settings, **typed)


def has_type(value: object, wanted: Any) -> bool:
    """Whether a value fits a field of a type. An int fits float; a bool fits bool alone."""
    if get_origin(wanted) in (Union, types.UnionType):
        return any(has_type(value, each) for each in get_args(wanted))
    if get_origin(wanted) is tuple:
        return isinstance(value, tuple) and all(has_type(each, get_args(wanted)[0]) for each in value)
    if wanted in (int, float) and isinstance(value, bool):
        return False
    if _is_enum(wanted):
        return value in list(wanted)
    return isinstance(value, int | float) if wanted is float else isinstance(value, wanted)


@cache
def _hints(kind: type[DataclassInstance]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _type_of(kind: type[DataclassInstance], name: str, owner: str) -> Any:
    known = _hints(kind)
    if name not in known:
        hint = did_you_mean(name, known)
        raise InputError(f"{owner} has no parameter '{name}'{hint}: it has {', '.join(known) or 'none'}")
    return known[name]


def _parse(text: str, wanted: Any, name: str) -> object:
    if get_origin(wanted) in (Union, types.UnionType):
        others = [each for each in get_args(wanted) if each is not types.NoneType]
        return None if text.lower() == "none" else _parse(text, others[0], name)
    if get_origin(wanted) is tuple:
        return tuple(_parse(each.strip(), get_args(wanted)[0], name) for each in text.split(",") if each.strip())
    try:
        return _BOOLEANS[text.lower()] if wanted is bool else wanted(text)
    except (ValueError, KeyError):
        raise InputError(f"{name}: '{text}' is not {_in_words(wanted)}") from None


def _is_enum(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, StrEnum)


def _in_words(wanted: Any) -> str:
    """A field's type in words, for messages."""
    if get_origin(wanted) in (Union, types.UnionType):
        return " or ".join("none" if each is types.NoneType else _in_words(each) for each in get_args(wanted))
    if get_origin(wanted) is tuple:
        return f"a list of values, each {_in_words(get_args(wanted)[0])}"
    if _is_enum(wanted):
        return f"one of {', '.join(wanted)}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(wanted, str(wanted))


def check_limits(settings: DataclassInstance, owner: str, names: str, least: float = 0, most: float = math.inf) -> None:
    """Raise InputError unless the fields ``names``, separated by spaces, lie between ``least`` and ``most``."""
    bounds = f"at least {least:g}" if most == math.inf else f"between {least:g} and {most:g}"
    for name in names.split():
        if not least <= getattr(settings, name) <= most:
            raise InputError(f"parameter {name} of {owner} is {getattr(settings, name)}: it must be {bounds}")
