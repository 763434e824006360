"""Lists done by a pool of processes: chunks that share images, lost processes, exhausted memory, order."""

from __future__ import annotations

import os
import pickle
import random
import signal
import socket
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, permutations
from pathlib import Path
from types import SimpleNamespace

import pytest

from geomatch.errors import GeomatchWarning, InputError, MissingLibraryError, OutOfMemoryError
from geomatch.options import EngineName
from geomatch.runtime import optional
from geomatch.runtime.engines.chunks import Chunk, chunk_work, chunks_of
from geomatch.runtime.engines.engine import LocalEngine, Once, open_engine
from geomatch.runtime.engines.ray_engine import RayEngine, _check_reachable, _reason
from geomatch.runtime.engines.schedule import Lost, Outcome, Schedule
from geomatch.runtime.engines.worker import Answer, Surroundings, Worker, _answer
from geomatch.runtime.parallel_map import Finished

ALL_PAIRS = list(permutations(range(30), 2))


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers; 13 fails, 7 has no memory beside others, and an even first one gives a note."""

    build: Callable[[], int] = field(default_factory=lambda: Once(int))
    folder: Path | None = None

    def start(self) -> None:
        self.build()

    def __call__(self, items: Sequence[int]) -> Iterator[Finished]:
        for item in items:
            if item == 13:
                yield Finished({"item": item, "error": "unlucky"}, error=ValueError("unlucky"))
            elif item == 7 and len(items) > 1:
                yield Finished({"item": item, "error": "full"}, error=OutOfMemoryError("full"))
            else:
                yield Finished({"item": item, "double": 2 * item})

    def images(self, item: int) -> tuple[Path]:
        return (Path(f"{item}.jpg"),)

    def failure(self, item: int, message: str) -> Finished:
        return Finished({"item": item, "error": message})


def warn(text: str) -> int:
    warnings.warn(text, GeomatchWarning, stacklevel=1)
    return 0


class FakePool:
    """Processes of which some are lost, as ``fate`` decides of each chunk; outcomes come in a random order."""

    def __init__(self, items: Sequence[int], processes: int, fate: Callable[[Chunk], bool], seed: int = 0) -> None:
        self.items, self.processes, self.fate = items, processes, fate
        self.worker = Worker("10.0.0.7", Surroundings(Path.cwd(), []), pickle.dumps(Doubling()))
        assert self.worker.start() == Answer()
        self.dice, self.working, self.given = random.Random(seed), list[Chunk](), list[Chunk]()

    @property
    def idle(self) -> bool:
        return len(self.working) < self.processes

    def give(self, chunk: Chunk) -> None:
        self.working.append(chunk)
        self.given.append(chunk)

    def wait(self) -> Outcome | None:
        if self.dice.random() < 0.2:
            return None
        chunk = self.working.pop(self.dice.randrange(len(self.working)))
        if self.fate(chunk):
            return Outcome(chunk, "10.0.0.7", Lost("killed"))
        return Outcome(chunk, "10.0.0.7", self.worker.work([self.items[place] for place in chunk.places]))


def run(pool: FakePool, chunks: Iterator[Chunk] | None = None) -> list[dict[str, object]]:
    images = [Doubling().images(item) for item in pool.items]
    schedule = Schedule(pool, Doubling(), pool.items, chunks or chunks_of(images, 16))
    return [finished.record for finished in schedule.run()]


def done_here(items: Sequence[int]) -> list[dict[str, object]]:
    return [finished.record for finished in LocalEngine().run(Doubling(), items)]


@pytest.mark.parametrize("window", [50, 4096])
def test_chunks_have_each_item_once(window: int) -> None:
    chunks = list(chunks_of(ALL_PAIRS, 48, window))
    assert sorted(chain.from_iterable(chunk.places for chunk in chunks)) == list(range(len(ALL_PAIRS)))
    assert all(max(chunk.places) - min(chunk.places) < window for chunk in chunks)


def test_chunks_share_images_and_are_of_one_size() -> None:
    """In the order of the list, 42 pairs need 32 images or more; chunks of pairs among few images need about 7."""
    needed = [{image for place in chunk.places for image in ALL_PAIRS[place]} for chunk in chunks_of(ALL_PAIRS, 48)]
    assert sum(map(len, needed)) < len(ALL_PAIRS) / 2
    work = [len(chunk.places) + len(images) for chunk, images in zip(chunks_of(ALL_PAIRS, 48), needed, strict=True)]
    assert max(work) <= 48
    assert Counter(each > 40 for each in work)[True] > 0.8 * len(work)


def test_chunks_of_a_shared_source_follow_the_list() -> None:
    pairs = [("ref", number) for number in range(10)]
    assert [list(chunk.places) for chunk in chunks_of(pairs, 9)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_chunk_work_leaves_chunks_for_all_processes() -> None:
    assert chunk_work(10**6, 8) == 48
    assert chunk_work(64, 8) == 3
    assert chunk_work(1, 100) == 1


def test_schedule_reports_in_order_what_one_process_does() -> None:
    items = list(range(10, 110))
    assert run(FakePool(items, 5, lambda _: False)) == done_here(items)


@pytest.mark.parametrize("seed", range(20))
def test_schedule_loses_nothing_with_processes_that_die(seed: int) -> None:
    items, dice = list(range(100, 200)), random.Random(seed)
    pool = FakePool(items, 4, lambda chunk: len(chunk.places) > 1 and dice.random() < 0.4, seed)
    with pytest.warns(GeomatchWarning, match=r"node 10.0.0.7: lost a process \(killed\); its .* done again"):
        assert run(pool) == done_here(items)


def test_schedule_fails_the_one_item_that_kills_processes() -> None:
    items = list(range(100, 140))
    pool = FakePool(items, 3, lambda chunk: 23 in chunk.places)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        records = run(pool)
    lost = "node 10.0.0.7: lost a process (killed); its"
    said = [str(each.message).removeprefix(lost) for each in noted]
    assert said[-3:] == [" 2 unfinished items are done again in halves", *[" 1 unfinished item is done again"] * 2]
    message = "3 processes were lost over it, the last: node 10.0.0.7: lost a process (killed)"
    assert records[23] == {"item": 123, "error": message}
    assert [*records[:23], *records[24:]] == done_here([item for item in items if item != 123])


def test_schedule_halves_chunks_without_memory_and_says_so() -> None:
    items = list(range(8))
    pool = FakePool(items, 2, lambda _: False)
    with pytest.warns(GeomatchWarning, match="node 10.0.0.7: out of memory; its 1 unfinished item is done again"):
        records = run(pool, iter([Chunk(range(8))]))
    assert records[7] == {"item": 7, "double": 14}


def test_schedule_raises_what_concerns_all_items() -> None:
    def broken() -> list[Finished]:
        raise InputError("weights.pth: damaged")

    class BrokenPool(FakePool):
        def wait(self) -> Outcome:
            return Outcome(None, "10.0.0.7", _answer(broken))

    with pytest.raises(InputError, match=r"weights\.pth: damaged"):
        run(BrokenPool([1, 2], 1, lambda _: False))


def test_worker_passes_warnings_on_and_drops_exceptions() -> None:
    worker = Worker("a", Surroundings(Path.cwd(), []), pickle.dumps(Doubling(Once(partial(warn, "slow here")))))
    assert worker.start() == Answer(notes=("slow here",))
    assert worker.work([13]) == Answer([Finished({"item": 13, "error": "unlucky"})])


def test_worker_says_what_its_node_does_not_see(tmp_path: Path) -> None:
    def refusal(surroundings: Surroundings) -> str:
        return str(Worker("10.0.0.7", surroundings, b"").start().error)

    gone, image = tmp_path / "gone", tmp_path / "a.jpg"
    assert refusal(Surroundings(gone, [])).startswith(f"node 10.0.0.7: does not see the working folder {gone} (No such")
    assert refusal(Surroundings(Path.cwd(), [image])).startswith(f"node 10.0.0.7: does not see {image}, which is here")
    assert refusal(Surroundings(Path.cwd(), [], "0.0")).startswith("node 10.0.0.7: has geomatch")


def test_once_makes_a_value_again_where_it_is_unpickled() -> None:
    once = Once(dict)
    assert once() is once()
    assert pickle.loads(pickle.dumps(once))() is not once()


def test_open_engine_refuses_an_address_of_nothing() -> None:
    with pytest.raises(InputError, match="--address auto: is of a Ray cluster; give --engine ray, too"):
        open_engine(EngineName.local, "auto")


def test_ray_engine_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingLibraryError, match=r"--engine ray needs Ray: pip install 'geomatch\[ray\]'"):
        list(RayEngine().run(Doubling(), [1]))


@pytest.mark.parametrize(
    ("kept", "given", "mode"), [(True, None, "token"), (True, "disabled", "disabled"), (False, None, None)]
)
def test_import_ray_shows_the_token_that_is_at_hand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: bool, given: str | None, mode: str | None
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    if kept:
        (tmp_path / "token").write_text("secret")
    if given:
        monkeypatch.setenv("RAY_AUTH_MODE", given)
    seen = []
    monkeypatch.setattr(optional, "import_module", lambda name: seen.append((name, os.environ.get("RAY_AUTH_MODE"))))
    optional.import_ray()
    assert seen == [("ray", mode)]


class DiedError(Exception):
    """As Ray's error of an actor that has ended."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The actor died.\n\tpid: 7\nSYSTEM_ERROR: connection error code 2", "killed, crashed, or out of memory"),
        ("The actor died.\nTask was killed due to the node running low on memory.", "the node ran out of memory"),
        ("Traceback:\n  import geomatch\nModuleNotFoundError: No module named 'geomatch'\nBye", "ModuleNotFound"),
    ],
)
def test_reason_of_a_loss_is_one_short_line(text: str, said: str) -> None:
    ray = SimpleNamespace(exceptions=SimpleNamespace(OutOfMemoryError=MemoryError, RayActorError=DiedError))
    assert _reason(ray, DiedError(text)).startswith(said)


