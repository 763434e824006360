"""The device that computes."""

from __future__ import annotations

import os

import torch

from geomatch.errors import InputError
from geomatch.options import Device


def find_device(choice: Device) -> torch.device:
    """The torch device for a choice. Raises InputError if the machine has no such device."""
    present = {Device.cuda: torch.cuda.is_available(), Device.mps: torch.backends.mps.is_available()}
    if choice is Device.auto:
        return torch.device(next((name for name, there in present.items() if there), Device.cpu).value)
    if not present.get(choice, True):
        raise InputError(f"--device {choice}: this machine has no such device; use --device cpu or auto")
    return torch.device(choice.value)


def memory_bytes(device: torch.device) -> int:
    """Total memory of a device in bytes: the GPU's own for cuda, else the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def assign_gpu() -> None:
    """Assign one GPU per process under torchrun (round-robin), as the device ``cuda``."""
    number = os.environ.get("LOCAL_RANK", "")
    if number.isdecimal() and torch.cuda.is_available():
        torch.cuda.set_device(int(number) % torch.cuda.device_count())
