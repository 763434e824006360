"""How often the most similar images of a folder show an object of the same class, for `match --neighbours`.

    python scripts/neighbours.py FOLDER [--preset fast] [--neighbours 1 5]

FOLDER has a subfolder of images for each class, as SPair-71k's JPEGImages.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geomatch.batch.neighbours import find_neighbours
from geomatch.io.images import image_suffixes
from geomatch.options import Preset
from geomatch.pipeline import Pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", type=Preset, default=Preset.fast)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[1, 5])
    options = parser.parse_args()

    images = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in image_suffixes())
    pipeline = Pipeline(preset=options.preset)
    same = [a.parent == b.parent for a in images for b in images if a is not b]
    print(f"{len(images)} images, all pairs: {sum(same) / len(same):.3f} of one class")
    for count in options.neighbours:
        pairs = find_neighbours(images, pipeline, count).pairs
        print(f"{count} neighbours: {sum(a.parent == b.parent for a, b in pairs) / len(pairs):.3f} of one class")


if __name__ == "__main__":
    main()
