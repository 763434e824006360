"""Dense correspondence between photographs of different objects of a kind; see docs/python.md."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomatch.arguments import Image
    from geomatch.correspondence import Correspondence, FeatureMap, RegionMatches
    from geomatch.errors import GeomatchError
    from geomatch.pipeline import Pipeline, match
    from geomatch.result import Match
    from geomatch.transfer.annotation_transfer import AnnotationTransfer

__version__ = "0.2.0"
__all__ = [
    "AnnotationTransfer",
    "Correspondence",
    "FeatureMap",
    "GeomatchError",
    "Image",
    "Match",
    "Pipeline",
    "RegionMatches",
    "match",
]

_MODULES = {
    "AnnotationTransfer": "transfer.annotation_transfer",
    "Correspondence": "correspondence",
    "FeatureMap": "correspondence",
    "GeomatchError": "errors",
    "Image": "arguments",
    "Match": "result",
    "Pipeline": "pipeline",
    "RegionMatches": "correspondence",
    "match": "pipeline",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: torch takes seconds, and not everyone who imports geomatch needs it."""
    if name not in _MODULES:
        raise AttributeError(f"module 'geomatch' has no attribute '{name}'")
    from importlib import import_module

    return globals().setdefault(name, getattr(import_module(f"geomatch.{_MODULES[name]}"), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
