"""One training at a time writes one output."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geomatch.errors import InputError


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Inside, no other process can claim ``output``, also if it is reached through a link.

    The claim is a lock on a file beside the output, NAME.lock, which is deleted at the end. It ends with its process:
    the file of one that was killed claims nothing, and is used again. Raises InputError if another process has it.
    """
    output = output.resolve()
    lock = output.with_name(f"{output.name}.lock")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(lock)
    except BlockingIOError:
        raise InputError(f"{output}: another training writes it now; wait for its end, or give another --out") from None
    except OSError as error:
        raise InputError(f"{lock}: could not be written ({error.strerror})") from error
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _locked(lock: Path) -> int:
    """A descriptor of the file that holds its lock. Raises BlockingIOError if another has it."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:  # some network file systems cannot lock
            return descriptor
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        os.close(descriptor)  # the one who had it has deleted the file meanwhile
