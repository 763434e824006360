"""What matching two images gives: a correspondence that knows its images, and the files that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from geomatch.arguments import Image, choice_of, path_of, pixels_of
from geomatch.correspondence import Correspondence, RegionMatches
from geomatch.errors import InputError
from geomatch.io.atomic import check_new_folder, write_folder_atomically
from geomatch.io.flow import ENCODERS, FILE_NAMES, FlowField
from geomatch.io.formats.png import QUICK, encode_png
from geomatch.io.json_text import json_text
from geomatch.options import DEFAULT_PICTURES, Beyond, Flow, FlowFormat, Picture
from geomatch.visualize.colours import flow_picture
from geomatch.visualize.match_pictures.carried import draw_lines, draw_positions
from geomatch.visualize.match_pictures.overview import draw_overview, photograph_panel

PICTURES = tuple(f"{name}.png" for name in Picture)
USUAL_PICTURES = frozenset(f"{name}.png" for name in DEFAULT_PICTURES)
REGIONS = "regions.json"
FEATHERING = 0.012
"""Of pictures of a warp; see `Correspondence.warp`."""


@dataclass(frozen=True, eq=False, repr=False)
class Match(Correspondence):
    """A correspondence with the images it was found between, (3, H, W) uint8, where they are known.

    An image that was given to `Pipeline.match` as a `FeatureMap` is not; methods that need it then take it.
    """

    source: Tensor | None = field(default=None, repr=False, compare=False)
    target: Tensor | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, found: Correspondence, source: Tensor | None, target: Tensor | None) -> Match:
        """A correspondence with its images."""
        return cls(
            **{each.name: getattr(found, each.name) for each in fields(Correspondence)}, source=source, target=target
        )

    def inverse(self) -> Match:
        return Match.of(super().inverse(), self.target, self.source)

    def smooth(self, source: Image | None = None, beyond: Beyond | str = Beyond.match) -> Match:
        """The match with a smooth flow; see `Correspondence.smooth`. source: the image, if it is not known."""
        given = source if source is not None or self.source is None else self.source
        pixels = None if given is None else self._image("source", given)
        smooth = super().smooth(pixels, choice_of(Beyond, "beyond", beyond))
        return Match.of(smooth, self.source, self.target)

    def warp(self, image: Image | None = None, feathering: float = 0.0) -> Tensor:
        """The target, or another image (see `Image`) of its size, in the frame of the source.

        ``found.smooth(beyond="plate").warp(feathering=0.012)`` is the picture that ``geomatch match`` writes.

        Args:
            image: by default the target.
            feathering: width of the valid region's edge, in which opacity rises, as a share of the source's longer
                side; 0: the edge is hard.

        Returns:
            (4, H, W) uint8 RGBA on the CPU. Colours are read bilinearly; pixels without a valid match are transparent.

        Raises:
            InputError: for an image of another size; if the target is not known and no image is given.
        """
        return super().warp(self._image("target", image), feathering)

    def overview(self, source: Image | None = None, target: Image | None = None) -> Pillow.Image:
        """Source, target, smooth warp, confidence and flow side by side, as a Pillow image.

        Args:
            source, target: the images, if they are not known.

        Raises:
            InputError: for an image of another size, or one that is needed and not given.
        """
        images = self._image("source", source), self._image("target", target)
        smooth = Correspondence.smooth(self, images[0], Beyond.plate)
        panels = photograph_panel(images[0]), photograph_panel(images[1])
        return draw_overview(panels, smooth.warp(images[1], FEATHERING), self, smooth.valid.cpu().numpy())

    def save(
        self,
        folder: str | PathLike[str],
        *,
        source: Image | None = None,
        target: Image | None = None,
        formats: Sequence[str] = (FlowFormat.flo,),
        flow: str = Flow.raw,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write what ``geomatch match`` writes, but the record: all files or none.

        Args:
            folder: must not exist, or be empty, without ``overwrite``.
            source, target: the images, if they are not known. Without the target there is no warped.png, without both
                no overview.png.
            formats: of the flow: "flo", "npy", "npz", "kitti", "pfm", "tiff".
            flow: "raw", that of the matches, or "smooth", fitted to them.

        Returns:
            The paths of the files.

        Raises:
            GeomatchError: for an unknown format, or a folder that cannot be written.
        """
        path = path_of("folder", folder)
        if isinstance(formats, str):
            formats = (formats,)
        names = [choice_of(FlowFormat, "format", each).value for each in formats]
        images = [
            self._image(role, given) if given is not None or known is not None else None
            for role, given, known in (("source", source, self.source), ("target", target, self.target))
        ]
        check_new_folder(path, overwrite=overwrite)
        written = self if choice_of(Flow, "flow", flow) is Flow.raw else Correspondence.smooth(self, images[0])
        files = flow_files(written, names) | picture_files(images[0], images[1], self)
        write_folder_atomically(path, files)
        return [path / name for name in sorted(files)]

    def _image(self, role: str, given: Image | None) -> Tensor:
        """The pixels of the source or the target. Raises InputError."""
        known: Tensor | None = getattr(self, role)
        if given is None and known is None:
            raise InputError(f"the {role} of this match is not known, as its features were given: give the image, too")
        pixels = known if given is None else pixels_of(given)
        assert pixels is not None, "one of them is known"
        height, width = getattr(self, f"{role}_size")
        if pixels.shape[1:] != (height, width):
            raise InputError(
                f"the image is {pixels.shape[2]}x{pixels.shape[1]} pixels, the {role} of this match {width}x{height}"
            )
        return pixels


