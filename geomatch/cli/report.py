"""Report many items on stdout as they finish, and how many there were on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from geomatch.cli.console import counting_bar, notify, print_error
from geomatch.cli.output import print_record
from geomatch.errors import GeomatchError

if TYPE_CHECKING:
    from geomatch.runtime.parallel_map import Finished
    from geomatch.runtime.shard import Shard


@dataclass(frozen=True)
class ItemReport:
    """How items are reported.

    doing: text of the progress bar. item: the word for one. name, outcome: of an item's record, for a terminal.
    silent: print no records on stdout, which takes a file; stderr has those that fail.
    """

    doing: str
    item: str
    name: Callable[[dict[str, Any]], str]
    outcome: Callable[[dict[str, Any]], str]
    silent: bool = False

    def line(self, finished: Finished) -> str:
        """An item for a terminal."""
        record = finished.record
        if not finished.failed:
            return self.outcome(record)
        named = f"{self.name(record)}: "
        return named + str(record["error"]).removeprefix(named)


def report_items(finished: Iterable[Finished], report: ItemReport, count: int, shard: Shard, *, quiet: bool) -> None:
    """Print each of ``count`` items, this process's shard, as it finishes: as JSON, or for a terminal.

    Raises GeomatchError at the end if any failed.
    """
    started, failed, kept = perf_counter(), 0, 0
    with counting_bar(report.doing, count, quiet=quiet or shard.number > 0) as advance:
        for each in finished:
            failed, kept = failed + each.failed, kept + each.reused
            advance()
            if not report.silent:
                print_record(each.record, report.line(each))
            if each.failed and (report.silent or not sys.stdout.isatty()):
                print_error(report.line(each))
    seconds = perf_counter() - started
    shard.wait_for_others()
    parts = [f"{count} {report.item}{'s' if count != 1 else ''}"]
    parts += [f"{number} {what}" for number, what in ((kept, "of them kept from before"), (failed, "failed")) if number]
    if kept < count:
        parts += [f"{seconds:.1f} s", f"{(count - kept) / max(seconds, 1e-9):.1f} {report.item}s/s"]
    summary = (f"process {shard.number} of {shard.count}: " if shard.count > 1 else "") + ", ".join(parts)
    if failed:
        raise GeomatchError(summary)
    notify(summary)
