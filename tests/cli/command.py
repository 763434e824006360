"""The command as a user types it, run in this process: a process of its own loads torch, which takes seconds."""

import io
import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from geomatch.cli.app import main
from tests.conftest import ROOT


def geomatch(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What `geomatch ARGUMENTS` prints and the status it ends with, in the folder ``cwd``.

    What the command does not turn into a sentence and a status is raised here.
    """
    words = ["geomatch", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(cwd)
        patch.setattr(sys, "argv", words)
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int), code
    return subprocess.CompletedProcess(words, code or 0, out.getvalue(), err.getvalue())


def own_process(*arguments: object) -> dict[str, Any]:
    """What `subprocess` needs to start the command, of the code that is tested, where a process is the point."""
    return {
        "args": [sys.executable, "-m", "geomatch", *map(str, arguments)],
        "env": os.environ | {"PYTHONPATH": str(ROOT)},
        "text": True,
    }


def assert_refused(done: subprocess.CompletedProcess[str], *said: str, folder: Path, status: int = 2) -> None:
    """The command ended with ``status``, said so on stderr alone, and made no folder."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    for text in said:
        assert text in done.stderr
    assert [path.name for path in folder.iterdir() if path.is_dir()] == [], "something was written"
