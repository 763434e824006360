"""Damaged files and odd values. A reader must return a value or raise one sentence, within a minute.

``GEOMATCH_FUZZ=N`` runs N times as many cases: ``GEOMATCH_FUZZ=40 python -m pytest tests -k fuzz``.
"""

from __future__ import annotations

import os
import signal
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from types import FrameType

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from geomatch.errors import GeomatchError, GeomatchWarning

TIMES = int(os.environ.get("GEOMATCH_FUZZ", "1"))
HANGS_AFTER = 60
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_WHOLE = (0, 1, -1, 255, 32767, -32768, 2**16, 10**6, 2**31 - 1, -(2**31))
_BROKEN = (0.0, -1.0, 1e-300, 1e300, float("inf"), float("nan"))
EXTREMES = [
    *(struct.pack(order + "i", number) for order in "<>" for number in _WHOLE),
    *(struct.pack(order + kind, min(number, 3e38)) for order in "<>" for kind in "fd" for number in _BROKEN),
    *(b"nan", b"-1", b"0", b"1e400", b"9" * 30, b"{", b"[" * 40, b'"', b",", b"\n", b"\t", b"\0", b"\xff\xfe", b"null"),
]
"""Bytes of extreme numbers, and texts that break parsers."""

odd_numbers = st.sampled_from(
    [0, 1, -1, 2**31, -(2**63), 10**400, 0.5, -0.5, 1e308, float("inf"), float("-inf"), float("nan"), True, None, ""]
)
"""Extreme numbers of JSON, and other values in place of a number."""

junk = st.recursive(
    odd_numbers | st.text(max_size=6) | st.sampled_from(["cat", "\udcff", "\0", "../x", "a\nb"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value."""


class Hang(BaseException):
    """A reader did not return in time."""


def fuzzed(examples: int) -> settings:
    """Hypothesis settings for this number of cases, times $GEOMATCH_FUZZ."""
    phases = [phase for phase in Phase if phase is not Phase.explain]  # it takes longer than all cases
    return settings(
        deadline=None, max_examples=examples * TIMES, phases=phases, suppress_health_check=list(HealthCheck)
    )


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    """A file with one to four changes: flipped bits, or bytes overwritten, inserted, cut, doubled, moved or cut off."""
    place = st.integers(0, len(content))
    what = st.sampled_from(EXTREMES) | st.binary(min_size=1, max_size=8)
    change = st.tuples(st.sampled_from(_CHANGES), place, place, what)
    return st.lists(change, min_size=1, max_size=4).map(lambda changes: reduce(_apply, changes, content))


def _apply(content: bytes, change: tuple[Callable[[bytes, int, int, bytes], bytes], int, int, bytes]) -> bytes:
    how, first, second, what = change
    return how(content, first, second, what)


def _flip_bit(content: bytes, place: int, bit: int, _: bytes) -> bytes:
    turned = bytes(byte ^ 1 << bit % 8 for byte in content[place : place + 1])
    return content[:place] + turned + content[place + 1 :]


def _overwrite(content: bytes, place: int, _: int, what: bytes) -> bytes:
    return content[:place] + what + content[place + len(what) :]


def _insert(content: bytes, place: int, _: int, what: bytes) -> bytes:
    return content[:place] + what + content[place:]


def _truncate(content: bytes, place: int, _: int, __: bytes) -> bytes:
    return content[:place]


def _cut(content: bytes, first: int, second: int, _: bytes) -> bytes:
    return content[: min(first, second)] + content[max(first, second) :]


def _double(content: bytes, first: int, second: int, _: bytes) -> bytes:
    return content[: max(first, second)] + content[min(first, second) :]


def _move(content: bytes, first: int, second: int, _: bytes) -> bytes:
    return content[:first] + content[second : second + 16] + content[first + 16 :]


_CHANGES = (_flip_bit, _overwrite, _overwrite, _insert, _truncate, _cut, _double, _move)


def with_png_checksums(content: bytes) -> bytes:
    """A damaged PNG with correct checksums, as far as it still has chunks."""
    repaired = bytearray(content)
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(repaired):
        end = place + 8 + int.from_bytes(repaired[place : place + 4], "big")
        if end + 4 > len(repaired):
            break
        repaired[end : end + 4] = zlib.crc32(repaired[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(repaired)


def assert_read_or_refused(read: Callable[[], object], *, named: str = "") -> bool:
    """Assert that ``read`` returns in time, or raises a GeomatchError of one line that contains ``named``.

    Returns whether it returned.
    """
    try:
        with in_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("ignore", GeomatchWarning)
            read()
    except GeomatchError as error:
        text = str(error)
        assert len(text.splitlines()) == 1, text
        assert named in text
        return False
    return True


@contextmanager
def in_time() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS_AFTER)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
