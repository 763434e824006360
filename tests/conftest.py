"""Fixtures: a rendered pair with known truth, and the real benchmarks where they are at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.correspondence import FeatureMap
from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.scnet import SCNet, SCNetConfig, Variant
from geomatch.features.weights import save_weights
from geomatch.geometry.grid import Grid
from tests.datasets.layouts import write_spair, write_willow

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))


@pytest.fixture
def real_data() -> Path:
    """The folder that holds PF-dataset, SPair-71k and animal-parts."""
    folder = os.environ.get("GEOMATCH_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the real benchmarks are not here: GEOMATCH_TEST_DATA names no folder")
    return Path(folder)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Predictions are kept in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("GEOMATCH_DATA", raising=False)
        yield


@pytest.fixture
def willow(tmp_path: Path) -> Path:
    """PF-WILLOW's layout with two images a class."""
    return write_willow(tmp_path / "PF-dataset")


@pytest.fixture
def spair(tmp_path: Path) -> Path:
    """SPair-71k's layout: one pair within a class and one across."""
    return write_spair(tmp_path / "SPair-71k")


@pytest.fixture(scope="session")
def teapots() -> Path:
    """Two rendered teapots, ``a.png`` and ``b.png``."""
    return ROOT / "examples" / "teapots"


@pytest.fixture(scope="session")
def anchor_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AnchorNet of random weights that knows cats, dogs and teapots by 4 filters each."""
    torch.manual_seed(0)
    config = AnchorConfig(("cat", "dog", "teapot"), stages=("1", "2"), tap_size=16, filters=4, code_size=8)
    network = AnchorNet(config)
    torch.nn.init.normal_(network.banks.weight, std=0.2)
    path = tmp_path_factory.mktemp("weights") / "anchors.safetensors"
    save_weights(path, "anchornet", asdict(config), network.state_dict())
    return path


@pytest.fixture(scope="session")
def keypoint_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keypoint features of an untrained network."""
    torch.manual_seed(0)
    network = IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=16))
    path = tmp_path_factory.mktemp("weights") / "keypoints.safetensors"
    save_weights(path, "keypoints", asdict(network.config), network.state_dict())
    return path


@pytest.fixture(scope="session")
def scnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SCNet of random weights, with both embeddings."""
    torch.manual_seed(0)
    network = SCNet(SCNetConfig(stages=("1",), descriptor_size=8, bins=2, embedding_size=6, variant=Variant.ag_plus))
    path = tmp_path_factory.mktemp("weights") / "scnet.safetensors"
    save_weights(path, "scnet", asdict(network.config), network.state_dict())
    return path


def random_features(
    height: int, width: int, *, channels: int = 8, cell: float = 10.0, seed: int = 0, sigma: float | None = None
) -> FeatureMap:
    """Unit descriptors on a grid that tiles an image of ``cell`` pixels a cell."""
    values = np.random.default_rng(seed).normal(size=(channels, height, width))
    size = (round(height * cell), round(width * cell))
    return FeatureMap(
        torch.nn.functional.normalize(torch.from_numpy(values).float(), dim=0),
        size,
        Grid.over(size, height, width),
        None if sigma is None else torch.full((height, width), sigma),
    )
