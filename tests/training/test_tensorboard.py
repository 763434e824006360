import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from geomatch.errors import InputError
from geomatch.training.monitoring.tensorboard import TensorBoard
from geomatch.training.trainer import Progress

PACKAGE = "torch.utils.tensorboard"


def progress(line: dict[str, object]) -> Progress:
    return Progress(step=1, steps=9, report={}, images_per_second=1.0, line=line)


class Writer:
    """Stands in for SummaryWriter and keeps what it is given."""

    told: list[object]

    def __init__(self, folder: str, purge_step: int) -> None:
        Writer.told = [(folder, purge_step)]

    def add_scalar(self, name: str, value: float, step: int) -> None:
        Writer.told.append((name, value, step))

    def close(self) -> None:
        Writer.told.append("closed")


def test_tensorboard_gets_numbers_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, SimpleNamespace(SummaryWriter=Writer))
    with TensorBoard(tmp_path / "new" / "board") as board:
        board(progress({"step": 7, "loss": 1.5, "unreadable": ["a.png"]}))
        board(progress({"step": 8, "validation": 0.4}))
    assert Writer.told == [(str(tmp_path / "new" / "board"), 7), ("loss", 1.5, 7), ("validation", 0.4, 8), "closed"]


def test_tensorboard_without_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(InputError, match="needs the tensorboard package: pip install tensorboard"):
        TensorBoard(tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_tensorboard_folder_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, SimpleNamespace(SummaryWriter=Writer))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        TensorBoard(tmp_path / "file")


def test_tensorboard_real_package(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TensorBoard(tmp_path) as board:
        board(progress({"step": 0, "loss": 1.5}))
    with TensorBoard(tmp_path) as board:
        board(progress({"step": 1, "loss": 0.5}))
    found = accumulators.EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in found] == [(0, 1.5), (1, 0.5)]
