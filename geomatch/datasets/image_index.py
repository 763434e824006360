"""The list of a large data set's images, kept in a file, so that they are not looked for again."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomatch.datasets.image_folder import find_images
from geomatch.datasets.image_list import Columns, ImageList
from geomatch.io.atomic import write_atomically
from geomatch.runtime.launcher import process_number

KEPT_FROM = 10_000  # images; fewer are listed in no time
_FORMAT = "geomatch-index-1"
_ARRAYS = {"ends": np.int64, "place": np.int32, "offsets": np.int64, "lengths": np.int64}
_OF_LIST = {"rows": np.int32, "labels": np.int32}


def find_images_once(data: Sequence[Path], index: Path) -> ImageList:
    """The same as `find_images`, from ``index`` if it was made of the same data and they have not changed since.

    Else it is written, if there are many images; of several processes by the first. A damaged one is as none.
    """
    kept = _read(index, data)
    if kept is not None:
        return kept
    images = find_images(data)
    if len(images) >= KEPT_FROM and images.sources and process_number()[0] == 0:
        write_atomically(index, _encoded(images, data))
    return images


def _named(data: Sequence[Path]) -> list[list[str]]:
    return [[str(place), str(place.absolute())] for place in data]


def _encoded(images: ImageList, data: Sequence[Path]) -> bytes:
    about = {
        "format": _FORMAT,
        "data": _named(data),
        "places": [str(place) for place in images.columns.places],
        "label_sets": images.label_sets,
        "sources": images.sources,
    }
    arrays: dict[str, Any] = {name: getattr(images.columns, name) for name in _ARRAYS}
    arrays |= {name: getattr(images, name) for name in _OF_LIST}
    for name, text in (("text", images.columns.text), ("about", json.dumps(about).encode())):
        arrays[name] = np.frombuffer(text, np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _read(index: Path, data: Sequence[Path]) -> ImageList | None:
    """The list in a file; None if there is none for these data as they are now."""
    try:
        with np.load(index, allow_pickle=False) as file:
            about = json.loads(bytes(file["about"]))
            if about["format"] != _FORMAT or about["data"] != _named(data) or not _unchanged(about["sources"]):
                return None
            arrays = {name: file[name].astype(kind, casting="safe") for name, kind in (_ARRAYS | _OF_LIST).items()}
            text = file["text"].tobytes()
        columns = Columns(tuple(map(Path, about["places"])), text, **{name: arrays[name] for name in _ARRAYS})
        sets = [tuple(map(str, labels)) for labels in about["label_sets"]]
        return _checked(columns, arrays["rows"], sets, arrays["labels"])
    except Exception:  # numpy raises exceptions of many types for damaged files
        return None


def _unchanged(sources: dict[str, list[int]]) -> bool:
    """Whether files and folders have the times of change and sizes that they had. Raises OSError."""
    states = ((Path(path).stat(), state) for path, state in sources.items())
    return all([now.st_mtime_ns, now.st_size] == state for now, state in states)


def _checked(columns: Columns, rows: NDArray[Any], sets: list[tuple[str, ...]], labels: NDArray[Any]) -> ImageList:
    """The list of these columns. Raises ValueError if a number in them points nowhere."""
    count = len(columns.ends)
    same = {count} == {len(each) for each in (columns.place, columns.offsets, columns.lengths, rows, labels)}
    inside = all(
        each.ndim == 1 and int(each.min()) >= 0 and int(each.max()) < most
        for each, most in (
            (columns.ends, len(columns.text)),
            (columns.place, len(columns.places)),
            (rows, count),
            (labels, len(sets)),
        )
    )
    if not same or not inside:
        raise ValueError("damaged index")
    return ImageList(columns, rows, sets, labels)
