"""Take the trunk out of a weights file that was learnt on the frozen trunk of shipped weights.

    python scripts/share_trunk.py weights/anchornet.safetensors --trunk introspection

The file is written over. It then works beside those weights alone; the manifest needs its new checksum, which is
printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geomatch.features.weights import sha256_of, without_trunk
from geomatch.io.atomic import write_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--trunk", required=True, metavar="FEATURE", help="features whose shipped weights have the trunk"
    )
    arguments = parser.parse_args()
    write_atomically(arguments.file, without_trunk(arguments.file, arguments.trunk))
    print(sha256_of(arguments.file))


if __name__ == "__main__":
    main()
