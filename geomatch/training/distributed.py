"""Training shared out among the processes that ``torchrun`` starts, on one machine or several.

A step's batches are numbered whatever the number of processes, and each process takes every n-th: the sum of their
gradients, and so the training, is the same for one process as for many, but for rounding.
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


class ProcessLostError(TrainingError):
    """Another process of the training has gone; this one cannot go on without it."""


@dataclass(frozen=True)
class Workers:
    """The processes that train together, seen from one of them: which it is, of how many."""

    number: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def lead(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return self.number == 0

    def mean(self, report: dict[str, float]) -> dict[str, float]:
        """The mean of all processes' reports. Raises ProcessLostError if one of them has gone."""
        if self.count == 1:
            return report
        values = torch.tensor(list(report.values()), dtype=torch.float64, device=self.device)
        self._add(values)
        return dict(zip(report, (values / self.count).tolist(), strict=True))

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by the sum over the processes. Raises ProcessLostError if one of them has gone."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self._add(flat)
        for gradient, total in zip(
            gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(total.view_as(gradient))

    def gather(self, names: list[str]) -> list[str]:
        """All processes' names, in the processes' order. Raises ProcessLostError if one of them has gone."""
        if self.count == 1:
            return names
        gathered: list[list[str]] = [[] for _ in range(self.count)]
        with _together():
            dist.all_gather_object(gathered, names)
        return [name for each in gathered for name in each]

    def _add(self, values: Tensor) -> None:
        with _together():
            dist.all_reduce(values)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(
            "another process of this training has stopped: see its message, then start again with --resume"
        ) from error


@contextmanager
def workers_of_torchrun(device: torch.device) -> Iterator[Workers]:
    """Inside, the processes that torchrun has started can talk to each other; without torchrun there is one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers(dist.get_rank(), count, device)
        with _together():
            dist.barrier()  # else one may hang up while another still listens, which aborts it
    finally:
        dist.destroy_process_group()
