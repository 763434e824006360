"""What the shell offers for names; told here again, since importing their registries would take seconds."""

from __future__ import annotations

from collections.abc import Iterable

FEATURES = ("introspection", "anchornet", "joined", "hypercolumn", "sift", "hog")
MATCHERS = ("nn", "mutual", "hough", "dsp", "pf-nam", "pf-phm", "pf-lom", "coherence", "fusion")
DATASETS = ("pf-pascal", "pf-willow", "spair-71k", "tss", "caltech-101", "pascal-parts", "animal-parts", "warps")
PROTOCOLS = ("geomatch", "pf", "scnet", "hpf", "dhpf", "cats", "dift", "geoaware", "all")


def features(incomplete: str) -> list[str]:
    """Ours and those that other packages add."""
    from geomatch.runtime.plugins import Kind, plugin_names

    return _starting(incomplete, [*FEATURES, *plugin_names(Kind.features)])


def matchers(incomplete: str) -> list[str]:
    """Ours and those that other packages add."""
    from geomatch.runtime.plugins import Kind, plugin_names

    return _starting(incomplete, [*MATCHERS, *plugin_names(Kind.matcher)])


def datasets(incomplete: str) -> list[str]:
    return _starting(incomplete, DATASETS)


def protocols(incomplete: str) -> list[str]:
    return _starting(incomplete, PROTOCOLS)


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
