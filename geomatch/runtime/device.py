"""The device that computes, and in what precision."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from geomatch.errors import GeomatchWarning, InputError
from geomatch.options import Device, Precision


def find_device(choice: Device | torch.device) -> torch.device:
    """The torch device for a choice, or the same device. Raises InputError if the machine has no such device."""
    present = {Device.cuda: torch.cuda.is_available(), Device.mps: torch.backends.mps.is_available()}
    if isinstance(choice, torch.device):
        if not present.get(choice.type, True) or (choice.index or 0) >= max(1, torch.cuda.device_count()):  # type: ignore[call-overload]
            raise InputError(f"device {choice}: this machine has no such device; use cpu or auto")
        return choice
    if choice is Device.auto:
        return torch.device(next((name for name, there in present.items() if there), Device.cpu).value)
    if not present.get(choice, True):
        raise InputError(f"--device {choice}: this machine has no such device; use --device cpu or auto")
    return torch.device(choice.value)


def find_precision(choice: Precision, device: torch.device) -> torch.dtype:
    """The arithmetic of networks on a device; ``auto`` takes bfloat16 where the hardware has it."""
    if choice is not Precision.auto:
        return torch.bfloat16 if choice is Precision.bfloat16 else torch.float32
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether torch says that the hardware multiplies bfloat16 natively."""
    able = torch.cpu.get_capabilities()
    native = {
        "cpu": able.get("amx_bf16", False) or able.get("avx512_bf16", False),
        "cuda": device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
    }
    return bool(native.get(device.type, False))


def warn_if_slow(choice: Precision, device: torch.device) -> None:
    """Warn, with a GeomatchWarning, if bfloat16 is asked for and the hardware does not have it."""
    if choice is Precision.bfloat16 and not multiplies_bfloat16(device):
        warnings.warn(
            f"--precision bfloat16: this {device.type} does not multiply it natively, and networks take about 1.4 "
            "times as long as in float32; leave it out, or choose float32",
            GeomatchWarning,
            stacklevel=2,
        )


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Matrix products and convolutions inside are computed with this precision."""
    dtype = find_precision(precision, device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device. The process does not wait for a GPU, which reads pinned memory."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


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
