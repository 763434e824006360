"""Who does the work on a list: this process, or the processes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, TypeVar

from geomatch.errors import InputError
from geomatch.options import Device, EngineName
from geomatch.runtime.parallel_map import Finished

Item = TypeVar("Item")
ItemOf = TypeVar("ItemOf", contravariant=True)
Value = TypeVar("Value")


class Job(Protocol[ItemOf]):
    """Work on the items of a list, in parts of any size and order; each result depends on its item alone.

    A job can be pickled. What is made once a process, such as a pipeline, it holds in a `Once`.

    folder: on a disk, where results are written, if anywhere.
    """

    @property
    def folder(self) -> Path | None: ...

    def start(self) -> None:
        """Make now what is made once a process; otherwise it is made when it is needed. Raises GeomatchError."""

    def __call__(self, items: Sequence[ItemOf], /) -> Iterable[Finished]:
        """Do the work, and report each item in the order of the list. An item that fails does not stop the others.

        Raises GeomatchError for what concerns all items, such as weights that cannot be read.
        """

    def images(self, item: ItemOf, /) -> Sequence[Hashable]:
        """The images that an item needs, which it may share with others: their files, or names."""

    def failure(self, item: ItemOf, /, message: str) -> Finished:
        """The report on an item that could not be finished, for whatever reason outside of the job."""


class Engine(Protocol):
    """Has jobs done. remote: by other processes."""

    @property
    def remote(self) -> bool: ...

    def run(self, job: Job[Item], items: Sequence[Item]) -> Iterator[Finished]:
        """Report each item in the order of the list, as it and those before it are finished. Raises GeomatchError."""


class LocalEngine:
    """This process does the work."""

    remote = False

    def run(self, job: Job[Item], items: Sequence[Item]) -> Iterator[Finished]:
        yield from job(items)


class Once(Generic[Value]):
    """A value that is made when it is first asked for, and made again in each process that gets a copy."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._made: list[Value] = []
        self._lock = Lock()

    def __call__(self) -> Value:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def __reduce__(self) -> tuple[type[Once[Value]], tuple[Callable[[], Value]]]:
        return type(self), (self._make,)


def open_engine(name: EngineName, address: str | None = None, device: Device = Device.auto) -> Engine:
    """The engine of a name. address: of a cluster. device: where the work computes.

    Raises InputError for an address without a cluster, and MissingLibraryError.
    """
    if name is EngineName.ray:
        from geomatch.runtime.engines.ray_engine import RayEngine

        return RayEngine(address, device)
    if address is not None:
        raise InputError(f"--address {address}: is of a Ray cluster; give --engine ray, too")
    return LocalEngine()
