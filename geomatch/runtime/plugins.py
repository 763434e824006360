"""Features and matchers that other installed packages add, by entry points: looked up when a name is not built in."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from geomatch.errors import GeomatchError, InputError

Made = TypeVar("Made")


class Kind(StrEnum):
    """What can be added, and the entry points' group it is added under."""

    features = "geomatch.features"
    matcher = "geomatch.matchers"


def plugin_names(kind: Kind) -> list[str]:
    """What installed packages add, in alphabetical order; none of their code is run."""
    return sorted({point.name for point in entry_points(group=kind)})


def make_plugin(kind: Kind, name: str, built_in: Iterable[str], wanted: type[Made], *arguments: object) -> Made:
    """What an installed package makes under a name: its entry point, a function or a class, called.

    built_in: geomatch's own names, told when there is no such name. wanted: the class of what is to be made.
    arguments: for the call.

    Raises InputError for a name that no package offers, or several; GeomatchError, naming the package, if its code
    fails or makes something else.
    """
    offered = sorted(entry_points(group=kind, name=name), key=_package)
    if not offered:
        known = ", ".join([*built_in, *plugin_names(kind)])
        raise InputError(f"unknown {kind.name} '{name}': the known ones are {known}")
    whose = f"{kind.name} '{name}' of package {' and of '.join(map(_package, offered))}"
    if len(offered) > 1:
        raise InputError(f"{whose}: uninstall all but one")
    try:
        made = offered[0].load()(*arguments)
    except GeomatchError:
        raise
    except Exception as error:
        raise GeomatchError(f"{whose} cannot be loaded ({type(error).__name__}: {error})") from error
    if not isinstance(made, wanted):
        raise GeomatchError(f"{whose} cannot be used: it makes a {type(made).__name__}, not a {wanted.__name__}")
    return made


def source_sha256(*things: object) -> str:
    """Hexadecimal SHA-256 of the source of all packages, ours or others', that things are of, as it is on disk: another
    one where they may do something else."""
    digest = hashlib.sha256()
    for name in sorted({type(thing).__module__.partition(".")[0] for thing in things}):
        for path in _source_files(sys.modules[name]):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _source_files(module: ModuleType) -> list[Path]:
    if hasattr(module, "__path__"):
        return sorted(path for folder in module.__path__ for path in Path(folder).rglob("*.py"))
    return [Path(module.__file__)] if module.__file__ else []


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.module
