"""Optional libraries."""

from __future__ import annotations

from types import ModuleType

from geomatch.errors import MissingLibraryError


def import_opencv(purpose: str) -> ModuleType:
    """The module cv2, which the extra ``baselines`` installs. Raises MissingLibraryError, naming ``purpose``."""
    try:
        import cv2
    except ImportError as error:
        raise MissingLibraryError(f"{purpose} needs OpenCV: pip install 'geomatch[baselines]'") from error
    return cv2
