"""How long listing as many photographs as ILSVRC has takes, and how much memory, in each form of its download.

    python benchmarks/speed/listing.py [--images 1281167] [--forms folders,tars,nested] [--place DIR]

The forms: a folder for each of 1,000 synsets, a tar file for each, and those tar files in one. The files are made for
the benchmark and are empty: their names and headers are all that listing reads. Each form is listed in a process of its
own, which then groups the images by label, as training does. "bare" is the same walk without keeping anything: names of
all folders' entries, or a read of every header. Memory is what the process has at its peak beyond what it had before.
Seconds are those of the processor unless ``--clock wall`` is given; disk caches are warm.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import tarfile
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.table import Table
from subprocess_measurement import measure_in_subprocess

from geomatch.datasets.image_folder import find_images
from geomatch.datasets.image_list import by_label
from geomatch.datasets.pascal_ilsvrc import synset_classes

CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}


def synsets() -> list[str]:
    """1,000 names of synsets: the 231 of VOC's classes and others."""
    known = sorted(synset_classes())
    return [*known, *(f"n{90_000_000 + number}" for number in range(1000 - len(known)))]


def names_of_each(images: int) -> dict[str, list[str]]:
    """The names of so many images by synset."""
    each, more = divmod(images, 1000)
    return {
        synset: [f"{synset}_{number}.JPEG" for number in range(10_000, 10_000 + each + (row < more))]
        for row, synset in enumerate(synsets())
    }


def tar_of(names: list[str]) -> bytes:
    """A tar file of empty files."""
    headers = b"".join(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT) for name in names)
    return headers + bytes(1024)


def make(form: str, images: int, folder: Path) -> Path:
    """Make the photographs below a folder, and return what ``--data`` would be."""
    if form == "folders":
        for synset, names in names_of_each(images).items():
            (folder / synset).mkdir()
            for name in names:
                os.close(os.open(folder / synset / name, os.O_CREAT))
        return folder
    if form == "tars":
        for synset, names in names_of_each(images).items():
            (folder / f"{synset}.tar").write_bytes(tar_of(names))
        return folder
    with tarfile.open(folder / "train.tar", "w:") as outer:
        for synset, names in names_of_each(images).items():
            content = tar_of(names)
            member = tarfile.TarInfo(f"{synset}.tar")
            member.size = len(content)
            outer.addfile(member, io.BytesIO(content))
    return folder / "train.tar"


def walk_bare(data: Path) -> None:
    """Read the names of all entries, or every block of tar files, which are headers alone."""
    if data.is_dir() and not list(data.glob("*.tar")):
        for folder in data.iterdir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    entry.is_file()
        return
    for file in [data] if data.is_file() else sorted(data.glob("*.tar")):
        with file.open("rb", buffering=0) as opened:
            for at in range(0, file.stat().st_size, 512):
                os.pread(opened.fileno(), 512, at)


def resident() -> int:
    """Bytes in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(data: Path, clock: str, out: Connection) -> None:
    """In a child process: send seconds of the bare walk, of listing and of grouping, bytes at most, and the count."""
    now = CLOCKS[clock]
    walk_bare(data)  # warms the caches
    began = now()
    walk_bare(data)
    walked = now()
    before = resident()
    images = find_images([data])
    listed = now()
    groups = by_label(images)
    grouped = now()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert len(groups) == 20
    out.send((walked - began, listed - walked, grouped - listed, peak, len(images)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--forms", default="folders,tars,nested", help="separated by commas")
    parser.add_argument("--place", type=Path, help="a folder with room for a file for each image")
    parser.add_argument("--clock", choices=list(CLOCKS), default="processor")
    options = parser.parse_args()
    table = Table(title=f"listing {options.images:,} images, {options.clock} seconds")
    for column in ("form", "list", "group", "bare", "ratio", "MiB"):
        table.add_column(column, justify="left" if column == "form" else "right")
    for form in options.forms.split(","):
        with tempfile.TemporaryDirectory(dir=options.place) as folder:
            data = make(form, options.images, Path(folder))
            bare, listing, grouping, peak, count = measure_in_subprocess(measure, data, options.clock)
        assert count == options.images
        ratio = f"{listing / bare:.1f}"
        table.add_row(form, f"{listing:.1f}", f"{grouping:.1f}", f"{bare:.1f}", ratio, f"{peak / 2**20:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
