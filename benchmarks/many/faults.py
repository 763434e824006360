"""Resume after faults: a killed process, a full disk, a read-only folder, broken images, lost processes of Ray.

    python benchmarks/many/faults.py [--photographs DIR] [--images 12] [--pairs 60] [--side 160] [--kills 20] [--seed 0]
        [--no-pictures] [--ray-alone]

After each fault the batch is resumed, and every file is compared with those of an undisturbed batch. The full disk and
the read-only folder are a tmpfs; without the right to mount one, the two are left out. Where Ray is installed, one
batch with `--engine ray` has processes killed while they match, at random moments, and is not resumed. --ray-alone
tries only that.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from batch import TEAPOTS, list_of, photographs, some_pairs, table_of
from rich.console import Console
from rich.table import Table

CODE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """Exit status, lines on stdout, and text on stderr of a command."""

    status: int
    lines: list[dict[str, object]]
    stderr: str


@dataclass(frozen=True)
class Trial:
    """The command, and the folder it runs in, so that what it writes has the same names in every trial."""

    folder: Path
    options: Sequence[str]
    pairs: Path

    def start(
        self, *more: str, stdout: int | IO[str] = subprocess.PIPE, stderr: int | IO[str] = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "geomatch", "match", "--pairs", str(self.pairs), "-o", "out", *self.options]
        environment = os.environ | {"PYTHONPATH": str(CODE), "OMP_NUM_THREADS": "1"}  # as Ray's processes have
        return subprocess.Popen(
            [*words, *more],
            cwd=self.folder,
            env=environment,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def finish(self, *more: str) -> Outcome:
        process = self.start(*more)
        out, err = process.communicate()
        return Outcome(process.returncode, [json.loads(line) for line in out.splitlines()], err.strip())

    def files(self) -> dict[str, bytes]:
        out = self.folder / "out"
        return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Bench:
    """Where trials run, and what an undisturbed one writes, in so many seconds from its first line."""

    undisturbed: Trial
    expected: dict[str, bytes]
    seconds: float

    @classmethod
    def prepare(cls, folder: Path, pairs: Path, options: Sequence[str] = ()) -> Bench:
        undisturbed = Trial(folder / "undisturbed", ["--preset", "fast", *options], pairs)
        undisturbed.folder.mkdir()
        process = undisturbed.start()
        assert process.stdout is not None
        process.stdout.readline()
        began = time.perf_counter()
        process.communicate()
        return cls(undisturbed, undisturbed.files(), time.perf_counter() - began)

    def trial(self, name: str) -> Trial:
        """The same command in a new folder."""
        (folder := self.undisturbed.folder.parent / name).mkdir()
        return replace(self.undisturbed, folder=folder)


def killed(trial: Trial, seconds: float, dice: random.Random) -> int:
    """Kill a batch at a random moment of ``seconds`` after its first line. Returns how many pairs were complete."""
    process = trial.start()
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(dice.uniform(0, seconds))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return len(list((trial.folder / "out").glob("*--*/match.json")))


def ray_workers(driver: int) -> list[int]:
    """The processes below ``driver`` in which an actor of Ray works on a chunk at this moment."""
    parents, names = dict[int, int](), dict[int, bytes]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, ValueError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes()

    def below(process: int) -> bool:
        return process == driver or (process in parents and below(parents[process]))

    return [process for process, name in names.items() if name.startswith(b"ray::_Actor.work") and below(process)]


def lose_workers(process: subprocess.Popen[str], kills: int, pause: float, dice: random.Random) -> int:
    """Kill a working process of Ray again and again, ``pause`` seconds apart on average; returns how many were."""
    done = 0
    while done < kills and process.poll() is None:
        time.sleep(dice.uniform(0, 2 * pause))
        if working := ray_workers(process.pid):
            with suppress(ProcessLookupError):
                os.kill(dice.choice(sorted(working)), signal.SIGKILL)
                done += 1
    return done


def try_lost_workers(bench: Bench, kills: int, pairs: int, dice: random.Random) -> str:
    """One batch on Ray, whose processes are killed; returns what came out, as a sentence."""
    trial = bench.trial("ray")
    with (trial.folder / "lines").open("w+") as lines, (trial.folder / "notes").open("w+") as notes:
        process = trial.start("--engine", "ray", stdout=lines, stderr=notes)
        done = lose_workers(process, kills, max(1.0, bench.seconds / kills), dice)
        status = process.wait()
        lines.seek(0)
        notes.seek(0)
        records, said = [json.loads(line) for line in lines], notes.read()
    failed = sum("error" in record for record in records)
    same = "identical in every byte" if trial.files() == bench.expected else "NOT IDENTICAL"
    return (
        f"Ray: {done} working processes killed, {said.count('lost a process')} losses noted; status {status}, "
        f"{len(records) - failed} of {pairs} pairs done, {failed} failed; not resumed, {same}"
    )


def mounted(folder: Path, options: str) -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False).returncode == 0


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def full_disk(trial: Trial, size: int) -> Outcome:
    """A batch on a disk that holds ``size`` bytes; then it has room again."""
    remount(trial.folder, f"size={size}")
    outcome = trial.finish()
    remount(trial.folder, "size=1g")
    return outcome


def read_only(trial: Trial, after: int) -> Outcome:
    """A batch whose disk is read-only once ``after`` lines are printed; then it is writable again."""
    process = trial.start()
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    while subprocess.run(["mount", "-o", "remount,ro", str(trial.folder)], stderr=subprocess.DEVNULL).returncode:
        time.sleep(0.001)  # it is busy as long as a file is open for writing
    lines += process.stdout  # not communicate(), which would skip what has been read ahead
    stderr = process.stderr.read() if process.stderr else ""
    status = process.wait()
    remount(trial.folder, "rw")
    return Outcome(status, [json.loads(line) for line in lines], stderr.strip())


def add_row(table: Table, fault: str, outcome: Outcome, trial: Trial, expected: dict[str, bytes]) -> None:
    """Resume a trial after a fault, and add to the table whether its files are the expected ones."""
    failed = [line for line in outcome.lines if "error" in line]
    again = trial.finish("--resume")
    same = trial.files() == expected and again.status == 0
    example = str(failed[0]["error"]) if failed else ""
    table.add_row(
        fault,
        str(outcome.status),
        f"{len(outcome.lines) - len(failed)} of {len(outcome.lines)}",
        example[-60:],
        "yes" if same else f"NO (status {again.status}: {again.stderr})",
    )


def try_kills(bench: Bench, kills: int, dice: random.Random) -> str:
    """Kill and resume; returns what came out, as a sentence."""
    complete, same = [], 0
    for number in range(kills):
        trial = bench.trial(f"killed-{number}")
        complete.append(killed(trial, bench.seconds, dice))
        same += trial.finish("--resume").status == 0 and trial.files() == bench.expected
        shutil.rmtree(trial.folder)
    return f"killed with {sorted(complete)} pairs complete; resumed, identical in every byte: {same} of {kills}"


def try_disks(bench: Bench, pairs: int, table: Table, console: Console) -> None:
    for fault in ("full disk", "read-only"):
        trial = bench.trial(fault.replace(" ", "-"))
        if not mounted(trial.folder, "size=1g"):
            console.print(f"{fault}: left out, since no tmpfs can be mounted here")
            continue
        try:
            half = sum(map(len, bench.expected.values())) // 2
            outcome = full_disk(trial, half) if fault == "full disk" else read_only(trial, pairs // 2)
            add_row(table, fault, outcome, trial, bench.expected)
        finally:
            subprocess.run(["umount", str(trial.folder)], check=True)


def try_broken_images(bench: Bench, images: Sequence[Path], table: Table, dice: random.Random) -> None:
    """Cut a twentieth of the images off at a random byte, and mend them before the batch is resumed."""
    broken = {path: path.read_bytes() for path in dice.sample(images, max(1, round(0.05 * len(images))))}
    for path, content in broken.items():
        path.write_bytes(content[: dice.randrange(len(content))])
    trial = bench.trial("broken")
    outcome = trial.finish()
    for path, content in broken.items():
        path.write_bytes(content)
    add_row(table, f"{len(broken)} broken of {len(images)} images", outcome, trial, bench.expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-pictures", action="store_true")
    parser.add_argument("--ray-alone", action="store_true")
    given = parser.parse_args()

    console, dice = Console(width=140), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        images = photographs(given.photographs, folder / "images", given.images, given.side)
        options = ["--no-pictures"] if given.no_pictures else []
        bench = Bench.prepare(folder, list_of(some_pairs(images, given.pairs), folder), options)
        console.print(
            f"{given.pairs} pairs, {len(bench.expected)} files; {bench.seconds:.1f} s from first to last line"
        )
        if importlib.util.find_spec("ray"):
            console.print(try_lost_workers(bench, given.kills, given.pairs, dice))
        if given.ray_alone:
            return
        console.print(try_kills(bench, given.kills, dice))
        table = table_of("other faults", "status", "done", "error", "resumed: identical")
        try_disks(bench, given.pairs, table, console)
        try_broken_images(bench, images, table, dice)
        console.print(table)


if __name__ == "__main__":
    main()
