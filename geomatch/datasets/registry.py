"""Benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from geomatch.datasets.pairs import PairDataset
from geomatch.datasets.pf_willow import load_pf_willow
from geomatch.datasets.spair import load_spair
from geomatch.errors import InputError

_LOADERS: Mapping[str, Callable[[Path], PairDataset]] = {
    "pf-willow": load_pf_willow,
    "spair-71k": partial(load_spair, name="spair-71k"),
    "animal-parts": partial(load_spair, name="animal-parts"),
}


def load_dataset(name: str, root: Path) -> PairDataset:
    """Read a benchmark from its own folder. Raises InputError for an unknown name or an incomplete folder."""
    if name not in _LOADERS:
        raise InputError(f"unknown dataset '{name}': the known ones are {', '.join(_LOADERS)}")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; --root should be the folder of {name}")
    return _LOADERS[name](root)
