"""Modules that are imported by a thread while others compute."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from threading import Thread


def import_ahead(*modules: str) -> None:
    """Have a thread import modules, so that they are there when the others need them.

    What cannot be imported is an error only where it is needed.
    """

    def load() -> None:
        for module in modules:
            with suppress(ImportError):
                import_module(module)

    Thread(target=load, name="import ahead", daemon=True).start()
