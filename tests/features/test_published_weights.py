"""Published weights in files of PyTorch: tensors are read, code is not run."""

import hashlib
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file, save_file

from geomatch.errors import WeightsError
from geomatch.features.load import load_features, pretrained_trunk
from geomatch.features.weights import read_tensors
from tests.cli.command import geomatch
from tests.features.test_resnet import published_resnet50v2_state
from tests.fuzzing import assert_read_or_refused, fuzzed, mutations

CPU = torch.device("cpu")
STATE = OrderedDict(kernel=torch.arange(6.0).reshape(2, 3), count=torch.tensor(7))


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.place),))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "content",
    [STATE, {"state_dict": STATE, "epoch": 3, "optimizer": {"lr": 0.1}}, {"module." + k: v for k, v in STATE.items()}],
)
def test_read_tensors_of_pytorch_files(content: object, old: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    state, about = read_tensors(tmp_path / "w.pth")
    assert about == {}
    assert {name: tensor.tolist() for name, tensor in state.items()} == {"kernel": [[0, 1, 2], [3, 4, 5]], "count": 7}


@pytest.mark.parametrize("old", [False, True])
def test_read_tensors_runs_no_code(old: bool, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    torch.save({"a": torch.ones(2), "b": Harmful(harm)}, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(WeightsError, match=r"w\.pth: holds more than tensors \(posix\.mkdir\).*state_dict\(\) alone"):
        read_tensors(tmp_path / "w.pth")
    assert not harm.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(2)], "no state dictionary"),
        (torch.ones(2), "no state dictionary"),
        ({"epoch": 3}, "no tensor by name"),
        ({"a": torch.ones(2).to_sparse()}, "'a' is not a plain array"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "'a' is not a plain array"),
        ({"a": torch.ones(1).expand(10**9)}, "'a' is not a plain array"),
        ({"a": torch.ones(2, device="meta")}, "'a' is not a plain array"),
        (torch.nn.Linear(1, 1), "holds more than tensors"),
    ],
)
def test_read_tensors_refuses_other_content(content: object, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=said) as raised:
        read_tensors(tmp_path / "w.pth")
    assert str(raised.value).startswith(str(tmp_path / "w.pth"))


def test_read_tensors_dictionary_within_itself(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["model"] = content
    (tmp_path / "w.pth").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_tensors(tmp_path / "w.pth")


def saved(*, old: bool) -> bytes:
    file = io.BytesIO()
    torch.save(STATE, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


@given(mutations(saved(old=False)) | mutations(saved(old=True)))
@fuzzed(60)
def test_fuzz_damaged_pytorch_files(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some.pth"
        path.write_bytes(content)
        assert_read_or_refused(lambda: read_tensors(path), named=path.name)


def test_hypercolumn_of_a_pth_equals_that_of_safetensors(tmp_path: Path) -> None:
    state = published_resnet50v2_state()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    assert pretrained_trunk(tmp_path / "w.pth")[0] == "resnet50v2"
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = [
        load_features("hypercolumn:1+3", working_size=64, device=CPU, weights=tmp_path / name)(image)
        for name in ("w.safetensors", "w.pth")
    ]
    assert torch.equal(found[0].descriptors, found[1].descriptors)


def test_convert_writes_the_tensors_and_prints_the_checksum(tmp_path: Path) -> None:
    torch.save({"model": STATE}, tmp_path / "w.pth")
    done = geomatch("convert", "w.pth", "-o", "w.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert done.stdout == f"{digest}  w.safetensors\n"
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())
    again = geomatch("convert", "w.pth", "-o", "again.safetensors", cwd=tmp_path)
    assert again.stdout.split()[0] == digest


def test_convert_errors(tmp_path: Path) -> None:
    """One sentence, and nothing is written."""
    harm = tmp_path / "harm"
    torch.save({"a": Harmful(harm)}, tmp_path / "w.pth")
    (tmp_path / "there.safetensors").write_bytes(b"")
    for arguments, said in (
        (("w.pth", "-o", "x.safetensors"), "w.pth: holds more than tensors (posix.mkdir)"),
        (("none.pth", "-o", "x.safetensors"), "none.pth: no such weights file"),
        (("w.pth", "-o", "x.pth"), "x.pth"),
        (("w.pth", "-o", "there.safetensors"), "there.safetensors: exists already"),
    ):
        done = geomatch("convert", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.safetensors", "w.pth"]
