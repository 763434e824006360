"""The parts of a pair's images that are matched: what `Pipeline.match` takes, and what the record says of it."""

from __future__ import annotations

from dataclasses import dataclass

from geomatch.io.inputs import InputFile

Box = tuple[float, float, float, float]
"""x, y, width and height in pixels; x and y of the first pixel."""


MASK_KEYS = frozenset({"source_mask", "target_mask"})
"""Of match.json."""


@dataclass(frozen=True)
class Masks:
    """A mask of the source and one of the target, each the file of an image or a box; None: the whole image."""

    source: InputFile | Box | None = None
    target: InputFile | Box | None = None

    def record(self) -> dict[str, object]:
        """What match.json says of the masks, by its keys; nothing of whole images."""
        given = {"source_mask": self.source, "target_mask": self.target}
        return {name: _mask_record(mask) for name, mask in given.items() if mask is not None}


def _mask_record(mask: InputFile | Box) -> object:
    return {"path": str(mask.path), "sha256": mask.sha256} if isinstance(mask, InputFile) else list(mask)
