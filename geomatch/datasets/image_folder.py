"""Images with image-level labels, for training: a folder of images, or tar shards beside a table of labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from torch import Tensor

from geomatch.datasets.image_list import BACKGROUND, ImageList, ImageListBuilder, LabelledImage
from geomatch.datasets.pascal_ilsvrc import is_synset, synset_classes
from geomatch.datasets.tar_members import TarMembers, read_members
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.folders import PassedOver, files_like, is_clutter, walk_images
from geomatch.io.images import image_suffixes
from geomatch.io.names import plain_name
from geomatch.io.tables import Layout, kinds_of, read_table

LABEL_TABLE = Layout(
    ("file", "labels"),
    optional=("boxes",),
    aliases={
        **dict.fromkeys(("filename", "file_name", "image", "image_name", "path"), ("file",)),
        **dict.fromkeys(("label", "class", "classes", "category"), ("labels",)),
    },
    bare=lambda values: ("file", "labels") if kinds_of(values) == "ft" else None,
)
"""Of the table beside tar shards."""


@dataclass
class LabelTable:
    """The labels of images by their names; several rows of one image add up.

    used: the rows that an image has had. unlabelled: images without a row. bare: no line names the columns.
    """

    rows: dict[str, tuple[str, ...]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    unlabelled: int = 0
    bare: bool = False

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """An empty table if there is no such file. Raises InputError."""
        table = cls()
        if path.is_file():
            for row in read_table(path, LABEL_TABLE):
                file, labels = row.take("file", "labels")
                before = table.rows.get(plain_name(file), ())
                table.rows[plain_name(file)] = tuple(dict.fromkeys((*before, *labels.split())))
                table.bare = row.bare
        return table

    def labels_of(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """The labels of an image: of its row, or of the only row with the name of its file."""
        if not self.rows:
            return default
        row = name if name in self.rows else self._by_file.get(_file_of(name), "")
        if not row:
            self.unlabelled += 1
            return default
        self.used.add(row)
        return self.rows[row]

    @cached_property
    def _by_file(self) -> dict[str, str]:
        """The row of each file name, upper and lower case and folders aside; "" for those that several rows have."""
        found: dict[str, str] = {}
        for row in self.rows:
            found[_file_of(row)] = "" if _file_of(row) in found else row
        return found

    def warn(self, path: Path, *, whole: bool) -> None:
        """Say in one GeomatchWarning how many images have no row and, if all were asked for, how many rows no image."""
        said = ["its first line names no columns; they are read as file, labels"] if self.bare else []
        unused = len(self.rows) - len(self.used) if whole else 0
        counts = {"images without a row": self.unlabelled, "rows without an image": unused}
        said += [f"{what}: {count}" for what, count in counts.items() if count]
        if said:
            warnings.warn(f"{path}: {'; '.join(said)}", GeomatchWarning, stacklevel=3)


def _file_of(name: str) -> str:
    return name.rpartition("/")[2].casefold()


@dataclass(frozen=True)
class ImageBatch:
    """The images that could be read, their pixels, (3, H, W) uint8 each, and the errors of the others by name."""

    images: list[LabelledImage]
    pixels: list[Tensor]
    damaged: dict[str, InputError]


class ImageReader:
    """Reads images and leaves out damaged ones, up to a share ``tolerated`` of ``total``.

    unreadable: the names of the damaged images so far.
    """

    def __init__(self, total: int, tolerated: float) -> None:
        self.total, self.tolerated = total, tolerated
        self.unreadable: list[str] = []

    def read(self, images: Iterable[LabelledImage], count: int) -> list[Tensor]:
        """The pixels of the first ``count`` readable images. Raises InputError if too many, or all, are damaged."""
        return self.admit(self.attempt(images, count))

    def attempt(self, images: Iterable[LabelledImage], count: int) -> ImageBatch:
        """Read until ``count`` images are read or too many are damaged. Thread-safe: it does not change the reader."""
        batch = ImageBatch([], [], {})
        for image in images:
            if len(batch.pixels) == count or self._too_many(len(batch.damaged)):
                break
            try:
                batch.pixels.append(image.load())
                batch.images.append(image)
            except InputError as error:
                batch.damaged[image.name] = error
        return batch

    def admit(self, batch: ImageBatch) -> list[Tensor]:
        """Record the damaged images and return the pixels. Raises InputError if too many, or all, are damaged."""
        self.record(batch.damaged)
        if not batch.pixels:
            raise InputError(f"none of the photographs of a batch can be read; the last: {self.unreadable[-1]}")
        return batch.pixels

    def record(self, damaged: Mapping[str, InputError]) -> None:
        """Record damaged images, their errors by name. Raises InputError if they are too many."""
        for name, error in damaged.items():
            if name not in self.unreadable:
                self.unreadable.append(name)
            if self._too_many(len(self.unreadable)):
                raise InputError(
                    f"{len(self.unreadable)} of {self.total} photographs cannot be read, more than the "
                    f"{self.tolerated:.1%} that --max-unreadable allows; the last: {error}"
                ) from error

    def _too_many(self, damaged: int) -> bool:
        return damaged > self.tolerated * self.total


def find_images(data: Sequence[Path]) -> ImageList:
    """List the images in folders and in tar files, ordered by name.

    In a folder of images, the label is the name of the sub-folder. A sub-folder named after an ILSVRC synset (such as
    n02690373) gives the VOC class that the synset belongs to, or the background. Links to folders are followed.

    A folder of tar files may have a table ``labels.csv`` (columns ``file`` and ``labels``, space-separated). Without it
    a tar file named after a synset is as a folder of that name. So is any tar file within a tar file: those of
    ILSVRC2012_img_train.tar are read in place.

    Warns, once a place, of what else is there and passed over. Raises InputError if there is no image.
    """
    found = ImageListBuilder()
    for place in data:
        if not place.exists():
            raise InputError(f"{place}: no such folder or tar file")
        if not (place.is_dir() or place.is_file()):
            raise InputError(f"{place}: is neither a folder nor a file; shards are read again and again, and no pipe")
        passed = PassedOver(place)
        if shards := shards_of(place):
            table = label_table(shards[0])
            labels = LabelTable.read(table)
            for shard in shards:
                _list_shard(shard, labels, passed, found)
            labels.warn(table, whole=place.is_dir())
            found.depends_on(table if table.is_file() else table.parent)
            beside = () if place.is_file() else place.iterdir()
            if images := sum(path.suffix.lower() in image_suffixes() and not is_clutter(path.name) for path in beside):
                passed.counts["beside the .tar files"] += images
        else:
            _list_folder(place, passed, found)
        passed.warn()
    if not len(found):
        raise InputError(f"no photographs in {', '.join(map(str, data))}: expected images, or .tar shards of them")
    return found.build()


def shards_of(place: Path) -> list[Path]:
    """The tar shards that are meant by a tar file or by a folder of them; none in a folder of images."""
    return [place] if place.is_file() else files_like(place, "*.tar")


def label_table(shard: Path) -> Path:
    """The path of the table with the labels of a tar shard's images; it need not exist."""
    return shard.parent / "labels.csv"


