"""What `geomatch match` writes: the files of a match, and a record of inputs, settings and outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomatch import __version__
from geomatch.batch.masks import MASK_KEYS, Masks
from geomatch.correspondence import Correspondence
from geomatch.errors import InputError
from geomatch.features.weights import sha256_of
from geomatch.io.atomic import write_folder_atomically
from geomatch.io.flow import FILE_NAMES
from geomatch.io.formats.png import QUICK
from geomatch.io.json_text import json_text, parse_json, read_json_object
from geomatch.io.remote.objects import read_object, shown, url_of
from geomatch.options import Flow
from geomatch.pipeline import Pipeline
from geomatch.result import PICTURES, REGIONS, USUAL_PICTURES

RECORD_FILE = "match.json"

Record = dict[str, Any]

HashedFile = tuple[Path, str]
"""The path of an image, and the SHA-256 of its file."""


@dataclass(frozen=True)
class Outputs:
    """What is written besides the record: the flow of the matches, or a smooth one, in ``formats``, and the files
    ``pictures``, compressed at ``png_level`` (`encode_png`)."""

    formats: Sequence[str]
    pictures: Set[str] = USUAL_PICTURES
    png_level: int = QUICK
    flow: Flow = Flow.raw

    @property
    def show_images(self) -> bool:
        """Whether more is written than what was matched, which takes the images' pixels and mostly a smooth flow."""
        return bool(self.pictures) or self.flow is Flow.smooth

    def record(self) -> Record:
        """What the record says of them, besides the files: nothing of the flow of the matches."""
        return {} if self.flow is Flow.raw else {"flow": self.flow}

    def names(self) -> set[str]:
        """The files that every match has."""
        return {FILE_NAMES[name] for name in self.formats} | self.pictures


def match_outcome(source: HashedFile, target: HashedFile, pipeline: Pipeline, correspondence: Correspondence) -> Record:
    """Inputs, settings and outcome of a match, ready for JSON."""
    return {
        "source": _input_record(source, correspondence.source_size),
        "target": _input_record(target, correspondence.target_size),
        **settings_record(pipeline),
        "valid_share": round(correspondence.valid_share, 4),
        "mean_confidence": round(correspondence.mean_confidence, 4),
        **mirror_record(correspondence),
    }


def mirror_record(correspondence: Correspondence) -> Record:
    """Whether the source was flipped, and the probability that this is better; empty if flipping was ruled out."""
    choice = correspondence.mirror
    if choice is None:
        return {}
    probability = None if choice.probability is None else round(choice.probability, 4)
    return {"mirrored": choice.mirrored, "mirror_probability": probability}


def match_record(
    source: HashedFile,
    target: HashedFile,
    pipeline: Pipeline,
    correspondence: Correspondence,
    folder: Path,
    files: Mapping[str, bytes],
) -> Record:
    """The outcome of a match, and where it is. files: what is written into ``folder``, by name."""
    return {
        **match_outcome(source, target, pipeline, correspondence),
        "output": shown(folder),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    }


def complete_record(
    folder: Path,
    source: HashedFile,
    target: HashedFile,
    pipeline: Pipeline,
    outputs: Outputs,
    masks: Masks | None = None,
) -> Record | None:
    """The record in ``folder`` if it is of the same images, masks, settings and version, and its files those wanted."""
    record = _read_record(folder)
    expected = json.loads(json_text({**settings_record(pipeline), "output": shown(folder)}))  # tuples become lists
    same = (
        record.items() >= expected.items()
        and _is_input(record.get("source"), source)
        and _is_input(record.get("target"), target)
        and record.get("flow", Flow.raw) == outputs.flow
        and {name: record[name] for name in MASK_KEYS & record.keys()} == (masks or Masks()).record()
        and (unharmed := _unharmed_files(folder, record)) - {REGIONS} == outputs.names()
        and unharmed == set(record["files"])
    )
    return record if same else None


def settings_record(pipeline: Pipeline) -> Record:
    """Everything that decides what a pipeline finds, ready for JSON."""
    return {
        "features": pipeline.extractor.name,
        "weights_sha256": pipeline.extractor.weights_sha256,
        "matcher": pipeline.matcher_name,
        "settings": pipeline.settings(),
        "preset": pipeline.preset,
        "version": __version__,
    }


def write_match(folder: Path, record: Record, files: Mapping[str, bytes]) -> None:
    """Write a match's files and its record into ``folder``, all or none. Raises InputError if it cannot be written.

    Unchanged files of an earlier match that this one does not write are deleted; all others stay.
    """
    content = {**files, RECORD_FILE: json_text(record, indent=2).encode() + b"\n"}
    before = _unharmed_files(folder, _read_record(folder))
    write_folder_atomically(folder, content, instead_of=before - content.keys())


def _read_record(folder: Path) -> Record:
    """The record in a folder; empty if there is none, or a damaged one."""
    if not url_of(folder):
        return read_json_object(folder / RECORD_FILE)
    content = read_object(folder / RECORD_FILE)
    with suppress(InputError):
        record = parse_json((content or b"").decode(errors="replace"), RECORD_FILE)
        return record if isinstance(record, dict) else {}
    return {}


_NAMES = (*FILE_NAMES.values(), *PICTURES, REGIONS)


def _unharmed_files(folder: Path, record: Record) -> set[str]:
    """The files of a match that a record lists and that are still in ``folder`` as they were written."""
    listed = record.get("files")
    if not isinstance(listed, dict):
        return set()
    if url_of(folder):
        contents = {name: read_object(folder / name) for name in listed if name in _NAMES}
        return {name for name, found in contents.items() if found and hashlib.sha256(found).hexdigest() == listed[name]}
    names = [name for name in _NAMES if (folder / name).is_file()]
    with suppress(OSError):
        return {name for name in names if sha256_of(folder / name) == listed.get(name)}
    return set()


def _is_input(entry: object, image: HashedFile) -> bool:
    path, sha256 = image
    return isinstance(entry, dict) and (entry.get("path"), entry.get("sha256")) == (str(path), sha256)


def _input_record(image: HashedFile, size: tuple[int, int]) -> Record:
    path, sha256 = image
    return {"path": str(path), "sha256": sha256, "width": size[1], "height": size[0]}
