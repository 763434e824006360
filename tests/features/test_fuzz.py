"""Any weights file is used or refused, whatever is in it."""

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from geomatch.errors import WeightsError
from geomatch.features.anchornet import AnchorConfig
from geomatch.features.introspection import IntrospectionConfig
from geomatch.features.load import load_features
from geomatch.features.weights import FORMAT, features_of, load_weights, read_tensors
from tests.fuzzing import assert_read_or_refused, fuzzed, junk, mutations, odd_numbers

STATE = {"kernel": torch.ones(2, 3, dtype=torch.float16), "bias": torch.zeros(3)}
ABOUT = {"format": FORMAT, "feature": "introspection", "config": {"stage": 3}}
CPU = torch.device("cpu")


def file_of(about: object, state: dict[str, torch.Tensor] = STATE) -> bytes:
    return save(state, {"geomatch": json.dumps(about)})


def use(path: Path) -> None:
    for feature in ("introspection", "anchornet", "hypercolumn"):
        assert_read_or_refused(lambda name=feature: load_features(name, working_size=64, device=CPU, weights=path))


def read_all(content: bytes, *, build: bool = False) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some.safetensors"
        path.write_bytes(content)
        assert_read_or_refused(lambda: read_tensors(path), named=path.name)
        assert_read_or_refused(lambda: load_weights(path), named=path.name)
        assert_read_or_refused(lambda: features_of(path), named=path.name)
        if build:
            use(path)


@given(mutations(file_of(ABOUT)) | st.binary(max_size=100))
@fuzzed(80)
def test_fuzz_damaged_weights_files(content: bytes) -> None:
    read_all(content)


@given(junk | st.fixed_dictionaries({"format": st.just(FORMAT)}, optional={"feature": junk, "config": junk}))
@fuzzed(40)
def test_fuzz_metadata_of_weights(about: object) -> None:
    read_all(file_of(about))


@given(st.data(), st.sampled_from(["introspection", "anchornet"]))
@fuzzed(24)
def test_fuzz_settings_of_the_network(data: st.DataObject, feature: str) -> None:
    config = asdict(IntrospectionConfig() if feature == "introspection" else AnchorConfig(("cat", "dog"), code_size=8))
    changed = data.draw(st.sampled_from(list(config)))
    config[changed] = data.draw(odd_numbers | st.lists(odd_numbers, max_size=3) | st.text(max_size=3) | junk)
    read_all(file_of({"format": FORMAT, "feature": feature, "config": config}), build=True)


@given(st.sampled_from(["F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "U8", "U16", "BOOL", "C64", "F4", "X"]))
@fuzzed(12)
def test_fuzz_tensor_dtypes(kind: str) -> None:
    read_all(file_of(ABOUT).replace(b'"F16"', json.dumps(kind).encode()))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ([], "not a JSON object"),
        ({"format": FORMAT}, "does not say which features"),
        (
            {"format": FORMAT, "feature": "introspection", "config": {"descriptor_size": 2**40}},
            "cannot be built|descriptor",
        ),
        ({"format": FORMAT, "feature": "introspection", "config": {"stage": "x"}}, "no stage x"),
        ({"format": FORMAT, "feature": "introspection", "config": {"sigma_floor": float("nan")}}, "sigma_floor is nan"),
        ({"format": FORMAT, "feature": "introspection", "config": {"sigma_floor": 3.0}}, "sigma cannot lie between"),
        (
            {"format": FORMAT, "feature": "anchornet", "config": {"classes": ["cat"], "code_size": 8, "stride": 0}},
            "stride",
        ),
        (
            {"format": FORMAT, "feature": "anchornet", "config": {"classes": ["c"] * 9, "filters": 2**31}},
            "do not fit|built",
        ),
    ],
)
def test_load_features_says_what_is_wrong_with_settings(about: dict[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(file_of(about))
    name = about["feature"] if "config" in about else "introspection"
    with pytest.raises(WeightsError, match=said):
        load_features(name, working_size=64, device=CPU, weights=path)
