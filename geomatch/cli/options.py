"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli import completion
from geomatch.errors import InputError
from geomatch.options import PRESETS, Device, Preset

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str) -> int:
    """The bytes that ``--max-memory`` stands for: 512MiB, 2GiB, 1.5g or 1000000. Raises InputError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    size = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 1 <= size < math.inf:
        raise InputError(f"--max-memory {text}: not a size; write it as 512MiB or 2GiB")
    return int(size)


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """The values by name that ``--set NAME=VALUE`` gave. Raises InputError."""
    given = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise InputError(f"--set {text}: write it as NAME=VALUE")
        given[name] = value
    return given


def parse_parameters(texts: Sequence[str] | None, matcher: str | None, preset: Preset) -> dict[str, object]:
    """The values that ``--set`` gave, of the types of a matcher's parameters; None for the preset's matcher.

    Raises InputError.
    """
    if not texts:
        return {}
    assignments = parse_assignments(texts)
    from geomatch.matching.matcher import parse_method_parameters

    return parse_method_parameters(matcher or PRESETS[preset].matcher, assignments)


Features = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=completion.features,
        help="introspection; anchornet, or one class's anchors, as anchornet:cat; joined, both together, or at several "
        "shares of the working size, as joined:1+0.8; hypercolumn with its stages, as hypercolumn:2+3; or sift or hog, "
        "which need the extra baselines; by default those of the weights given, or the preset's.",
    ),
]
MatcherName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=completion.matchers,
        help="nn, mutual, hough or dsp, of cells; pf-nam, pf-phm or pf-lom, of boxes; coherence, cells again, near "
        "where others take them; fusion, the most likely of several; by default the preset's.",
    ),
]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the matcher; repeatable.")
]
PresetChoice = Annotated[Preset, typer.Option(help="How much work a match is worth.")]
WeightsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights (safetensors) instead of the shipped ones.")
]
DeviceChoice = Annotated[Device, typer.Option(help="Where to compute.")]
MaxMemory = Annotated[str, typer.Option(metavar="SIZE", help="Memory the matcher may work in, as 512MiB or 2GiB.")]
CacheFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder to keep features in from one time to the next, in half precision."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
