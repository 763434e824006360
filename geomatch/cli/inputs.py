"""Which pairs or images a command line names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geomatch.errors import InputError

if TYPE_CHECKING:
    from geomatch.batch.masks import Box
    from geomatch.io.inputs import InputFile

PathPair = tuple[Path, Path]
_NUMBER = r"-?\d+(?:\.\d+)?"
_BOX = re.compile(rf"({_NUMBER}),({_NUMBER}),({_NUMBER}),({_NUMBER})")


def read_mask_option(text: str | None) -> InputFile | Box | None:
    """The value of ``--source-mask`` or ``--target-mask``: a box X,Y,W,H, or the file of a mask, read.

    Raises InputError for a file that cannot be read, or a box without area.
    """
    if text is None:
        return None
    if box := _BOX.fullmatch(text):
        x, y, width, height = (float(each) for each in box.groups())
        if min(width, height) <= 0:
            raise InputError(f"mask {text}: a box X,Y,W,H needs a width and a height above 0")
        return x, y, width, height
    from geomatch.io.inputs import read_input

    return read_input(Path(text))


def choose_pairs(
    images: list[Path],
    *,
    pairs: Path | None,
    against: Path | None,
    all_pairs: Path | None,
    null: bool = False,
) -> list[PathPair] | None:
    """The pairs that one of the three options names, or None. Raises InputError if they conflict, or name no pair."""
    given = {"--pairs": pairs, "--against": against, "--all-pairs": all_pairs}
    names = [name for name, value in given.items() if value is not None]
    if not names:
        return None
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)}: each names the pairs; give one of them")
    if against is not None:
        targets = expand_names(images, null=null)
        if not targets:
            raise InputError(f"--against {against}: name the images to match it with, or - to read them from stdin")
        return [(against, target) for target in targets]
    if images:
        raise InputError(f"{names[0]} names the images; leave out {images[0]}")
    if all_pairs is not None:
        together = images_to_pair(all_pairs)
        return [(source, target) for source in together for target in together if source is not target]
    from geomatch.io.pairs import read_pairs

    assert pairs is not None, "one of the three was given"
    return read_pairs(pairs)


def expand_names(images: Sequence[Path], *, null: bool = False) -> list[Path]:
    """The images named, with ``-`` replaced by the names on stdin, a folder by the images in it, a film by its frames.

    Raises InputError, before any work, for a folder that cannot be read or holds no images, and for such a film.
    """
    from geomatch.io.formats.films import frame_names, is_film
    from geomatch.io.inputs import STDIN
    from geomatch.io.pairs import read_names

    names: list[Path] = []
    for image in images:
        if image == STDIN:
            names += read_names(image, null=null)
        elif image.is_dir():
            found = _images_of_folder(image, str(image))
            if not found:
                raise InputError(f"{image}: holds no images")
            names += found
        elif is_film(image):
            names += frame_names(image)
        else:
            names.append(image)
    return names


def folders_of(images: Sequence[Path]) -> list[Path]:
    """The folders that images named on the command line lie in, each once; a folder is its own."""
    from geomatch.io.inputs import STDIN

    return list(dict.fromkeys(image if image.is_dir() else image.parent for image in images if image != STDIN))


def _images_of_folder(folder: Path, called: str) -> list[Path]:
    from geomatch.io.folders import images_in

    try:
        return images_in(folder)
    except OSError as error:
        raise InputError(f"{called}: cannot be read ({error.strerror})") from error


def images_to_pair(folder: Path) -> list[Path]:
    """The images of the folder ``--all-pairs``. Raises InputError unless there are two or more."""
    images = _images_of_folder(folder, f"--all-pairs {folder}")
    if len(images) < 2:
        raise InputError(f"--all-pairs {folder}: holds {len(images) or 'no'} images; a pair takes two")
    return images
