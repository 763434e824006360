"""The script that keeps some keypoints of a benchmark."""

import json
import subprocess
import sys
from pathlib import Path

from geomatch.datasets.load import load_dataset
from tests.conftest import ROOT


def test_keypoint_subset_is_a_benchmark_of_its_own(spair: Path, tmp_path: Path) -> None:
    whole = load_dataset("animal-parts", spair, split="val")
    for path in (spair / "PairAnnotation" / "val").glob("*.json"):
        entry = json.loads(path.read_text())
        entry["kps_ids"] = [str(place + 5) for place in range(len(entry["src_kps"]))]
        path.write_text(json.dumps(entry))
    command = [sys.executable, str(ROOT / "scripts" / "keypoint_subset.py"), str(spair), str(tmp_path / "part")]
    done = subprocess.run([*command, "--ids", "6,99"], check=True, capture_output=True, text=True)
    assert done.stdout == "2 pairs, 2 keypoints\n"
    part = load_dataset("animal-parts", tmp_path / "part", split="val")
    for all_points, kept in zip(whole.pairs, part.pairs, strict=True):
        assert kept.source_points.tolist() == all_points.source_points[1:2].tolist()
        assert kept.target_points.tolist() == all_points.target_points[1:2].tolist()
        assert kept.source_box == all_points.source_box
