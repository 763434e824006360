"""Which benchmarks lie in a folder, and what to do about those that do not."""

from __future__ import annotations

import re
from pathlib import Path

from geomatch.datasets.base import Benchmark, unpacking
from geomatch.errors import InputError

ARCHIVE = re.compile(r"[\w.+-]+\.(?:zip|tar\.gz|tgz|tar)")


def check_parent(root: Path) -> None:
    """Raise InputError if ``root`` is not a folder; for an archive it says how to unpack it."""
    if root.is_dir():
        return
    what = (unpacking(root) if root.is_file() else None) or f"{root}: no such folder"
    raise InputError(f"{what}; --root must be the folder that holds the folders of benchmarks")


def folder_of(benchmark: Benchmark, parent: Path) -> Path | None:
    """The folder of a benchmark in ``parent``, or ``parent`` itself if it is that folder; None if there is neither."""
    inside = [parent / name for name in (benchmark.name, *benchmark.folders) if (parent / name).is_dir()]
    whole = next((folder for folder in (*inside, parent) if benchmark.splits(folder)), None)
    return whole or next(iter(inside), None)


def shortfall(benchmark: Benchmark, parent: Path, split: str, pairs: int) -> list[str]:
    """That a folder has another number of pairs than published, for pages that quote published scores; else nothing."""
    folder = folder_of(benchmark, parent)
    published = benchmark.published(folder, split) if folder else None
    if published in (None, pairs):
        return []
    return [f"{benchmark.name} {split}: {pairs:,} of the {published:,} published pairs; scores are not comparable"]


def how_to_get(benchmark: Benchmark, parent: Path) -> str:
    """Why a benchmark is not in ``parent``, and how to get it there: unpack its archive, or download it."""
    archives = (path for name in ARCHIVE.findall(benchmark.archives) if (path := parent / name).is_file())
    packed = next(filter(None, map(unpacking, archives)), None)
    return f"{benchmark.name}: {packed or f'not in {parent}; {benchmark.instruction}'}"
