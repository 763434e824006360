"""OpenCV, for those who have it."""

from __future__ import annotations

from types import ModuleType

from geomatch.errors import InputError


def opencv(purpose: str) -> ModuleType:
    """The library, which comes with the extra ``baselines``. Raises InputError, naming ``purpose``, without it."""
    try:
        import cv2
    except ImportError as error:
        raise InputError(f"{purpose} needs OpenCV: pip install 'geomatch[baselines]'") from error
    return cv2
