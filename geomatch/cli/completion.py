"""What the shell offers for names, from the registry, which imports nothing heavy."""

from __future__ import annotations

from geomatch.registry import DATASETS, FEATURES, MATCHERS, PROTOCOLS, Registry


def features(incomplete: str) -> list[str]:
    return _starting(incomplete, FEATURES)


def matchers(incomplete: str) -> list[str]:
    return _starting(incomplete, MATCHERS)


def datasets(incomplete: str) -> list[str]:
    return _starting(incomplete, DATASETS)


def protocols(incomplete: str) -> list[str]:
    return _starting(incomplete, PROTOCOLS)


def _starting(incomplete: str, registry: Registry) -> list[str]:
    return [name for name in registry.names() if name.startswith(incomplete)]
