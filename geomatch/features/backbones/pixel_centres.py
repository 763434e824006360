"""Which pixel the cells of a network's maps are centred on, from the layers it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


class CentreTracer:
    """Follows the centre of cell 0 through all layers that change a map's size, in one forward pass.

    A layer of kernel k, dilation d, stride s and padding p centres its cell 0 on cell d (k - 1) / 2 - p of its input.
    Where such layers run side by side from one size to another, as the two branches of a residual block, the mean
    counts. What merges cells in another way, as the patch merging of Swin, is taken to tile the map. Layers of an
    attention are left out: what they make smaller is compared with, not looked at.
    """

    def __init__(self, side: int) -> None:
        """side: height of the image that the pass is made with, in pixels."""
        self._strides: dict[int, float] = {side: 1.0}
        self._centres: dict[int, list[float]] = {side: [0.0]}
        self._sources: dict[int, int] = {}

    def offset(self, height: int) -> float:
        """The pixel that cell 0 of a map with so many rows is centred on."""
        return self._lattice(height)[1]

    def _lattice(self, height: int) -> tuple[float, float]:
        """Stride and offset, in pixels, of the cells of a map with so many rows."""
        if height in self._centres:
            centres = self._centres[height]
            return self._strides[height], sum(centres) / len(centres)
        finer = min(each for each in self._centres if each > height)
        stride, offset = self._lattice(finer)
        return stride * finer / height, offset + stride * (finer / height - 1) / 2

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Trace the layers that the network runs meanwhile."""
        with ExitStack() as stack:
            for name, module in network.named_modules():
                resizes = hasattr(module, "kernel_size") or hasattr(module, "filt_size") or _only_pads(module)
                if resizes and "attn" not in name.split("."):
                    stack.callback(module.register_forward_hook(self._follow).remove)
            yield

    def _follow(self, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before, after = inputs[0].shape[-2], output.shape[-2]
        if before == after or inputs[0].ndim != 4 or output.ndim != 4:
            return
        stride, offset = self._lattice(before)
        centre = offset + stride * _shift(module)
        if self._sources.get(after) == before:
            self._centres[after].append(centre)
        else:
            self._sources[after], self._centres[after] = before, [centre]
            self._strides[after] = stride * (1 if _only_pads(module) else _vertical(module.stride))


def _shift(module: Any) -> float:
    """The cell of its input, along the vertical, that a layer centres its cell 0 on."""
    if _only_pads(module):
        return -float(module.padding[2])
    size = getattr(module, "kernel_size", None) or module.filt_size  # of a convolution or pooling, or timm's blur
    kernel, stride = _vertical(size), _vertical(module.stride)
    reach = _vertical(getattr(module, "dilation", 1)) * (kernel - 1)
    if "Same" in type(module).__name__ or module.padding == "same":  # TensorFlow's: what remains goes to the end
        padding = max(reach + 1 - stride, 0) // 2
    else:
        padding = 0 if module.padding == "valid" else _vertical(module.padding)
    return reach / 2 - padding


def _only_pads(module: Any) -> bool:
    return isinstance(module, nn.ConstantPad2d)


def _vertical(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple | list) else value)
