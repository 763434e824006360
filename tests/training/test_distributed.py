"""Two gloo processes, started as users start them, against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from geomatch.errors import InputError
from geomatch.training.distributed import ProcessGroup
from tests.conftest import ROOT
from tests.training.test_trainer import Regression, run

SCRIPT = """
import sys
from pathlib import Path
import torch
from geomatch.errors import GeomatchError
from geomatch.options import Precision
from geomatch.training.trainer import Optimisation, TrainingFiles, train
from geomatch.training.distributed import torchrun_processes
from tests.training.test_trainer import Regression

def learn(folder, processes, batches, on_step=lambda _: None):
    task = Regression(on_step)
    train(
        task,
        Optimisation(steps=12, batches_per_step=batches, warmup_steps=3, trunk_learning_rate=1e-2,
                     head_learning_rate=1e-2, precision=Precision.float32),
        TrainingFiles(folder / "checkpoint", folder / "log.jsonl"),
        recipe={"seed": 0}, resume=False, on_progress=lambda _: None, processes=processes,
    )
    torch.save(task.network.state_dict(), folder / f"weights-{processes.rank}.pt")

def give_up(batch):
    if processes.rank == 1 and batch >= 5:
        raise SystemExit("the second process gives up")

try:
    with torchrun_processes(torch.device("cpu")) as processes:
        learn(Path("whole"), processes, 4)
        learn(Path("dies"), processes, 2, give_up)
except GeomatchError as error:
    sys.exit(f"said: {error}")
"""


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Two processes train in ``whole``, four batches a step, then in ``dies``, two a step, where one gives up."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "script.py").write_text(SCRIPT)
    for name in ("whole", "dies"):
        (folder / name).mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "script.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    return folder, done


@pytest.mark.slow
def test_two_processes_match_one(shared_out: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    folder, done = shared_out[0] / "whole", shared_out[1]
    alone = Regression()
    expected = run(alone, tmp_path, batches=4)
    assert (folder / "weights-1.pt").is_file(), done.stderr
    log = (folder / "log.jsonl").read_text().splitlines()
    losses = torch.tensor([json.loads(line)["loss"] for line in log])
    torch.testing.assert_close(losses, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    first, second = (torch.load(folder / f"weights-{number}.pt", weights_only=True) for number in (0, 1))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        torch.testing.assert_close(tensor, alone.network.state_dict()[name])


@pytest.mark.slow
def test_lost_process_stops_the_other_with_checkpoint(
    shared_out: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = shared_out[0] / "dies", shared_out[1]
    assert done.returncode != 0
    assert "the second process gives up" in done.stderr
    assert not (folder / "weights-0.pt").exists()
    with safe_open(folder / "checkpoint", "pt") as file:
        step = json.loads(file.metadata()["geomatch"])["step"]
    assert step == len((folder / "log.jsonl").read_text().splitlines()) == 2
    assert "Traceback" not in "".join(line for line in done.stderr.splitlines() if line.startswith("[rank0]"))


def test_train_refuses_uneven_batches(tmp_path: Path) -> None:
    said = "3 batches a step cannot be shared out evenly among 2 processes: give --accumulate 2"
    with pytest.raises(InputError, match=said):
        run(Regression(), tmp_path, batches=3, processes=ProcessGroup(0, 2))
    assert list(tmp_path.iterdir()) == []