def _list_shard(shard: Path, labels: LabelTable, passed: PassedOver, found: ImageListBuilder) -> None:
    """The images in a tar file, and in tar files within it."""
    members = read_members(shard)
    group = shard.stem if is_synset(shard.stem) and not labels.rows else ""
    _add_members(shard, members, group, labels, passed, found)
    for name, offset, size in zip(members.names, members.offsets, members.sizes, strict=True):
        if _is_tar(name):
            inner = read_members(shard, offset, size, name)
            _add_members(shard, inner, PurePath(name).stem, LabelTable(), passed, found)
    found.depends_on(shard)


def _add_members(
    shard: Path, members: TarMembers, group: str, labels: LabelTable, passed: PassedOver, found: ImageListBuilder
) -> None:
    """Add the images among members: named and labelled as in a folder ``group`` of images, or labelled by a table."""
    rows = [row for row, name in enumerate(members.names) if not _is_tar(name) and passed.is_image(name)]
    names = [plain_name(members.names[row]) for row in rows]
    own = _label_of(group) if group else ()
    found.add(
        shard,
        [f"{group}/{name}" for name in names] if group else names,
        [labels.labels_of(name, own) for name in names],
        [members.offsets[row] for row in rows],
        [members.sizes[row] for row in rows],
    )


def _is_tar(name: str) -> bool:
    return name.endswith(".tar") and not is_clutter(name)


def _label_of(folder_name: str) -> tuple[str, ...]:
    return (synset_classes().get(folder_name, BACKGROUND) if is_synset(folder_name) else folder_name,)


def _list_folder(folder: Path, passed: PassedOver, found: ImageListBuilder) -> None:
    for below, names in walk_images(folder, passed):
        labels = _label_of(PurePath(below).name) if below else ()
        found.add(folder, [f"{below}/{name}" for name in names] if below else names, [labels] * len(names))
        found.depends_on(folder / below)
