"""Training with several processes, which ``torchrun`` starts on one machine or several.

The batches of all steps are numbered in one sequence, and each of n processes takes every n-th. So the training is the
same for one process as for many, except for rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from geomatch.errors import TrainingError
from geomatch.runtime.launcher import process_number


class ProcessLostError(TrainingError):
    """Another process of the training has stopped; this one cannot go on without it."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together, seen from the one of number ``rank``; ``size`` is how many there are."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and reports to the user."""
        return self.rank == 0

    def mean(self, report: dict[str, float]) -> dict[str, float]:
        """The mean of all processes' reports. Raises ProcessLostError if one of them has stopped."""
        if self.size == 1:
            return report
        values = torch.tensor(list(report.values()), dtype=torch.float64, device=self.device)
        self._add(values)
        return dict(zip(report, (values / self.size).tolist(), strict=True))

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by the sum over the processes. Raises ProcessLostError if one of them has stopped."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self._add(flat)
        totals = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, total in zip(gradients, totals, strict=True):
            gradient.copy_(total.view_as(gradient))

    def gather(self, names: list[str]) -> list[str]:
        """All processes' names, ordered by rank. Raises ProcessLostError if one of them has stopped."""
        if self.size == 1:
            return names
        gathered: list[list[str]] = [[] for _ in range(self.size)]
        with _lost_processes_reported():
            dist.all_gather_object(gathered, names)
        return [name for each in gathered for name in each]

    def _add(self, values: Tensor) -> None:
        with _lost_processes_reported():
            dist.all_reduce(values)


@contextmanager
def _lost_processes_reported() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(
            "another process of this training has stopped: see its message, then start again with --resume"
        ) from error


@contextmanager
def torchrun_processes(device: torch.device) -> Iterator[ProcessGroup]:
    """Inside, the processes that torchrun has started can communicate; without torchrun there is one process.

    On CUDA each process takes the GPU of its local rank.
    """
    size = process_number()[1]
    if size == 1:
        yield ProcessGroup(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield ProcessGroup(dist.get_rank(), size, device)
        with _lost_processes_reported():
            dist.barrier()  # a process that leaves early would abort those that still wait for it
    finally:
        dist.destroy_process_group()
