"""TSS (Taniai et al., CVPR 2016): 400 pairs with the dense flow of the foreground, in both directions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from geomatch.datasets.base import Benchmark, image_size, stored_image, unpacked
from geomatch.datasets.pairs import AnnotatedPair, Mask, PairErrors
from geomatch.errors import InputError
from geomatch.io.flow import FlowField, read_flow
from geomatch.io.images import load_image

FOLDER = "TSS_CVPR2016"
GROUPS = ("FG3DCar", "JODS", "PASCAL")


def splits(root: Path) -> list[str]:
    return ["test"] if all((unpacked(root, FOLDER) / group).is_dir() for group in GROUPS) else []


def load(root: Path, _split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read ``{FG3DCar,JODS,PASCAL}/<pair>/{image1,image2,mask1,mask2}.png`` and ``flow1.flo``, ``flow2.flo``.

    root: the folder of the three groups, or its parent. ``flowN`` lies on the grid of image N and points into the other
    image. The category is the group. Images are used as stored: ``flip_gt.txt`` is ignored, as in the official
    evaluation (which gives a second mean without the pairs listed there).

    Raises InputError naming what is missing.
    """
    home = unpacked(root, FOLDER)
    folders = {group: sorted(path for path in (home / group).glob("*") if path.is_dir()) for group in GROUPS}
    missing = [home / group for group, found in folders.items() if not found]
    if missing:
        raise TSS.missing(missing)
    directions = [
        (f"{group}/{folder.name}", source, target)
        for group, found in folders.items()
        for folder in found
        for source, target in ((1, 2), (2, 1))
    ]
    return errors.read_all(directions, lambda direction: _read_pair(home, *direction))


TSS = Benchmark(
    name="tss",
    about="dense flow of the foreground of cars and other objects",
    home="https://taniai.space/projects/cvpr16_dccs/",
    archives="TSS_CVPR2016.zip",
    splits=splits,
    reader=load,
    folders=(FOLDER, "TSS"),
    counts={"test": 800},
)


def read_foreground_flow(folder: Path, side: int) -> FlowField:
    """The flow of image ``side`` (1 or 2), valid on the foreground where it is known.

    Raises InputError for damaged files, and for a flow or mask whose size differs from its image's.
    """
    path = folder / f"flow{side}.flo"
    field = read_flow(path)
    mask = _read_mask(folder, side)
    if field.valid.shape != mask.shape:
        raise InputError(f"{path}: {_pixels(field.valid.shape)}, but image{side}.png is {_pixels(mask.shape)}")
    return FlowField(field.flow, field.valid & mask)


def read_masks(folder: Path, source: int, target: int) -> tuple[Mask, Mask]:
    """The foreground masks (H, W) of images ``source`` and ``target`` (1 or 2). Raises InputError."""
    return _read_mask(folder, source), _read_mask(folder, target)


def _read_pair(home: Path, name: str, source: int, target: int) -> AnnotatedPair:
    folder = home / name
    annotation_files = folder / f"flow{source}.flo", folder / f"mask{source}.png", folder / f"mask{target}.png"
    missing = [path for path in annotation_files if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: missing; unpack {TSS.archives} again")
    origin = f"{name}, flow{source}.flo"
    return AnnotatedPair(
        stored_image(home, f"{name}/image{source}.png", origin),
        stored_image(home, f"{name}/image{target}.png", origin),
        category=folder.parent.name,
        origin=origin,
        flow=partial(read_foreground_flow, folder, source),
        masks=partial(read_masks, folder, source, target),
        annotation_files=annotation_files,
    )


def _read_mask(folder: Path, side: int) -> Mask:
    path = folder / f"mask{side}.png"
    mask: Mask = (load_image(path)[0] > 127).numpy()
    size = image_size(folder / f"image{side}.png")
    if mask.shape != size:
        raise InputError(f"{path}: {_pixels(mask.shape)}, but image{side}.png is {_pixels(size)}")
    if not mask.any():
        raise InputError(f"{path}: has no foreground; unpack {TSS.archives} again")
    return mask


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]} pixels"
