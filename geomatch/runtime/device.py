"""Where to compute."""

from __future__ import annotations

import os

import torch

from geomatch.errors import InputError
from geomatch.options import Device


def find_device(choice: Device) -> torch.device:
    """The torch device for a choice. Raises InputError if it was asked for by name and is not there."""
    present = {Device.cuda: torch.cuda.is_available(), Device.mps: torch.backends.mps.is_available()}
    if choice is Device.auto:
        return torch.device(next((name for name, there in present.items() if there), Device.cpu).value)
    if not present.get(choice, True):
        raise InputError(f"--device {choice}: this machine has no such device; use --device cpu or auto")
    return torch.device(choice.value)


def memory_of(device: torch.device) -> int:
    """Bytes of memory there are where a device computes: a GPU's own, else the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def take_own_gpu() -> None:
    """Under torchrun, let ``cuda`` mean one GPU a process, as far as they go round."""
    number = os.environ.get("LOCAL_RANK", "")
    if number.isdecimal() and torch.cuda.is_available():
        torch.cuda.set_device(int(number) % torch.cuda.device_count())
