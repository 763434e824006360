"""Compute as if the caller had left torch as it comes.

Autocast, grad mode, inference mode and the default device belong to a thread. The default dtype and the precision of
matrix products belong to the process: they are torch's while any thread computes, and then the caller's again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch

_AUTOCAST = ("cpu", "cuda", "mps")
_CPU = torch.device("cpu")


@contextmanager
def standard_torch_state() -> Iterator[None]:
    """Torch's own defaults, without gradients, for the block or the function that this decorates.

    >>> with torch.autocast("cpu", torch.bfloat16), standard_torch_state():
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    with ExitStack() as stack:
        stack.enter_context(_PROCESS.standard())
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device() != _CPU:
            stack.enter_context(_CPU)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        yield


class _ProcessState:
    """The state that all threads share; changed by the first that computes, restored by the last."""

    def __init__(self) -> None:
        self._lock, self._computing = Lock(), 0
        self._dtype, self._precision = torch.float32, "highest"

    @contextmanager
    def standard(self) -> Iterator[None]:
        with self._lock:
            if not self._computing:
                self._dtype, self._precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
                self._set(torch.float32, "highest")
            self._computing += 1
        try:
            yield
        finally:
            with self._lock:
                self._computing -= 1
                if not self._computing:
                    self._set(self._dtype, self._precision)

    def _set(self, dtype: torch.dtype, precision: str) -> None:
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        if torch.get_float32_matmul_precision() != precision:
            torch.set_float32_matmul_precision(precision)


_PROCESS = _ProcessState()
