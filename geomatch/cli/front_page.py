"""The commands of `geomatch`, and the page that lists them.

`geomatch --help` prints it without loading Typer and Rich, which takes ten times as long as starting Python. The help
of a command is Typer's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SUMMARY = "Dense correspondence between photographs of different objects of a kind."


@dataclass(frozen=True)
class Command:
    """target: the function, or the Typer application of subcommands, as "module:attribute". summary: a sentence."""

    target: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    name: Command(f"geomatch.cli.commands.{target}", summary)
    for name, target, summary in (
        ("match", "match:match", "Find the corresponding position in TARGET for every pixel of SOURCE."),
        ("view", "view:view", "Write a page that shows the match of any position in either picture."),
        (
            "transfer",
            "transfer:transfer",
            "Transfer the keypoints, masks or boxes annotated on REF to other IMAGES, each with its confidence.",
        ),
        (
            "suggest",
            "data.suggest:suggest",
            "List the images to annotate next, those that stand for the most others first.",
        ),
        ("warp", "pictures.warp:warp", "Bring images of the TARGET of a match into the frame of its source."),
        (
            "morph",
            "pictures.morph:morph",
            "Turn SOURCE into TARGET: a picture that moves from one to the other and back.",
        ),
        (
            "average",
            "pictures.average:average",
            "Average IMAGES of one kind of object: each is warped onto one of them, and the surest count most.",
        ),
        ("at", "at:at", "Print where points of SOURCE lie in TARGET, with confidence and validity."),
        (
            "extract",
            "extract:extract",
            "Write each image's features into a file, DIR/NAME.npz, for programs of your own.",
        ),
        ("train", "train:app", "Train weights from photographs."),
        ("eval", "evaluate:evaluate", "Score features and matchers on a benchmark, under one protocol or several."),
        (
            "reproduce",
            "reproduce:reproduce",
            "Compute the tables of a paper, method by class, beside published numbers.",
        ),
        ("crops", "data.crops:crops", "Find the objects of the labels in images, from image labels alone."),
        (
            "convert",
            "train:convert",
            "Write the tensors of a PyTorch file as safetensors, which cannot hold code.",
        ),
        ("datasets", "data.datasets:app", "List the benchmarks; check one's folder."),
        ("show", "show:app", "Draw features of photographs."),
        (
            "doctor",
            "doctor:doctor",
            "Check the installation: versions, devices, weights, optional packages, and a small match.",
        ),
    )
}

OPTIONS: Mapping[str, str] = {
    "--version": "Show the version and exit.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "--help, -h": "Show this message and exit.",
}


def front_page(width: int) -> str:
    """The page, in lines of at most ``width`` characters, or of 60 on a narrower terminal."""
    width = max(60, width)
    commands = {name: command.summary for name, command in COMMANDS.items()}
    return "\n".join(
        [
            "Usage: geomatch [OPTIONS] COMMAND [ARGS]...",
            "",
            *_wrapped(SUMMARY, width),
            "",
            "Options:",
            *_table(OPTIONS, width),
            "",
            "Commands:",
            *_table(commands, width),
            "",
            *_wrapped("geomatch COMMAND --help says what a command reads and writes, and its options.", width),
        ]
    )


def terminal_width() -> int:
    """The width of the terminal that stdout is, by $COLUMNS if it is set; 80 elsewhere."""
    if (columns := os.environ.get("COLUMNS", "")).isdecimal():
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 80


def _table(rows: Mapping[str, str], width: int) -> Iterator[str]:
    """Names in a column, and beside them what they mean."""
    left = 4 + max(map(len, rows))
    for name, text in rows.items():
        first, *others = _wrapped(text, width - left)
        yield f"  {name:<{left - 4}}  {first}"
        yield from (f"{'':{left}}{line}" for line in others)


def _wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most ``width`` characters, if no word is longer; `textwrap` would take longer to load."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
