"""Features and matchers of other installed packages, found by their entry points."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from geomatch.errors import GeomatchError, InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

Made = TypeVar("Made")


def plugin_names(group: str) -> list[str]:
    """The names in a group of entry points, sorted. No code of the packages is run."""
    return sorted({point.name for point in _entry_points(group)})


def make_plugin(kind: str, group: str, name: str, wanted: type[Made], *arguments: object) -> Made:
    """Call an entry point, a function or a class, by its name.

    Args:
        kind: what it makes, for messages.
        group: the group of entry points.
        wanted: the class of the object that it must make.
        arguments: for the call.

    Raises:
        InputError: if several packages offer the name.
        GeomatchError: naming the package, if its code fails or makes something else.
    """
    offered = sorted(_entry_points(group).select(name=name), key=_package)
    owner = f"{kind} '{name}' of package {' and of '.join(map(_package, offered))}"
    if len(offered) > 1:
        raise InputError(f"{owner}: uninstall all but one")
    try:
        made = offered[0].load()(*arguments)
    except GeomatchError:
        raise
    except Exception as error:
        raise GeomatchError(f"{owner} cannot be loaded ({type(error).__name__}: {error})") from error
    if not isinstance(made, wanted):
        raise GeomatchError(f"{owner} cannot be used: it makes a {type(made).__name__}, not a {wanted.__name__}")
    return made


def source_sha256(*objects: object) -> str:
    """Hexadecimal SHA-256 of the source files of the packages that define the objects' classes.

    It changes whenever the code of such a package changes.
    """
    digest = hashlib.sha256()
    for name in sorted({type(each).__module__.partition(".")[0] for each in objects}):
        for path in _source_files(sys.modules[name]):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _entry_points(group: str) -> EntryPoints:
    from importlib.metadata import entry_points  # takes as long to import as all that a command line needs

    return entry_points(group=group)


def _source_files(module: ModuleType) -> list[Path]:
    if hasattr(module, "__path__"):
        return sorted(path for folder in module.__path__ for path in Path(folder).rglob("*.py"))
    return [Path(module.__file__)] if module.__file__ else []


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.module
