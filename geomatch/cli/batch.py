"""`geomatch match` of many pairs: which they are, and what is told of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from geomatch.cli.console import counting_bar, notify
from geomatch.errors import GeomatchError, InputError

if TYPE_CHECKING:
    from geomatch.batch import Finished
    from geomatch.pipeline import Pipeline
    from geomatch.record import Wanted

PathPair = tuple[Path, Path]

LITTLE: Final = 0.1
"""A mean confidence below which images may have nothing in common: of 30 pairs of photographs of different things
(SPair-71k val, preset default) 47 % have less, of 35 pairs of the same kind 11 %."""


def chosen_pairs(
    images: list[Path], *, pairs: Path | None, against: Path | None, all_pairs: Path | None
) -> list[PathPair] | None:
    """The pairs that one of the three options stands for, None without any.

    Raises InputError for what makes no sense.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1" and Path("-") in (pairs, *images):
        raise InputError(
            "several processes cannot read one stdin: write the list into a file, and give it with --pairs"
        )
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
    build: Callable[[], Pipeline],
    wanted: Wanted,
    folder: Path,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Match this process's share of the pairs, and tell of each as it is finished.

    Raises GeomatchError at the end if any failed.
    """
    from geomatch.batch import lay_out, match_pairs, prepare_folders
    from geomatch.device import take_own_gpu
    from geomatch.record import to_json
    from geomatch.sharing import Share

    share = Share.of_torchrun()
    mine = share.part(lay_out(pairs, folder))
    take_own_gpu()
    pipeline = build()
    prepare_folders(mine, folder, overwrite=overwrite or resume)
    began, failed, kept = perf_counter(), 0, 0
    with counting_bar("matching", len(mine), quiet=quiet or share.number > 0) as advance:
        for finished in match_pairs(mine, pipeline, wanted, resume=resume):
            failed, kept = failed + finished.failed, kept + finished.kept
            advance()
            if not quiet:
                print(_summary(finished) if sys.stdout.isatty() else to_json(finished.record), flush=True)
    seconds = perf_counter() - began
    share.await_others()
    told = [f"{len(mine)} pair{'s' if len(mine) != 1 else ''}"]
    told += [f"{count} {what}" for count, what in ((kept, "of them kept from before"), (failed, "failed")) if count]
    told += [f"{seconds:.1f} s", f"{(len(mine) - kept) / max(seconds, 1e-9):.1f} pairs/s"] if kept < len(mine) else []
    said = (f"process {share.number} of {share.count}: " if share.count > 1 else "") + ", ".join(told)
    if failed:
        raise GeomatchError(said)
    if not quiet:
        notify(said)


def _summary(finished: Finished) -> str:
    record = finished.record
    return f"{record['source']}, {record['target']}: {record['error']}" if finished.failed else outcome(record)


def outcome(record: Mapping[str, Any]) -> str:
    """What came out of a match, for a terminal."""
    confidence = record["mean_confidence"]
    doubt = " (little: are these things of a kind?)" if confidence < LITTLE else ""
    return (
        f"{record['output']}: {record['valid_share']:.0%} of the pixels matched validly, "
        f"mean confidence {confidence:.2f}{doubt}"
    )
