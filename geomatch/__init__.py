"""Dense correspondence between photographs of different objects of a kind; see docs/python.md."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomatch.api import Choices, Image, Matcher, match
    from geomatch.correspondence import Correspondence, FeatureMap, RegionMatches
    from geomatch.errors import GeomatchError

__version__ = "0.2.0"
__all__ = ["Choices", "Correspondence", "FeatureMap", "GeomatchError", "Image", "Matcher", "RegionMatches", "match"]


def __getattr__(name: str) -> Any:
    """Load what is public when it is first asked for: torch takes seconds, and not all who import geomatch need it."""
    if name not in __all__:
        raise AttributeError(f"module 'geomatch' has no attribute '{name}'")
    from geomatch import api

    return globals().setdefault(name, getattr(api, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
