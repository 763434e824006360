"""Targets whose keypoints are certain become references for the other targets, round by round."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geomatch.annotations import AnnotatedImage, Instance, Keypoints, Target, Visibility
from geomatch.batch.match_record import Record
from geomatch.errors import GeomatchError
from geomatch.io.annotations.records import annotation_record
from geomatch.io.atomic import clear_unfinished, is_special, write_atomically
from geomatch.io.images import read_image
from geomatch.io.inputs import read_input
from geomatch.io.json_text import json_text, read_json_object
from geomatch.options import Existing, Mirror
from geomatch.runtime.parallel_map import map_in_order
from geomatch.transfer.references.keypoints import DEFAULT_ACCEPTANCE, Acceptance
from geomatch.transfer.references.transfer import ReferenceTransfer


@dataclass(frozen=True)
class Rounds:
    """How often targets are searched: every round but the last chooses those that are references in the next one.

    origin: what decides the result besides the references, ready for JSON. folder: keeps what each round has found, if
    there is one. existing: whether what is there already is kept.
    """

    count: int
    origin: Mapping[str, Any]
    folder: Path | None = None
    existing: Existing = Existing.refused
    rule: Acceptance = DEFAULT_ACCEPTANCE

    def adopt(
        self, transfer: ReferenceTransfer, targets: Sequence[Target], advance: Callable[[], None]
    ) -> ReferenceTransfer:
        """The transfer of the last round: from the references of ``transfer``, and from targets that were accepted.

        Each round chooses among all targets again. A target that cannot be read is passed over, and of files with the
        same content only one is a reference.

        advance: is called after each target in each round but the last.
        Raises InputError if the folder cannot be written.
        """
        if self.folder is not None:
            clear_unfinished(self.folder)
        last = transfer
        for number in range(1, self.count):
            accepted: dict[str, AnnotatedImage] = {}
            for found in map_in_order(partial(self._search, last, number), targets):
                if found is not None and found[1].instances:
                    accepted.setdefault(*found)
                advance()
            last = transfer.adopting(list(accepted.values()), list(accepted))
        return last

    def _search(self, transfer: ReferenceTransfer, number: int, target: Target) -> tuple[str, AnnotatedImage] | None:
        """The SHA-256 of a target's file, and the objects on it that are accepted; called from several threads at once.

        None if it cannot be read, or not twice, as a pipe: the last round reads it and says what is wrong.
        """
        if is_special(target.image):
            return None
        entry = None if self.folder is None else self.folder / f"{number}-{target.stem}.json"
        references = transfer.references
        try:
            file = read_input(target.image)
            origin = {**self.origin, **references.record(), "accepted": asdict(self.rule)}
            made_of = json.loads(json_text({"image": [str(target.image), file.sha256], "origin": origin}))
            record = _read_entry(entry, made_of) if entry and self.existing is Existing.kept else None
            fresh = record is None
            if record is None:
                image = read_image(file)
                features = transfer.pipeline.extract(image.pixels, Mirror.off)
                certain = transfer.certain(features, file.sha256, self.rule)
                record = annotation_record(AnnotatedImage(str(target.image), image.size, certain))
        except GeomatchError:
            return None
        if entry and fresh:
            write_atomically(entry, json_text({**made_of, "found": record}).encode() + b"\n")
        return file.sha256, _annotated(record, references.annotations.instances)


def _read_entry(file: Path, made_of: Record) -> Record | None:
    """What an earlier run found in the same round of the same image, with the same references and settings."""
    entry = read_json_object(file)
    record = entry.get("found")
    return dict(record) if entry.items() >= made_of.items() and isinstance(record, dict) else None


def _annotated(record: Record, templates: Sequence[Instance]) -> AnnotatedImage:
    """An image of its record, as rounded there, so that a run that resumes goes on with the same numbers."""
    instances = []
    for template in templates:
        assert isinstance(template.shape, Keypoints), "only keypoints are found in rounds"
        own = {item["name"]: item for item in record["items"] if item["object"] == template.number}
        if not own:
            continue
        columns = {"x": 0.0, "y": 0.0, "visibility": Visibility.absent, "confidence": 0.0}
        rows = [[own.get(name, columns)[key] for key in columns] for name in template.shape.names]
        x, y, visibility, confidence = np.array(rows, dtype=np.float64).T
        shape = Keypoints(template.shape.names, np.stack((x, y), axis=1), visibility.astype(np.int64), confidence)
        mean = round(float(confidence[shape.present].mean()), 4)
        instances.append(replace(template, shape=shape, visibility=Visibility(int(visibility.max())), confidence=mean))
    return AnnotatedImage(record["image"], (record["height"], record["width"]), instances)
