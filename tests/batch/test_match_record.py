"""What is written of a match: boxes, and a folder that holds what belongs to it and what others put there."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geomatch.batch.match_record import write_match
from geomatch.correspondence import RegionMatches
from geomatch.result import flow_files
from tests.conftest import random_features
from tests.stub import match_features


def test_regions_are_written_best_first() -> None:
    regions = RegionMatches(
        torch.tensor([[-0.5, 1.25, 9.5, 20.123], [3.0, 4, 5, 6], [0.0, 0, 1, 1]]),
        torch.tensor([[2.0, 3, 14.5, 39.5], [7.0, 8, 9, 10], [5.0, 5, 6, 6]]),
        torch.tensor([12.345678, 0.25, 0.0]),
    )
    features = random_features(4, 5)
    plain = match_features("nn", features, features)
    assert "regions.json" not in flow_files(plain, ["flo"])
    files = flow_files(replace(plain, regions=regions), ["flo"])
    assert json.loads(files["regions.json"]) == [
        {"source": [-0.5, 1.25, 9.5, 20.12], "target": [2, 3, 14.5, 39.5], "score": 12.3457},
        {"source": [3, 4, 5, 6], "target": [7, 8, 9, 10], "score": 0.25},
    ]


def record_of(files: dict[str, bytes]) -> dict[str, object]:
    return {"files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}


def written(folder: Path, *names: str) -> None:
    files = {name: b"of " + name.encode() for name in names}
    write_match(folder, record_of(files), files)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_write_match_again_leaves_only_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "a--b"
    written(folder, "flow.flo", "flow.npz", "warped.png", "regions.json")
    written(folder, "flow.npy", "flow.npz")
    assert names_in(folder) == {"flow.npy", "flow.npz", "match.json"}


def test_write_match_keeps_files_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "a--b"
    written(folder, "flow.flo", "flow.npz", "flow.npy", "warped.png")
    (folder / "warped.png").write_bytes(b"retouched")
    (folder / "flow.png").write_bytes(b"somebody's")
    (folder / "notes.txt").write_bytes(b"mine")
    (folder / "flow.npy").unlink()
    written(folder, "overview.png")
    assert names_in(folder) == {"overview.png", "match.json", "warped.png", "flow.png", "notes.txt"}


def test_a_record_cannot_have_other_files_deleted(tmp_path: Path) -> None:
    """However a record was tampered with, only names that matches write are looked at."""
    folder = tmp_path / "a--b"
    written(folder, "flow.flo")
    outside = tmp_path / "precious.txt"
    outside.write_bytes(b"precious")
    (folder / "notes.txt").write_bytes(b"mine")
    tampered = record_of({"../precious.txt": b"precious", "notes.txt": b"mine", str(outside): b"precious"})
    (folder / "match.json").write_text(json.dumps(tampered))
    written(folder, "flow.flo")
    assert outside.exists()
    assert names_in(folder) == {"flow.flo", "match.json", "notes.txt"}


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"files": 3}', b'{"files": {"flow.npz": 3}}', b"[" * 100_000])
def test_a_record_that_says_nothing_has_nothing_deleted(record: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "a--b"
    written(folder, "flow.npz")
    (folder / "match.json").write_bytes(record)
    written(folder, "flow.flo")
    assert names_in(folder) == {"flow.flo", "flow.npz", "match.json"}
