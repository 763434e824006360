"""Jobs done by the processes of a Ray cluster, or of this machine where no cluster is named."""

from __future__ import annotations

import os
import pickle
import re
import socket
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from geomatch.errors import GeomatchError, InputError
from geomatch.options import Device
from geomatch.runtime.engines.chunks import Chunk, chunk_work, chunks_of
from geomatch.runtime.engines.engine import Job
from geomatch.runtime.engines.schedule import Lost, Outcome, Schedule
from geomatch.runtime.engines.worker import Answer, Surroundings, Worker
from geomatch.runtime.optional import import_ray
from geomatch.runtime.parallel_map import Finished
from geomatch.runtime.processors import available_processors

SECONDS_TO_CONNECT = 10
MOST_FALSE_STARTS = 3
"""Processes that may be lost while they start, one after the other, besides one of each."""
_SAMPLE = 16
_HTTP2_SETTINGS = b"\4"  # the type of the first frame of either side
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0" + _HTTP2_SETTINGS + b"\0\0\0\0\0"
_RAISED = re.compile(r"\b\w+Error: ")
_LONGEST_REASON = 300
_STORE_BYTES = 1 << 27  # jobs and reports are small; images and results go past it

Item = TypeVar("Item")
Ray = Any


class RayEngine:
    """One process for each GPU of a Ray cluster or, if there is none, for each processor.

    How many there are on a node is up to `ray start --num-cpus N --num-gpus N` there. address: HOST:PORT of the
    cluster's head, ray://HOST:PORT, or auto for a node of the cluster; without one the environment's RAY_ADDRESS
    counts, else this machine is the cluster. device: where the job computes. Raises MissingLibraryError.
    """

    remote = True

    def __init__(self, address: str | None = None, device: Device = Device.auto) -> None:
        import_ray()
        self._address, self._device = address, device

    def run(self, job: Job[Item], items: Sequence[Item]) -> Iterator[Finished]:
        """Raises InputError if the cluster cannot be reached, or a node of it does not see what the job needs."""
        if not items:
            return
        images = [job.images(item) for item in items]
        with _connected(self._address) as ray, _surroundings(job.folder, images) as surroundings:
            count, resources = self._processes(ray)
            work = chunk_work(len(items), count)
            pool = RayPool(ray, items, job, surroundings, min(count, len(items)), resources)
            try:
                yield from Schedule(pool, job, items, chunks_of(images, work)).run()
            finally:
                pool.close()

    def _processes(self, ray: Ray) -> tuple[int, dict[str, int]]:
        """How many processes the cluster has room for, and what each of them takes."""
        there = ray.cluster_resources()
        if self._device in (Device.auto, Device.cuda) and (gpus := int(there.get("GPU", 0))):
            return gpus, {"num_cpus": 1, "num_gpus": 1}
        return max(1, int(there.get("CPU", 1))), {"num_cpus": 1}


class RayPool:
    """Actors of Ray, one chunk each at a time. They leave with the pool."""

    def __init__(
        self,
        ray: Ray,
        items: Sequence[object],
        job: object,
        surroundings: Surroundings,
        count: int,
        resources: dict[str, int],
    ) -> None:
        self._ray, self._items, self._surroundings = ray, items, surroundings
        self._actor_class = ray.remote(_Actor).options(max_restarts=0, **resources)
        self._job = ray.put(pickle.dumps(job))
        self._starting: dict[Any, Any] = {}
        self._free: list[tuple[Any, str]] = []
        self._working: dict[Any, tuple[Any, str, Chunk]] = {}
        self._count, self._false_starts = count, 0
        for _ in range(count):
            self._start()

    @property
    def idle(self) -> bool:
        return bool(self._free)

    @property
    def busy(self) -> bool:
        return bool(self._working)

    def give(self, chunk: Chunk) -> None:
        actor, node = self._free.pop()
        reference = actor.work.remote([self._items[place] for place in chunk.places])
        self._working[reference] = actor, node, chunk

    def wait(self) -> Outcome | None:
        (reference,), _ = self._ray.wait([*self._starting, *self._working], num_returns=1)
        if reference in self._starting:
            return self._started(reference)
        actor, node, chunk = self._working.pop(reference)
        answer = self._answer(reference)
        if isinstance(answer, Lost):
            self._ray.kill(actor)  # where it lives after all
            self._start()
        else:
            self._free.append((actor, node))
        return Outcome(chunk, node, answer)

    def close(self) -> None:
        """End all processes, whatever they do."""
        for actor in [actor for actor, *_ in (*self._free, *self._working.values())] + [*self._starting.values()]:
            self._ray.kill(actor)

    def _start(self) -> None:
        actor = self._actor_class.remote(self._surroundings, self._job)
        self._starting[actor.start.remote()] = actor

    def _started(self, reference: Any) -> Outcome | None:
        actor = self._starting.pop(reference)
        found = self._answer(reference)
        if isinstance(found, Lost):
            self._false_starts += 1
            if self._false_starts > self._count + MOST_FALSE_STARTS:
                raise GeomatchError(f"Ray cannot start a process of geomatch: {found.reason}")
            self._start()
            return None
        node, answer = found
        self._false_starts = 0
        self._free.append((actor, node))
        return Outcome(None, node, answer)

    def _answer(self, reference: Any) -> Any:
        """What an actor has returned, or `Lost`."""
        try:
            return self._ray.get(reference)
        except (self._ray.exceptions.RayError, MemoryError, ImportError) as error:
            return Lost(_reason(self._ray, error))


