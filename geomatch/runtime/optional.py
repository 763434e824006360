"""Optional libraries."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from geomatch.errors import MissingLibraryError


def import_opencv(purpose: str) -> ModuleType:
    """The module cv2, which the extra ``baselines`` installs. Raises MissingLibraryError, naming ``purpose``."""
    try:
        import cv2
    except ImportError as error:
        raise MissingLibraryError(f"{purpose} needs OpenCV: pip install 'geomatch[baselines]'") from error
    return cv2


def has_heif() -> bool:
    """Whether pillow-heif, which the extra ``heic`` installs, is there."""
    return find_spec("pillow_heif") is not None


def register_heif() -> None:
    """Let Pillow read HEIC by pillow-heif, if that is there."""
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()


def import_av(purpose: str) -> ModuleType:
    """The module av, PyAV, which the extra ``video`` installs. Raises MissingLibraryError, naming ``purpose``."""
    try:
        return import_module("av")
    except ImportError as error:
        raise MissingLibraryError(f"{purpose} needs PyAV: pip install 'geomatch[video]'") from error


def import_yaml() -> ModuleType:
    """The module yaml, PyYAML, which the extra ``yolo`` installs. Raises MissingLibraryError."""
    try:
        return import_module("yaml")
    except ImportError as error:
        raise MissingLibraryError("data.yaml of YOLO needs PyYAML: pip install 'geomatch[yolo]'") from error


def import_ray() -> ModuleType:
    """The module ray, which the extra ``ray`` installs. Raises MissingLibraryError.

    It sends no statistics of use that the user has not asked for. It shows clusters the token that is at hand: `ray
    start` asks for it, but what connects does not show it unasked.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_TOKEN" in os.environ or token.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingLibraryError("--engine ray needs Ray: pip install 'geomatch[ray]'") from error
