"""Commands whose lists other processes work on: the same lines and the same bytes, whoever does the work."""

import json
import pickle
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from geomatch.cli.options import EngineOptions, PipelineOptions
from geomatch.runtime.engines.chunks import chunks_of
from geomatch.runtime.engines.engine import Job
from geomatch.runtime.engines.worker import Surroundings, Worker
from geomatch.runtime.parallel_map import Finished
from tests.cli.command import assert_refused, geomatch
from tests.stub import build_stub, picture


class Elsewhere:
    """Works as a cluster does, in this process: each chunk is done from a pickled job, and again as after a loss."""

    remote = True

    def run(self, job: Job[object], items: Sequence[object]) -> Iterator[Finished]:
        done: dict[int, Finished] = {}
        for chunk in reversed(list(chunks_of([job.images(item) for item in items], 8))):
            for _ in range(1 if vars(job).get("resume") else 2):
                worker = Worker("here", Surroundings(Path.cwd(), []), pickle.dumps(job))
                assert worker.start().error is None
                answer = worker.work([items[place] for place in chunk.places])
                if answer.error:
                    raise answer.error
                done |= {place: found for place, found in zip(chunk.places, answer.finished, strict=True) if found}
        yield from (done[place] for place in range(len(items)))


@pytest.fixture(autouse=True)
def _pipeline_and_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PipelineOptions, "build", build_stub)
    here = EngineOptions.open
    monkeypatch.setattr(
        EngineOptions, "open", lambda self, device: Elsewhere() if self.engine == "ray" else here(self, device)
    )


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for number in range(3):
        picture(24, 32, left=3 * number).save(tmp_path / f"{number}.png")
    pairs = [(f"{a}.png", f"{b}.png") for a in range(3) for b in range(4) if a != b]
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    (tmp_path / "marks.csv").write_text("name,x,y\nknob,16,12\nspout,8,6\n")
    return tmp_path


def outcome(folder: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, bytes]]:
    """What a command prints, and all that it leaves in ``out`` and ``look``, which then are gone."""
    done = geomatch(*words, cwd=folder)
    files = {}
    for place in ("out", "look"):
        if (folder / place).exists():
            files |= {str(path): path.read_bytes() for path in (folder / place).rglob("*") if path.is_file()}
            (folder / place).rename(folder / f"{place}-{len(list(folder.iterdir()))}")
    return done, files


@pytest.mark.parametrize(
    "words",
    [
        ["match", "--pairs", "pairs.tsv", "-o", "out", "--picture", "warped"],
        ["match", "--all-pairs", ".", "--neighbours", "2", "-o", "out", "--mirror", "auto", "--no-pictures"],
        ["extract", "0.png", "1.png", "gone.png", "-o", "out"],
        [
            *["transfer", "0.png", "1.png", "gone.png", "2.png", "--keypoints", "marks.csv"],
            *["-o", "out", "--format", "labelme", "--review", "look"],
        ],
    ],
)
def test_elsewhere_writes_and_prints_the_same(photographs: Path, words: list[str]) -> None:
    here, files = outcome(photographs, *words)
    there, same = outcome(photographs, *words, "--engine", "ray")
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout), there.stderr
    assert same == files
    assert len(files) >= 2


def test_match_elsewhere_resumes(photographs: Path) -> None:
    words = ("match", "--pairs", "pairs.tsv", "-o", "out", "--no-pictures", "--engine", "ray")
    first = geomatch(*words, cwd=photographs)
    (photographs / "out" / "1--2" / "flow.flo").write_bytes(b"damaged")
    again = geomatch(*words, "--resume", cwd=photographs)
    assert again.stdout == first.stdout
    assert "9 pairs, 5 of them kept from before, 3 failed" in again.stderr


def test_transfer_elsewhere_writes_no_file_for_all_images(photographs: Path) -> None:
    words = ("transfer", "0.png", "1.png", "--keypoints", "marks.csv", "-o", "out.csv", "--engine", "ray")
    assert_refused(geomatch(*words, cwd=photographs), "2 processes cannot write one file", folder=photographs)


def test_match_refuses_an_engine_for_one_pair(photographs: Path) -> None:
    done = geomatch("match", "0.png", "1.png", "--engine", "ray", cwd=photographs)
    assert_refused(done, "--engine and --address are for many pairs", folder=photographs)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_match_below_a_url_resumes(photographs: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    words = ("match", "--pairs", "pairs.tsv", "-o", "memory://out", "--no-pictures", "--engine", engine)
    first = geomatch(*words, cwd=photographs)
    assert json.loads(first.stdout.splitlines()[0])["output"] == "memory://out/0--1"
    assert "/out/0--1/flow.flo" in MemoryFileSystem.store
    taken = geomatch(*words, cwd=photographs)
    assert_refused(taken, "memory://out: holds 0--1 already", folder=photographs)
    del MemoryFileSystem.store["/out/0--1/flow.flo"]
    again = geomatch(*words, "--resume", cwd=photographs)
    assert again.stdout == first.stdout
    assert "9 pairs, 5 of them kept from before, 3 failed" in again.stderr


def test_extract_below_a_url_resumes(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    words = ("extract", "0.png", "1.png", "-o", "memory://features")
    first = geomatch(*words, cwd=photographs)
    assert_refused(geomatch(*words, cwd=photographs), "memory://features/0.npz: exists already", folder=photographs)
    again = geomatch(*words, "--resume", cwd=photographs)
    assert again.stdout == first.stdout
    assert "2 of them kept" in again.stderr


def test_eval_elsewhere_scores_the_same(spair: Path) -> None:
    for path in (spair / "JPEGImages").rglob("*.jpg"):
        picture(60, 80).save(path)

    def evaluate(*more: str) -> dict[str, object]:
        words = ("eval", "--dataset", "animal-parts", "--root", spair, "--split", "val", "--matcher", "nn", "--fresh")
        done = geomatch(*words, "--json", *more, cwd=spair.parent)
        assert (done.returncode, done.stderr) == (0, "")
        scores: dict[str, object] = json.loads(done.stdout)
        assert set(scores.pop("seconds")) == {"reading", "extraction", "matching", "scoring"}  # type: ignore[call-overload]
        return scores

    here, there = evaluate(), evaluate("--engine", "ray")
    assert here.pop("extractions") == 3
    assert there.pop("extractions") == 3
    assert there == here