def flow_files(correspondence: Correspondence, formats: Sequence[str]) -> dict[str, bytes]:
    """The flow in each of ``formats``, and the regions, if there are any, by the names of their files."""
    flow = FlowField.of(correspondence)
    files = {FILE_NAMES[name]: ENCODERS[name](flow) for name in formats}
    if correspondence.regions is not None:
        files[REGIONS] = json_text(region_record(correspondence.regions)).encode() + b"\n"
    return files


def picture_files(
    source: Tensor | None,
    target: Tensor | None,
    correspondence: Correspondence,
    names: Set[str] = USUAL_PICTURES,
    level: int = QUICK,
    panels: tuple[Pillow.Image, Pillow.Image] | None = None,
) -> dict[str, bytes]:
    """Pictures of a match by the names of their files; those only that the images at hand are enough for.

    source, target: (3, H, W) uint8. names: of the files that are wanted. level: of compression, 0 to 9 (`encode_png`).
    panels: `photograph_panel` of source and target, if they are at hand.
    """
    pictures: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = {}
    if "confidence.png" in names:
        scaled = correspondence.confidence.cpu().numpy() * 65535
        pictures["confidence.png"] = np.round(scaled).astype(np.uint16)
    if "flow-colours.png" in names:
        pictures["flow-colours.png"] = np.asarray(flow_picture(correspondence.flow.cpu().numpy()))
    if target is not None and names - {"confidence.png", "flow-colours.png"}:
        smooth = Correspondence.smooth(correspondence, source, Beyond.plate)
        warped = Correspondence.warp(smooth, target, FEATHERING)
        if "warped.png" in names:
            pictures["warped.png"] = warped.permute(1, 2, 0).contiguous().numpy()
        if source is not None and "overview.png" in names:
            panels = panels or (photograph_panel(source), photograph_panel(target))
            overview = draw_overview(panels, warped, correspondence, smooth.valid.cpu().numpy())
            pictures["overview.png"] = np.asarray(overview)
        if source is not None and "lines.png" in names:
            pictures["lines.png"] = np.asarray(draw_lines(source, target, smooth))
        if source is not None and "positions.png" in names:
            pictures["positions.png"] = np.asarray(draw_positions(source, target, smooth))
    return {name: encode_png(pictures[name], level) for name in PICTURES if name in pictures}


def region_record(regions: RegionMatches) -> list[Mapping[str, Any]]:
    """The boxes that have a match, best first: source and target as left, top, right, bottom in pixels, and score."""
    found = regions.found()
    boxes = [[[round(side, 2) for side in box] for box in each.tolist()] for each in (found.source, found.target)]
    return [
        {"source": source, "target": target, "score": float(f"{score:.6g}")}
        for source, target, score in zip(*boxes, found.score.tolist(), strict=True)
    ]
