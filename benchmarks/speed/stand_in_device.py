"""A stand-in for a GPU: a device that computes on the CPU and counts what a GPU would be asked to do.

Its tensors say that they are on the device ``meta``, which every build of torch knows; each holds a tensor on the CPU
that operators are applied to. So code takes the same branches as on a GPU, and an operator on tensors of both devices
raises as it would there. What is counted:

- launches: operators that are dispatched to the device and compute or copy. Views and allocations are none. An operator
  counts once, so the number is a lower bound of a GPU's kernels; one on a list of tensors (``_foreach``, ``_fused``)
  counts once, too.
- waits: where the process would wait for the device. Numbers and tensors are read from it (``item``, ``bool``, ``cpu``,
  ``tolist``), tensors are copied to it from ordinary memory, or a result's size depends on values (``nonzero``, a mask
  as an index).

Counts are kept by the place in geomatch that asked; ``backward`` is what autograd asked for.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

import geomatch

DEVICE = torch.device("meta")
CPU = torch.device("cpu")
PACKAGE = str(Path(geomatch.__file__).parent)

aten = torch.ops.aten
SIZED_BY_VALUES = {
    aten.nonzero.default, aten.masked_select.default, aten.bincount.default, aten._unique2.default,
    aten.repeat_interleave.Tensor, aten.unique_dim.default, aten.unique_consecutive.default,
}  # fmt: skip
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}
CHECKED = {aten._linalg_check_errors.default}
ALLOCATIONS = ("empty", "new_empty", "lift_fresh", "resize")


class DeviceTensor(Tensor):
    """A tensor that says it is on the device; ``value`` is the one on the CPU that it stands for."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> DeviceTensor:
        shown = Tensor._make_wrapper_subclass(
            cls, value.shape, value.stride(), value.storage_offset(), dtype=value.dtype, device=DEVICE
        )
        shown.value = value
        return shown

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, _args: Any = (), _kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: a tensor of the stand-in device outlives `StandIn`")


class StandIn(TorchDispatchMode):
    """Inside, there is a device ``DEVICE``. launches, waits: how often, by place; the latter with the operator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self._others = ExitStack()

    def __enter__(self) -> Self:
        self._others.enter_context(_CreateOnDevice())
        # torch has lists of the devices whose optimisers run on whole lists of tensors.
        fused = patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["meta"])
        self._others.enter_context(fused)
        self._others.enter_context(patch("torch.nn.utils.clip_grad._has_foreach_support", lambda *_: True))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self._others.close()

    def reset(self) -> None:
        """Count from zero again."""
        self.launches.clear()
        self.waits.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        wanted, tensors = kwargs.get("device"), [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if wanted != DEVICE and not any(isinstance(each, DeviceTensor) for each in tensors):
            return func(*args, **kwargs)
        _check_one_device(func, tensors)
        self._count(func, args, kwargs, tensors)
        plain_args, plain = tree_map(lambda t: t.value if isinstance(t, DeviceTensor) else t, (args, kwargs))
        found = func(*plain_args, **plain | ({} if wanted is None else {"device": CPU}))
        if wanted == CPU or (func is aten.copy_.default and not isinstance(args[0], DeviceTensor)):
            return found
        found = tree_map(lambda each: DeviceTensor(each) if isinstance(each, Tensor) else each, found)
        return return_and_correct_aliasing(func, args, kwargs, found)  # type: ignore[no-untyped-call]

    def _count(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        place, name = _place(), func.overloadpacket.__name__
        if _waits(func, args, kwargs, tensors):
            self.waits[place, name] += 1
        if not (func.is_view or name.startswith(ALLOCATIONS) or func is aten._local_scalar_dense.default):
            self.launches[place] += 1


class _CreateOnDevice(TorchFunctionMode):
    """Makes on the CPU, and copies, what torch makes on a device from numbers without asking the dispatcher."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.new_tensor and isinstance(args[0], DeviceTensor):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(DEVICE)
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or CPU) == DEVICE:
            return func(*args, **{**kwargs, "device": CPU}).to(DEVICE)
        if func is Tensor.tolist and isinstance(args[0], DeviceTensor):
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


def _place() -> str:
    """The module of geomatch that is being run, or ``backward``."""
    if torch._C._current_graph_task_id() != -1:
        return "backward"
    frame = sys._getframe(1)
    while frame.f_back and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_filename.removeprefix(PACKAGE).lstrip("/")


def _waits(func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> bool:
    """Whether the process would wait for the device."""
    if func in COPIES:
        source = tensors[-1]
        crosses = not all(isinstance(each, DeviceTensor) for each in tensors) or (
            kwargs.get("device") not in (None, source.device)
        )
        return crosses and not kwargs.get("non_blocking")
    if func in INDEXING:
        indices = [each for each in args[1] if each is not None]
        by_mask = any(each.dtype in (torch.bool, torch.uint8) for each in indices)
        return by_mask or not all(isinstance(each, DeviceTensor) for each in indices)
    return func in SIZED_BY_VALUES or func in CHECKED or func is aten._local_scalar_dense.default


def _check_one_device(func: Any, tensors: list[Tensor]) -> None:
    """Raise RuntimeError, as a GPU would, for tensors of both devices; those of one number may be on the CPU."""
    elsewhere = [each for each in tensors if not isinstance(each, DeviceTensor) and each.dim() > 0]
    if elsewhere and len(elsewhere) < len(tensors) and func not in COPIES | INDEXING:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
