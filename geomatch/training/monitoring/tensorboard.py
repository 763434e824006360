"""A training's log for TensorBoard, if that is installed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from geomatch.errors import InputError
from geomatch.training.trainer import Progress


class TensorBoard:
    """Call it with a training's progress: every number of the log goes to an event file in ``folder``.

    Raises InputError if the tensorboard package is missing or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError("--tensorboard needs the tensorboard package: pip install tensorboard") from error
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: could not be written ({error.strerror})") from error
        self._folder, self._open = folder, SummaryWriter
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def __call__(self, progress: Progress) -> None:
        step = progress.line["step"]
        if self._writer is None:  # only now it is known which steps a resumed training will write again
            self._writer = self._open(str(self._folder), purge_step=step)
        for name, value in progress.line.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)