def test_ray_engine_refuses_an_address_where_nobody_listens() -> None:
    with pytest.raises(InputError, match="--address localhost:1: no Ray cluster can be reached there"):
        _check_reachable("localhost:1")
    with pytest.raises(InputError, match="--address ray://host:x: no Ray cluster"):
        _check_reachable("ray://host:x")
    _check_reachable("auto")


@pytest.mark.parametrize(("answer", "ray"), [(b"\0\0\x18\4\0\0\0\0\0", True), (b"HTTP/1.1 400 Bad request", False)])
def test_ray_engine_refuses_an_address_where_another_answers(answer: bytes, ray: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(33)
                connection.sendall(answer)

        with ThreadPoolExecutor(1) as threads:
            served = threads.submit(serve)
            if ray:
                _check_reachable(f"127.0.0.1:{port}")
            else:
                with pytest.raises(InputError, match="what answers is not Ray"):
                    _check_reachable(f"127.0.0.1:{port}")
            served.result()


@dataclass(frozen=True)
class Killing(Doubling):
    """The same, but the first process that comes to 99 is killed. marker: a file that says that it was."""

    marker: Path = Path("killed")

    def __call__(self, items: Sequence[int]) -> Iterator[Finished]:
        for finished in super().__call__(items):
            if finished.record["item"] == 99 and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield finished


def test_ray_engine_does_all_though_a_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The one test that starts Ray; its processes import neither torch nor numpy, and stdout is for data alone."""
    pytest.importorskip("ray")
    monkeypatch.setattr("geomatch.runtime.engines.ray_engine.available_processors", lambda: 1)
    items = list(range(80, 120))
    with pytest.warns(GeomatchWarning, match=r"lost a process \(.*done again in halves"):
        records = [each.record for each in RayEngine().run(Killing(marker=tmp_path / "killed"), items)]
    assert records == done_here(items)
    assert capfd.readouterr().out == ""
