"""The page that `geomatch match --gallery` writes: many pairs, each with its picture and links to its files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import quote

from geomatch.errors import printable
from geomatch.visualize.markup import Markup, element, joined
from geomatch.visualize.page import html_page

ORDERS: Mapping[str, str] = {
    "confident": "most confident first",
    "doubtful": "least confident first",
    "valid": "most valid pixels first",
    "listed": "as listed",
    "name": "by name",
}
"""How the page can be sorted, the first at once, by the names that its script knows."""


@dataclass(frozen=True)
class GalleryPicture:
    """A picture beside the page: its path relative to it, and its width and height in pixels."""

    path: str
    width: int
    height: int


@dataclass(frozen=True)
class GalleryPair:
    """A pair on the page.

    source, target: what its images are called. folder: of its files, relative to the page. files: their names.
    picture: what is shown of it, if there is one. confidence, valid_share: of the match, in [0, 1].
    error: why it could not be matched; then there is nothing else.
    """

    source: str
    target: str
    folder: str = ""
    files: Sequence[str] = ()
    picture: GalleryPicture | None = None
    confidence: float = 0.0
    valid_share: float = 0.0
    mirrored: bool = False
    error: str = ""


def gallery_page(pairs: Sequence[GalleryPair], facts: Mapping[str, str]) -> str:
    """An HTML page of pairs in the order given, which its reader can sort and search.

    Pictures are loaded when they come into view. facts: what all matches have in common, for the head of the page.
    """
    failed = sum(bool(pair.error) for pair in pairs)
    count = f"{len(pairs)} pair{'s' if len(pairs) != 1 else ''}" + (f", {failed} failed" if failed else "")
    ranked = sorted(range(len(pairs)), key=lambda place: (bool(pairs[place].error), -pairs[place].confidence))
    options = [element("option", text, value=name) for name, text in ORDERS.items()]
    head = element(
        "header",
        element("h1", "Matches"),
        element("ul", *(element("li", f"{name} {value}") for name, value in facts.items()), class_="facts"),
    )
    tools = element(
        "nav",
        element("label", "Sort ", element("select", *options, id="order")),
        element("label", "Find ", element("input", id="find", type="search", placeholder="part of a name")),
        element("output", count, id="count"),
        aria_label="Pairs to show",
    )
    rows = element("main", *(_row(place, pairs[place]) for place in ranked), id="pairs")
    return html_page(
        "matches", head, tools, rows, style=_part("page.css"), script=_part("page.js"), linked_pictures=True
    )


def _row(place: int, pair: GalleryPair) -> Markup:
    """A pair; what it is sorted by stands in its attributes."""
    names = element("h2", _shown(pair.source), element("span", " → ", class_="to"), _shown(pair.target))
    about: dict[str, str | float] = {
        "data_place": place,
        "data_confidence": -1 if pair.error else pair.confidence,
        "data_valid": -1 if pair.error else pair.valid_share,
        "data_name": _shown(f"{pair.source} {pair.target}"),
    }
    if pair.error:
        return element("article", names, element("p", _shown(pair.error), class_="error"), **about)
    said = [f"confidence {pair.confidence:.2f}", f"{pair.valid_share:.0%} valid", *(["mirrored"] * pair.mirrored)]
    bar = element("meter", value=pair.confidence, min=0, max=1, aria_label="confidence")
    links = [element("a", _shown(name), href=_address(f"{pair.folder}/{name}")) for name in pair.files]
    return element(
        "article",
        names,
        element("p", bar, joined(*_between(" · ", said)), class_="sure"),
        *([_linked(pair.picture)] if pair.picture else []),
        element("p", *_between(" · ", links), class_="files"),
        **about,
    )


def _linked(picture: GalleryPicture) -> Markup:
    """A picture that is loaded when it comes into view, and leads to itself; its place is kept free until then."""
    address = _address(picture.path)
    size = {"width": picture.width, "height": picture.height}
    return element("a", element("img", src=address, alt="", loading="lazy", decoding="async", **size), href=address)


def _between(separator: str, parts: Sequence[str]) -> list[str]:
    return [each for part in parts for each in (separator, part)][1:]


def _shown(name: str) -> str:
    """A name from a file system as a page can have it."""
    return printable(name)


def _address(path: str) -> str:
    return quote(os.fsencode(path))


def _part(name: str) -> str:
    return files("geomatch.visualize.gallery").joinpath(name).read_text("utf-8")
