"""Weights files: written, read, refused; and the features that are loaded from them by name."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from geomatch.errors import InputError, WeightsError
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.load import load_features
from geomatch.features.weights import (
    features_of,
    load_weights,
    save_weights,
    sha256_of,
    shipped_weights,
    without_trunk,
)

CPU = torch.device("cpu")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    save_weights(path, "introspection", {"stages": ["2"]}, {"a.weight": torch.rand(3, 4), "a.bias": torch.rand(3)})
    return path


def test_save_weights_rounds_kernels_alone(written: Path) -> None:
    weights = load_weights(written)
    assert weights.feature == "introspection"
    assert weights.config == {"stages": ["2"]}
    assert weights.sha256 == sha256_of(written)
    kernel, bias = weights.state["a.weight"], weights.state["a.bias"]
    assert torch.equal(kernel, kernel.half().float())
    assert not torch.equal(bias, bias.half().float())


def test_load_weights_reads_the_one_stage_of_older_files(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_weights(path, "introspection", {"trunk": "resnet50v2", "stage": 3}, {"a.bias": torch.rand(3)})
    assert load_weights(path).config == {"trunk": "resnet50v2", "stages": ["3"]}


def test_load_weights_reads_the_numbered_stages_of_older_anchors(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_weights(path, "anchornet", {"classes": ["cat"], "stages": [1, 2]}, {"a.bias": torch.rand(3)})
    assert load_weights(path).config == {"classes": ["cat"], "stages": ["1", "2"]}


def test_load_features_rebuilds_the_network(tmp_path: Path) -> None:
    config = IntrospectionConfig(stages=("2",), descriptor_size=16)
    network = IntrospectionNet(config)
    save_weights(tmp_path / "w.safetensors", "introspection", asdict(config), network.state_dict())
    image = torch.randint(0, 256, (3, 100, 140), dtype=torch.uint8)
    found = load_features("introspection", working_size=112, device=CPU, weights=tmp_path / "w.safetensors")(image)
    assert found.descriptors.shape[0] == 16
    torch.testing.assert_close(found.descriptors.norm(dim=0), torch.ones(found.grid.shape))
    assert found.inverse_confidence is not None
    assert float(found.inverse_confidence.min()) > config.sigma_floor


def damaged(written: Path, kind: str) -> Path:
    content = written.read_bytes()
    if kind == "truncated":
        written.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        written.write_bytes(b"")
    elif kind == "pickle":
        torch.save({"a": torch.ones(2)}, written)
    elif kind == "foreign":
        save_file({"a": torch.ones(2)}, written)
    elif kind == "nan":
        save_weights(written, "introspection", {}, {"a.bias": torch.tensor([1.0, float("nan")])})
    elif kind == "missing":
        written.unlink()
    return written


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "damaged"),
        ("empty", "damaged"),
        ("pickle", "not geomatch weights"),
        ("foreign", "not geomatch weights"),
        ("nan", "NaN"),
        ("missing", "no such"),
    ],
)
def test_load_weights_refuses_damaged_and_foreign_files(written: Path, kind: str, reason: str) -> None:
    path = damaged(written, kind)
    with pytest.raises(WeightsError, match=reason) as raised:
        load_weights(path)
    assert path.name in str(raised.value)


def test_load_features_refuses_weights_of_another_network(written: Path) -> None:
    with pytest.raises(WeightsError, match="do not fit the network"):
        load_features("introspection", working_size=224, device=CPU, weights=written)
    save_weights(written, "introspection", {"colour": "blue"}, {"a.bias": torch.ones(1)})
    with pytest.raises(WeightsError, match="unknown setting 'colour'"):
        load_features("introspection", working_size=224, device=CPU, weights=written)
    save_weights(written, "anchornet", {}, {"a.bias": torch.ones(1)})
    with pytest.raises(WeightsError, match="weights of 'anchornet'"):
        load_features("introspection", working_size=224, device=CPU, weights=written)


def test_shipped_weights_are_checked_by_the_manifest(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOMATCH_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"manifest\.json: missing"):
        shipped_weights("introspection")
    entry = {"file": written.name, "sha256": sha256_of(written)}
    (tmp_path / "manifest.json").write_text(json.dumps({"introspection": entry}))
    assert shipped_weights("introspection").path == written
    with pytest.raises(WeightsError, match="no weights for 'anchornet'"):
        shipped_weights("anchornet")
    written.write_bytes(written.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="wrong checksum"):
        shipped_weights("introspection")


@pytest.fixture
def shared_trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped weights: those of introspection, and others that were learnt on the same trunk."""
    trunk = {"trunk.a.weight": torch.rand(3, 4), "trunk.a.bias": torch.rand(3)}
    save_weights(tmp_path / "i", "introspection", {}, trunk | {"descriptor.bias": torch.rand(2)})
    save_weights(tmp_path / "k", "keypoints", {}, trunk | {"descriptor.bias": torch.rand(2)})
    manifest = {"introspection": {"file": "i", "sha256": sha256_of(tmp_path / "i")}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("GEOMATCH_WEIGHTS", str(tmp_path))
    return tmp_path


def test_weights_without_their_trunk_take_it_from_the_shipped_ones(shared_trunk: Path) -> None:
    whole, small = shared_trunk / "k", shared_trunk / "small"
    small.write_bytes(without_trunk(whole, "introspection"))
    assert list(load_file(small)) == ["descriptor.bias"]
    expected, found = load_weights(whole).state, load_weights(small).state
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_trunk_that_differs_from_the_shipped_one_stays_in_its_file(shared_trunk: Path) -> None:
    save_weights(shared_trunk / "k", "keypoints", {}, {"trunk.a.weight": torch.rand(3, 4)})
    with pytest.raises(WeightsError, match="its trunk is not that of the shipped weights of introspection"):
        without_trunk(shared_trunk / "k", "introspection")


def test_weights_without_their_trunk_refuse_that_of_other_weights(shared_trunk: Path) -> None:
    small = shared_trunk / "small"
    small.write_bytes(without_trunk(shared_trunk / "k", "introspection"))
    save_weights(shared_trunk / "i", "introspection", {}, {"trunk.a.bias": torch.rand(3)})
    entry = {"file": "i", "sha256": sha256_of(shared_trunk / "i")}
    (shared_trunk / "manifest.json").write_text(json.dumps({"introspection": entry}))
    with pytest.raises(WeightsError, match="small: was learnt on the trunk of other weights of introspection"):
        load_weights(small)


SHIPPED = ("introspection", "distilled", "anchornet", "keypoints")


@pytest.mark.parametrize("feature", SHIPPED)
def test_shipped_weights_are_small_and_have_a_card(feature: str) -> None:
    file = shipped_weights(feature)
    weights, path = load_weights(file), file.path
    assert weights.feature == feature
    assert path.stat().st_size <= 50_000_000
    assert weights.sha256 in path.with_suffix(".md").read_text()


@pytest.mark.realdata
@pytest.mark.parametrize("feature", SHIPPED)
def test_shipped_weights_differ_from_the_initial_ones(feature: str, real_data: Path) -> None:
    from geomatch.features.backbones.base import parse_stage
    from geomatch.features.backbones.build import build_trunk, load_pretrained

    files = ("resnet50v2-imagenet-stages123.safetensors", "vit-tiny-patch16-imagenet.safetensors")
    initial_files = [real_data.parent / "weights-init" / name for name in files]
    if not all(each.is_file() for each in initial_files):
        pytest.skip("the initial weights are not here")
    shipped = load_weights(shipped_weights(feature))
    name, stages = shipped.config["trunk"], shipped.config["stages"]
    assert isinstance(name, str)
    assert isinstance(stages, list)
    trunk = build_trunk(name, [parse_stage(str(stage)) for stage in stages])
    load_pretrained(trunk, {k: v for each in initial_files for k, v in load_file(each).items()}, "init")
    layers = {f"trunk.{layer}": tensor for layer, tensor in trunk.state_dict().items()}
    assert layers.keys() == {layer for layer in shipped.state if layer.startswith("trunk.")}
    for layer, initial in layers.items():
        rounded = initial.half().float() if initial.ndim > 1 else initial
        assert not torch.equal(shipped.state[layer], rounded), layer


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("surf", "introspection, anchornet, combined, hypercolumn"),
        ("hypercolumn:a", "give stages joined"),
        ("combined:1+2", "from 0.1 to 1"),
        ("joined:1+", "as combined:1"),
        ("hypercolumn:7", "no stage 7"),
        ("introspection:x", "as introspection:1"),
    ],
)
def test_load_features_refuses_unknown_names_and_arguments(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_features(name, working_size=224, device=CPU)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (IntrospectionConfig(stages=("4",)), "resnet50v2 has no stage 4: it has 1, 2, 3"),
        (IntrospectionConfig(stages=("1",), descriptor_size=512), "256 channels"),
    ],
)
def test_introspection_refuses_heads_that_do_not_fit(config: IntrospectionConfig, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        IntrospectionNet(config)


def test_combined_takes_the_shipped_weights_alone(tmp_path: Path) -> None:
    shas = [load_weights(shipped_weights(name)).sha256 for name in ("distilled", "anchornet")]
    assert load_features("joined", working_size=64, device=CPU).weights_sha256 == "+".join(shas)
    with pytest.raises(InputError, match="leave out --weights"):
        load_features("joined", working_size=64, device=CPU, weights=tmp_path / "mine.safetensors")


def test_features_of_a_weights_file() -> None:
    assert features_of(shipped_weights("anchornet")) == "anchornet"
