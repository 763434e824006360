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
    for name in (
        "manifest.json",
        *(f"{each}.safetensors" for each in ("introspection", "distilled", "anchornet", "keypoints", "foreground")),
    ):
        shutil.copy(ROOT / "weights" / name, folder)
    with (folder / "anchornet.safetensors").open("r+b") as file:
        file.seek(-1024, 2)
        file.write(bytes(1024))
    return folder


def test_doctor_passes_on_a_whole_installation(tmp_path: Path) -> None:
    done = geomatch("doctor", "--device", "cpu", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    states = {(area, name): state for state, area, name, _ in lines}
    for essential in [("version", "torch"), ("device", "cpu"), ("weights", "anchornet"), ("self-test", "match")]:
        assert states[essential] == "ok"
    assert "failed" not in states.values()


def test_doctor_finds_damaged_weights(tmp_path: Path, weights: Path) -> None:
    done = geomatch("doctor", "--device", "cpu", "--json", cwd=tmp_path, env={"GEOMATCH_WEIGHTS": str(weights)})
    assert done.returncode == 1
    assert done.stderr == "geomatch: error: checks failed: weights anchornet\n"
    record = json.loads(done.stdout)
    assert record["healthy"] is False
    (failed,) = (finding for finding in record["findings"] if finding["state"] == "failed")
    assert f"{weights / 'anchornet.safetensors'}: wrong checksum" in failed["said"]


def test_doctor_without_weights_runs_all_other_checks(tmp_path: Path) -> None:
    done = geomatch("doctor", "--json", cwd=tmp_path, env={"GEOMATCH_WEIGHTS": str(tmp_path)})
    assert done.returncode == 1
    states = {(each["about"], each["name"]): each["state"] for each in json.loads(done.stdout)["findings"]}
    assert states["weights", "manifest"] == states["self-test", "match"] == "failed"
    assert states["version", "numpy"] == states["device", "cpu"] == "ok"


def test_doctor_self_test_fails_on_wrong_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    size = (doctor.SIDE, doctor.SIDE)
    unmoved = Correspondence(torch.zeros(2, *size), torch.ones(size), torch.ones(size, dtype=torch.bool), size, size)
    monkeypatch.setattr(Pipeline, "match", lambda *_: unmoved)
    with pytest.raises(GeomatchError, match=r"found to \d+\.\d pixels .* expected less than 8\.0"):
        doctor._match_known_warp(Device.cpu)


def test_doctor_reports_missing_packages_with_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(doctor, "EXTRAS", (("Nothing", "no_such_module", "nothing", "geomatch[none]"),))
    monkeypatch.setattr(doctor, "_match_known_warp", lambda device: f"right on {device}")
    found = {finding.name: finding for finding in doctor.check_installation()}
    assert found["no-such-package"].state == "failed"
    assert found["no-such-package"].detail == "not installed: pip install no-such-package"
    assert found["Nothing"].state == "absent"
    assert found["Nothing"].detail == "for nothing: pip install 'geomatch[none]'"
    assert found["match"].detail == "right on auto"
