"""Copy the annotations of a benchmark in SPair-71k's layout with some of its keypoints alone.

To measure features that learnt from keypoints on names that were left out of their training. The images are linked.

    python scripts/keypoint_subset.py animal-parts subset --split val --ids 0,1,9,10,11,12,19
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

PER_KEYPOINT = ("src_kps", "trg_kps", "kps_ids")


def subset(entry: dict[str, Any], ids: set[str]) -> dict[str, Any]:
    """A pair's annotation with the keypoints whose identifier is among ``ids``."""
    kept = [place for place, own in enumerate(entry["kps_ids"]) if str(own) in ids]
    return entry | {key: [entry[key][place] for place in kept] for key in PER_KEYPOINT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the benchmark")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--split", default="val")
    parser.add_argument("--ids", required=True, help="the kps_ids to keep, separated by commas")
    arguments = parser.parse_args()
    ids = set(arguments.ids.split(","))
    folder = arguments.out / "PairAnnotation" / arguments.split
    folder.mkdir(parents=True)
    (arguments.out / "JPEGImages").symlink_to((arguments.source / "JPEGImages").resolve())
    pairs = keypoints = 0
    for path in sorted((arguments.source / "PairAnnotation" / arguments.split).glob("*.json")):
        kept = subset(json.loads(path.read_text(encoding="utf-8")), ids)
        if kept["kps_ids"]:
            (folder / path.name).write_text(json.dumps(kept), encoding="utf-8")
            pairs, keypoints = pairs + 1, keypoints + len(kept["kps_ids"])
    print(f"{pairs} pairs, {keypoints} keypoints")


if __name__ == "__main__":
    main()
