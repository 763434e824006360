"""`python -m geomatch`, and the command `geomatch`."""

from __future__ import annotations

import atexit
import gc
import sys

_OBJECTS_BEFORE_COLLECTION = 50_000


def main() -> None:
    """Run the command line; a Ctrl-C while it is imported is no error of ours either."""
    try:
        _start_quickly()
        from geomatch.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("geomatch: interrupted", file=sys.stderr)
        sys.exit(130)


def _start_quickly() -> None:
    """Spare the process what makes loading torch, and leaving it, longer than it need be.

    Python looks for cycles among objects after every 700 new ones, and a last time on exit. Torch makes half a million
    objects that stay, so this takes a third of the time of `import torch`.
    """
    from geomatch.runtime.processors import set_thread_defaults

    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION, 20, 100)
    atexit.register(gc.freeze)
    set_thread_defaults()


if __name__ == "__main__":
    main()
