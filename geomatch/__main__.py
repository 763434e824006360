"""`python -m geomatch`, and the command `geomatch`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it is imported is no error of ours either."""
    try:
        from geomatch.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("geomatch: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
