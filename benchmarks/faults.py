"""What a batch bears: killed at random moments, a disk that fills up, a folder that becomes read-only, broken images.

    python benchmarks/faults.py [--photographs DIR] [--images 12] [--pairs 60] [--side 160] [--kills 20] [--seed 0]

After each fault the batch is resumed, and every file is held against those of a batch left in peace. The full disk and
the read-only folder are a tmpfs, which takes the right to mount one; without it the two are left out.
"""

from __future__ import annotations

import argparse
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
from dataclasses import dataclass
from pathlib import Path

from batch import TEAPOTS, list_of, photographs, some_pairs, table_of
from rich.console import Console
from rich.table import Table

CODE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Trial:
    """The command, and the folder it runs in, so that what it writes has the same names in every trial."""

    folder: Path
    options: Sequence[str]
    pairs: Path

    def start(self, *more: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "geomatch", "match", "--pairs", str(self.pairs), "-o", "out", *self.options]
        environment = os.environ | {"PYTHONPATH": str(CODE)}
        return subprocess.Popen(
            [*words, *more],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *more: str) -> tuple[int, list[dict[str, object]], str]:
        """Exit status, the lines, and what was said."""
        process = self.start(*more)
        out, said = process.communicate()
        return process.returncode, [json.loads(line) for line in out.splitlines()], said.strip()

    def files(self) -> dict[str, bytes]:
        out = self.folder / "out"
        return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def killed(trial: Trial, seconds: float, dice: random.Random) -> int:
    """Kill a batch at a random moment of ``seconds`` after its first line; how many pairs were whole by then."""
    process = trial.start()
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(dice.uniform(0, seconds))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return len(list((trial.folder / "out").glob("*--*/match.json")))


def mounted(folder: Path, options: str) -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False).returncode == 0


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def full_disk(trial: Trial, size: int) -> tuple[int, list[dict[str, object]], str]:
    """A batch on a disk that holds ``size`` bytes, then room again."""
    remount(trial.folder, f"size={size}")
    outcome = trial.finish()
    remount(trial.folder, "size=1g")
    return outcome


def read_only(trial: Trial, after: int) -> tuple[int, list[dict[str, object]], str]:
    """A batch whose disk is read-only once ``after`` lines have come, then writable again."""
    process = trial.start()
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    while subprocess.run(["mount", "-o", "remount,ro", str(trial.folder)], stderr=subprocess.DEVNULL).returncode:
        time.sleep(0.001)  # it is busy as long as a file is open for writing
    lines += process.stdout  # not communicate(), which would pass over what has been read ahead
    said = process.stderr.read() if process.stderr else ""
    status = process.wait()
    remount(trial.folder, "rw")
    return status, [json.loads(line) for line in lines], said.strip()


def add(
    table: Table, fault: str, outcome: tuple[int, list[dict[str, object]], str], trial: Trial, peace: object
) -> None:
    status, lines, _ = outcome
    failed = [line for line in lines if "error" in line]
    again, _, said = trial.finish("--resume")
    same = "yes" if trial.files() == peace and again == 0 else f"NO (status {again}: {said})"
    example = str(failed[0]["error"]) if failed else ""
    table.add_row(fault, str(status), f"{len(lines) - len(failed)} of {len(lines)}", example[-60:], same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    console, dice = Console(width=140), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "images").mkdir()
        images = photographs(given.photographs, base / "images", given.images, given.side)
        pairs = list_of(some_pairs(images, given.pairs), base)

        def trial(called: str, listed: Path = pairs) -> Trial:
            (base / called).mkdir()
            return Trial(base / called, ["--preset", "fast"], listed)

        calm = trial("calm")
        process = calm.start()
        assert process.stdout is not None
        process.stdout.readline()
        began = time.perf_counter()
        process.communicate()
        seconds, peace = time.perf_counter() - began, calm.files()
        console.print(f"{given.pairs} pairs, {len(peace)} files; {seconds:.1f} s from the first pair to the last")

        whole, same = [], 0
        for number in range(given.kills):
            each = trial(f"killed-{number}")
            whole.append(killed(each, seconds, dice))
            status, _, _ = each.finish("--resume")
            same += status == 0 and each.files() == peace
            shutil.rmtree(each.folder)
        console.print(
            f"killed with {sorted(whole)} pairs whole; resumed, identical in every byte: {same} of {given.kills}"
        )

        table = table_of("other faults", "status", "done", "error", "resumed: identical")
        for fault in ("full disk", "read-only"):
            each = trial(fault.replace(" ", "-"))
            if not mounted(each.folder, "size=1g"):
                console.print(f"{fault}: left out, since no tmpfs can be mounted here")
                continue
            try:
                half = sum(map(len, peace.values())) // 2
                outcome = full_disk(each, half) if fault == "full disk" else read_only(each, given.pairs // 2)
                add(table, fault, outcome, each, peace)
            finally:
                subprocess.run(["umount", str(each.folder)], check=True)

        broken = dice.sample(images, max(1, round(0.05 * len(images))))
        whole_images = {path: path.read_bytes() for path in broken}
        for path in broken:
            path.write_bytes(whole_images[path][: dice.randrange(len(whole_images[path]))])
        each = trial("broken")
        outcome = each.finish()
        for path, content in whole_images.items():
            path.write_bytes(content)
        add(table, f"{len(broken)} broken of {len(images)} images", outcome, each, peace)
        console.print(table)


if __name__ == "__main__":
    main()
