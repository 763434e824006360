"""Record what a checkout of geomatch computes, and compare two such records byte by byte.

    python scripts/behaviour.py record CHECKOUT FOLDER --data DIR [--scores]
    python scripts/behaviour.py compare BEFORE AFTER

`record` matches the demo's pair and ten real pairs (PF-WILLOW and animal-parts, from DIR) with the presets and with
every matcher, and with ``--scores`` measures PCK of preset default on the benchmarks. `compare` prints what differs:
flow.npy, confidence.png and match.json (but for its version), and scores to the third digit; it exits with 1 if
anything does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

PRESET_CASES: Final = ("default", "fast", "precise")
MATCHER_CASES: Final = ("nn", "mutual", "hough", "dsp", "coherence", "pf-nam", "pf-phm", "pf-lom")
FEATURE_CASES: Final = ("introspection", "anchornet", "anchornet:cat", "hypercolumn:2+3", "sift", "hog")
BENCHMARKS: Final = (
    ("spair-71k", "SPair-71k", "val"),
    ("spair-71k", "animal-parts", "val"),
    ("pf-pascal", "pf-pascal", "test"),
)
FILES: Final = ("flow.npy", "confidence.png", "match.json")

RENAMED: Final = (("joined", "combined"), ("coherence", "affine"), ("coherent-", "affine-"))
"""Names in records of version 0.1, and what version 0.2 calls them."""


def real_pairs(data: Path) -> list[tuple[Path, Path]]:
    """Ten pairs of photographs: five of PF-WILLOW's classes, five validation pairs of animal-parts."""
    classes = sorted((data / "PF-dataset").iterdir())[::2]
    cars = [tuple(sorted(folder.glob("*.png"))[:2]) for folder in classes]
    records = sorted((data / "animal-parts" / "PairAnnotation" / "val").glob("*.json"))[::60][:5]
    animals = []
    for record in (json.loads(path.read_text()) for path in records):
        folder = data / "animal-parts" / "JPEGImages"
        found = [next(folder.rglob(record[name])) for name in ("src_imname", "trg_imname")]
        animals.append((found[0], found[1]))
    return [*cars, *animals]  # type: ignore[list-item]


def cases(checkout: Path, data: Path) -> dict[str, list[str]]:
    """Arguments of `geomatch match` by the case's name."""
    demo = [str(checkout / "examples" / "teapots" / name) for name in ("a.png", "b.png")]
    pairs = [[str(path) for path in pair] for pair in real_pairs(data)]
    found = {"demo": demo} | {f"pair-{n}": pair for n, pair in enumerate(pairs)}
    found |= {f"{name}-{n}": [*pairs[n], "--preset", name] for name in PRESET_CASES[1:] for n in (0, 7)}
    found |= {
        f"{name}-{n}": [*pairs[n], "--matcher", name, "--preset", "fast"] for name in MATCHER_CASES for n in (1, 8)
    }
    found |= {
        f"{name.replace(':', '-')}-2": [*pairs[2], "--features", name, "--preset", "fast"] for name in FEATURE_CASES
    }
    return found


def record(checkout: Path, folder: Path, data: Path, *, scores: bool) -> None:
    """Run a checkout's own code on every case, and write what it finds into ``folder``."""
    environment = os.environ | {
        "PYTHONPATH": str(checkout.resolve()),
        "XDG_CACHE_HOME": str(folder.resolve() / "cache"),
    }
    folder.mkdir(parents=True, exist_ok=True)

    def geomatch(*arguments: str) -> str:
        command = [sys.executable, "-m", "geomatch", *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    for name, arguments in cases(checkout.resolve(), data.resolve()).items():
        if not (folder / name).exists():
            geomatch("match", *arguments, "-o", name, "--format", "npy", "-q")
            print(name, flush=True)
    for dataset, place, split in BENCHMARKS if scores else ():
        told = geomatch(
            "eval", "--dataset", dataset, "--root", str(data.resolve() / place), "--split", split, "--json", "-q"
        )
        (folder / f"{place}.json").write_text(told)
        print(place, flush=True)


def compare(before: Path, after: Path) -> list[str]:
    """A line for each difference."""
    differences = []
    for folder in sorted(path for path in before.iterdir() if (path / "match.json").is_file()):
        for name in FILES:
            old, new = (_content(each / folder.name / name) for each in (before, after))
            if old != new:
                differences.append(f"{folder.name}/{name}: {_told(old, new)}")
    for file in sorted(before.glob("*.json")):
        old, new = (_scores(each / file.name) for each in (before, after))
        if old != new:
            differences.append(f"{file.name}: {_told(old, new)}")
    return differences


def _content(file: Path) -> Any:
    """A file's bytes; of a record what does not depend on when, where and by which version it was made."""
    if not file.is_file():
        return None
    if file.suffix != ".json":
        return file.read_bytes()
    text = file.read_text()
    for old, new in RENAMED:
        text = text.replace(old, new)
    found = json.loads(text)
    for name in ("version", "output", "seconds"):
        found.pop(name, None)
    found["files"] = sorted(found["files"])
    found["source"], found["target"] = (found[side]["sha256"] for side in ("source", "target"))
    return found


def _scores(file: Path) -> dict[str, float] | None:
    """Every score of an evaluation, to three digits."""
    if not file.is_file():
        return None
    results = json.loads(file.read_text())["results"]
    return {f"{each['protocol']} {each['average']} {each['alpha']}": round(each["pck"], 3) for each in results}


def _told(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        return "; ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys)
    return "missing" if new is None else "differs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("checkout", type=Path)
    recording.add_argument("folder", type=Path)
    recording.add_argument("--data", type=Path, required=True)
    recording.add_argument("--scores", action="store_true")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.verb == "record":
        record(given.checkout, given.folder, given.data, scores=given.scores)
        return
    differences = compare(given.before, given.after)
    print("\n".join(differences) or "no difference")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
