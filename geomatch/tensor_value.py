"""What the frozen dataclasses that hold tensors or arrays share: equality by content, and a short text."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any


class TensorValue:
    """A base of dataclasses with ``eq=False, repr=False``.

    Two are equal if they are of one class and every field is: tensors and arrays by shape and content, on whatever
    device, NaN like NaN. The text has shapes and dtypes in place of tensors, and leaves out what has its default.
    """

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in _names(self))

    def __hash__(self) -> int:
        return hash((type(self), *(_shape(getattr(self, name)) for name in _names(self))))

    def __repr__(self) -> str:
        defaults = {each.name: each.default for each in fields(self) if each.repr}  # type: ignore[arg-type]
        values = ((name, getattr(self, name), default) for name, default in defaults.items())
        shown = (
            f"{name}={_text(value)}"
            for name, value, default in values
            if default is MISSING or not _same(value, default)
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def _names(value: TensorValue) -> list[str]:
    return [each.name for each in fields(value) if each.compare]  # type: ignore[arg-type]


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _shape(value: Any) -> object:
    return tuple(value.shape) if _is_tensor(value) else value


def _same(first: Any, second: Any) -> bool:
    if not (_is_tensor(first) and _is_tensor(second)):
        return not (_is_tensor(first) or _is_tensor(second)) and bool(first == second)
    if _shape(first) != _shape(second) or first.dtype != second.dtype:
        return False
    if hasattr(second, "device") and hasattr(second, "to"):
        second = second.to(first.device)
    return bool(((first == second) | ((first != first) & (second != second))).all())


def _text(value: Any) -> str:
    if not _is_tensor(value):
        return repr(value)
    device = str(getattr(value, "device", "cpu"))
    where = "" if device == "cpu" else f" on {device}"
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}{where}"
