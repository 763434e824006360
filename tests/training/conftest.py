"""A handful of photographs and a trunk to train on."""

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from tests.features.test_resnet import published_resnet50v2_state


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four labelled photographs of each of two classes, and a background one, in two tar shards."""
    folder = tmp_path_factory.mktemp("shards")
    random = np.random.default_rng(0)
    rows = []
    for shard in range(2):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as archive:
            for index in range(shard, 9, 2):
                name = f"{index}.png"
                colours = random.integers(0, 256, (8, 10, 3), dtype=np.uint8)
                Image.fromarray(colours).resize((100, 80), Image.Resampling.BICUBIC).save(folder / name)
                archive.add(folder / name, arcname=name)
                (folder / name).unlink()
                rows.append({"file": name, "labels": "background" if index == 8 else ("cat", "car dog")[index % 2]})
    with (folder / "labels.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, ["file", "labels"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="session")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("init") / "trunk.safetensors"
    save_file(published_resnet50v2_state(), path)
    return path
