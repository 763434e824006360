"""Two gloo processes, started as users start them, against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from tests.training.test_engine import Regression, run

SCRIPT = """
import sys
from pathlib import Path
import torch
from geomatch.errors import GeomatchError
from geomatch.settings import Precision
from geomatch.training.engine import Optimisation, train
from geomatch.training.workers import workers_of_torchrun
from tests.training.test_engine import Regression

folder, batches, dies = Path(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
try:
    with workers_of_torchrun(torch.device("cpu")) as workers:
        def stop(batch):
            if dies and workers.number == 1 and batch >= 5:
                raise SystemExit("the second process gives up")
        task = Regression(stop)
        train(
            task,
            Optimisation(steps=12, batches_per_step=batches, warm_up=3, trunk_rate=1e-2, head_rate=1e-2,
                         precision=Precision.fp32),
            recipe={"seed": 0}, checkpoint=folder / "checkpoint", resume=False, log=folder / "log.jsonl",
            on_progress=lambda _: None, workers=workers,
        )
        torch.save(task.network.state_dict(), folder / f"weights-{workers.number}.pt")
except GeomatchError as error:
    sys.exit(f"said: {error}")
"""


def torchrun(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, str(script), str(folder), *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_two_processes_train_as_one_does_and_end_with_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = Regression()
    expected = run(alone, tmp_path / "alone", batches=4)
    done = torchrun(tmp_path, 4)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    losses = torch.tensor([json.loads(line)["loss"] for line in log])
    torch.testing.assert_close(losses, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    first, second = (torch.load(tmp_path / f"weights-{number}.pt", weights_only=True) for number in (0, 1))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        torch.testing.assert_close(tensor, alone.network.state_dict()[name])


def test_when_one_process_dies_the_other_saves_its_state_and_stops(tmp_path: Path) -> None:
    done = torchrun(tmp_path, 2, "dies")
    assert done.returncode != 0
    assert "the second process gives up" in done.stderr
    assert not (tmp_path / "weights-0.pt").exists()
    with safe_open(tmp_path / "checkpoint", "pt") as file:
        step = json.loads(file.metadata()["geomatch"])["step"]
    assert step == len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    assert "Traceback" not in "".join(line for line in done.stderr.splitlines() if line.startswith("[rank0]"))


def test_batches_that_cannot_be_shared_evenly_are_refused_with_the_option_to_change(tmp_path: Path) -> None:
    done = torchrun(tmp_path, 3)
    assert done.returncode != 0
    assert "said: 3 batches a step cannot be shared out evenly among 2 processes: give --accumulate 2" in done.stderr
