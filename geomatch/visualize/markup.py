"""HTML and SVG as text; every string that is not `Markup` is escaped."""

from __future__ import annotations

from html import escape

_VOID = {"img", "input", "link", "meta"}


class Markup(str):
    """Text that is markup already and so is not escaped."""

    __slots__ = ()


def joined(*parts: str) -> Markup:
    """The parts one after another; those that are not markup are escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def element(tag: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """``<tag attributes>children</tag>``.

    Attributes that are None are left out. Names: ``class_`` is class, ``aria_label`` is aria-label.
    """
    opening = " ".join((tag, *(_attribute(key, value) for key, value in attributes.items() if value is not None)))
    return Markup(f"<{opening}>" if tag in _VOID else f"<{opening}>{joined(*children)}</{tag}>")


def _attribute(key: str, value: str | float) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}"
    return f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"'
