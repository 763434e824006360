"""Many pairs or images: which they are, and what is told of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from geomatch.cli.console import counting_bar, notify
from geomatch.errors import GeomatchError, InputError

if TYPE_CHECKING:
    from geomatch.batch.match_record import Outputs, Record
    from geomatch.cli.options import PipelineOptions
    from geomatch.runtime.parallel_map import Finished
    from geomatch.runtime.shard import Shard

PathPair = tuple[Path, Path]

LITTLE: Final = 0.1
"""A mean confidence below which images may have nothing in common: of 30 pairs of photographs of different things
(SPair-71k val, preset default; by a script that is not kept) 47 % had less, of 35 pairs of the same kind 11 %."""


def chosen_pairs(
    images: list[Path], *, pairs: Path | None, against: Path | None, all_pairs: Path | None
) -> list[PathPair] | None:
    """The pairs that one of the three options stands for, None without any.

    Raises InputError for what makes no sense.
    """
    check_stdin([*images, *([pairs] if pairs else [])], "write the list into a file, and give it with --pairs")
    given = {"--pairs": pairs, "--against": against, "--all-pairs": all_pairs}
    names = [name for name, value in given.items() if value is not None]
    if not names:
        return None
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)}: each says which pairs there are; give one of them")
    if against is not None:
        targets = listed(images)
        if not targets:
            raise InputError(f"--against {against}: name the images to match it with, or - to read them from stdin")
        return [(against, target) for target in targets]
    if images:
        raise InputError(f"{names[0]} says which images there are; leave out {images[0]}")
    if all_pairs is not None:
        return _pairs_of_folder(all_pairs)
    from geomatch.io.pairs import read_pairs

    assert pairs is not None, "one of the three was given"
    return read_pairs(pairs)


def check_stdin(files: Iterable[Path], instead: str) -> None:
    """Raise InputError, saying what to do instead, if one of the files is stdin and there are several processes."""
    if os.environ.get("WORLD_SIZE", "1") != "1" and Path("-") in files:
        raise InputError(f"several processes cannot read one stdin: {instead}")


def listed(images: Sequence[Path], *, null: bool = False) -> list[Path]:
    """Images as they were named, with the names that stdin holds in the place of a ``-``."""
    from geomatch.io.pairs import STDIN, read_names

    return [each for image in images for each in (read_names(image, null=null) if str(image) == STDIN else [image])]


def _pairs_of_folder(folder: Path) -> list[PathPair]:
    from geomatch.io.images import IMAGE_SUFFIXES

    try:
        names = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"--all-pairs {folder}: cannot be read ({error.strerror})") from error
    images = [path for path in names if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
    if len(images) < 2:
        raise InputError(f"--all-pairs {folder}: holds {len(images) or 'no'} images; a pair takes two")
    return [(source, target) for source in images for target in images if source is not target]


def match_many(
    pairs: Sequence[PathPair],
    options: PipelineOptions,
    outputs: Outputs,
    folder: Path,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Match this process's share of the pairs, and report each as it is finished.

    Raises GeomatchError at the end if any failed.
    """
    from geomatch.batch.match_pairs import assign_folders, match_pairs, prepare_folders
    from geomatch.runtime.device import assign_gpu
    from geomatch.runtime.shard import Shard

    shard = Shard.from_environment()
    mine = shard.part(assign_folders(pairs, folder))
    assign_gpu()
    pipeline = options.build()
    prepare_folders(mine, folder, overwrite=overwrite or resume)
    finished = match_pairs(mine, pipeline, outputs, resume=resume)
    tell_all(finished, Told("matching", "pair", _named, outcome), len(mine), shard, quiet=quiet)


@dataclass(frozen=True)
class Told:
    """What is said of many items. doing: over the bar. item: one of them is called. named, outcome: of a record, which
    item it is, and on a terminal what came out."""

    doing: str
    item: str
    named: Callable[[Record], str]
    outcome: Callable[[Record], str]


def tell_all(finished: Iterable[Finished], told: Told, count: int, share: Shard, *, quiet: bool) -> None:
    """Tell of each of ``count`` items, this process's share, as it is finished, and at the end how many there were.

    Raises GeomatchError at the end if any failed.
    """
    from geomatch.io.json_text import json_text

    began, failed, kept = perf_counter(), 0, 0
    with counting_bar(told.doing, count, quiet=quiet or share.number > 0) as advance:
        for each in finished:
            failed, kept = failed + each.failed, kept + each.reused
            advance()
            if not quiet:
                print(_summary(each, told) if sys.stdout.isatty() else json_text(each.record), flush=True)
    seconds = perf_counter() - began
    share.wait_for_others()
    parts = [f"{count} {told.item}{'s' if count != 1 else ''}"]
    parts += [f"{number} {what}" for number, what in ((kept, "of them kept from before"), (failed, "failed")) if number]
    if kept < count:
        parts += [f"{seconds:.1f} s", f"{(count - kept) / max(seconds, 1e-9):.1f} {told.item}s/s"]
    said = (f"process {share.number} of {share.count}: " if share.count > 1 else "") + ", ".join(parts)
    if failed:
        raise GeomatchError(said)
    if not quiet:
        notify(said)


def _summary(finished: Finished, told: Told) -> str:
    record = finished.record
    return f"{told.named(record)}: {record['error']}" if finished.failed else told.outcome(record)


def _named(record: Record) -> str:
    return f"{record['source']}, {record['target']}"


def outcome(record: Mapping[str, Any]) -> str:
    """What came out of a match, for a terminal."""
    confidence = record["mean_confidence"]
    doubt = " (little: are these things of a kind?)" if confidence < LITTLE else ""
    return (
        f"{record['output']}: {record['valid_share']:.0%} of the pixels matched validly, "
        f"mean confidence {confidence:.2f}{doubt}"
    )
