import json
import shutil
from pathlib import Path

import pytest
import torch

from geomatch import doctor
from geomatch.correspondence import Correspondence
from geomatch.errors import GeomatchError
from geomatch.options import Device
from geomatch.pipeline import Pipeline
from tests.cli.command import geomatch
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped weights, the last kilobyte of AnchorNet's zeroed."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("manifest.json", "introspection.safetensors", "anchornet.safetensors"):
        shutil.copy(ROOT / "weights" / name, folder)
    with (folder / "anchornet.safetensors").open("r+b") as file:
        file.seek(-1024, 2)
        file.write(bytes(1024))
    return folder


def test_a_whole_installation_is_well(tmp_path: Path) -> None:
    done = geomatch("doctor", "--device", "cpu", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    looked_at = {(about, name): state for state, about, name, _ in lines}
    for essential in [("version", "torch"), ("device", "cpu"), ("weights", "anchornet"), ("self-test", "match")]:
        assert looked_at[essential] == "ok"
    assert "failed" not in looked_at.values()


def test_damaged_weights_are_found_by_their_checksum(tmp_path: Path, weights: Path) -> None:
    done = geomatch("doctor", "--device", "cpu", "--json", cwd=tmp_path, env={"GEOMATCH_WEIGHTS": str(weights)})
    assert done.returncode == 1
    assert done.stderr == "geomatch: error: not well: weights anchornet\n"
    told = json.loads(done.stdout)
    assert told["healthy"] is False
    (failed,) = (finding for finding in told["findings"] if finding["state"] == "failed")
    assert f"{weights / 'anchornet.safetensors'}: wrong checksum" in failed["said"]


def test_without_weights_the_rest_is_looked_at_all_the_same(tmp_path: Path) -> None:
    done = geomatch("doctor", "--json", cwd=tmp_path, env={"GEOMATCH_WEIGHTS": str(tmp_path)})
    assert done.returncode == 1
    states = {(each["about"], each["name"]): each["state"] for each in json.loads(done.stdout)["findings"]}
    assert states["weights", "manifest"] == states["self-test", "match"] == "failed"
    assert states["version", "numpy"] == states["device", "cpu"] == "ok"


def test_a_flow_that_is_wrong_fails_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    size = (doctor.SIDE, doctor.SIDE)
    unmoved = Correspondence(torch.zeros(2, *size), torch.ones(size), torch.ones(size, dtype=torch.bool), size, size)
    monkeypatch.setattr(Pipeline, "match", lambda *_: unmoved)
    with pytest.raises(GeomatchError, match=r"found to \d+\.\d pixels .* where less than 16\.0 are due"):
        doctor._match_known_warp(Device.cpu)


def test_a_package_that_is_missing_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(doctor, "EXTRAS", (("Nothing", "no_such_module", "nothing", "geomatch[none]"),))
    monkeypatch.setattr(doctor, "_match_known_warp", lambda device: f"right on {device}")
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["no-such-package"].state == "failed"
    assert found["no-such-package"].said == "not installed: pip install no-such-package"
    assert found["Nothing"].state == "absent"
    assert found["Nothing"].said == "for nothing: pip install 'geomatch[none]'"
    assert found["match"].said == "right on auto"