class _Actor:
    """A worker in a process of Ray."""

    def __init__(self, surroundings: Surroundings, job: bytes) -> None:
        self.node = str(import_ray().util.get_node_ip_address())
        self.worker = Worker(self.node, surroundings, job)

    def start(self) -> tuple[str, Answer]:
        return self.node, self.worker.start()

    def work(self, items: Sequence[object]) -> Answer:
        return self.worker.work(items)


_TOKEN = "; a cluster with a token wants it here, too: in ~/.ray/auth_token, or as RAY_AUTH_TOKEN"


@contextmanager
def _connected(address: str | None) -> Iterator[Ray]:
    """Ray, connected to a cluster. A connection that this process has already is used, and stays.

    Raises InputError if there is no cluster.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or None
    how: dict[str, object] = {"address": address}
    if not address:
        how = {"num_cpus": available_processors(), "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    if address:
        _check_reachable(address)
    try:
        ray.init(**how, log_to_driver=False, logging_level="error")
    except Exception as error:  # of many kinds, down to plain RuntimeErrors
        raise InputError(f"{_called(address)}: {_reason(ray, error)}{_TOKEN if address else ''}") from error
    printing = ray._private.worker
    printing._worker_logs_enabled = False  # Ray would print what it says of lost processes on stdout, among our data
    try:
        yield ray
    finally:
        ray.shutdown()  # first: until then it may still print
        printing._worker_logs_enabled = True


def _check_reachable(address: str) -> None:
    """Raise InputError unless HOST:PORT answers as servers of Ray do; Ray itself would try for many minutes."""
    host, sign, port = address.removeprefix("ray://").rpartition(":")
    if not sign:
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT) as connection:
            connection.sendall(_HTTP2_PREFACE)
            if connection.recv(4)[3:] != _HTTP2_SETTINGS and "RAY_USE_TLS" not in os.environ:
                raise ConnectionError("what answers is not Ray")
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"{_called(address)}: no Ray cluster can be reached there ({error}); start its head with "
            "`ray start --head`, or leave out --address to use this machine"
        ) from error


def _called(address: str | None) -> str:
    return f"--address {address}" if address else "--engine ray"


@contextmanager
def _surroundings(folder: Path | None, images: Sequence[Sequence[Hashable]]) -> Iterator[Surroundings]:
    """What every node must see: the working folder, an image, and a file that is made beside the results meanwhile."""
    here = Path.cwd()
    some = (image for needed in images[:_SAMPLE] for image in needed)
    files = [here / image for image in some if isinstance(image, Path) and image.is_file()][:1]
    if folder is None:
        yield Surroundings(here, files)
        return
    place = here / folder
    while not place.is_dir():
        place = place.parent
    with tempfile.NamedTemporaryFile(prefix=".geomatch-seen-", dir=place) as probe:
        yield Surroundings(here, [*files, Path(probe.name)])


def _reason(ray: Ray, error: BaseException) -> str:
    """What happened, in a line; the errors of Ray have many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ray.exceptions.OutOfMemoryError) or "low on memory" in str(error):
        return "the node ran out of memory"
    if telling := [line for line in lines if _RAISED.search(line)]:
        return telling[-1][:_LONGEST_REASON]
    if isinstance(error, ray.exceptions.RayActorError):
        return "killed, crashed, or out of memory"
    return (lines or [type(error).__name__])[0][:_LONGEST_REASON]
