import sys
import threading
from pathlib import Path

import pytest

from geomatch.runtime.threads.import_ahead import import_ahead


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Exceptions that ended a thread."""
    found: list[object] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    return found


def test_import_ahead_goes_on_after_a_missing_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: list[object]
) -> None:
    (tmp_path / "needed_later.py").write_text("import threading\nby = threading.current_thread()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import_ahead("not_installed_anywhere", "needed_later")
    for thread in threading.enumerate():
        if thread.name == "import ahead":
            thread.join(10)
    imported = sys.modules.pop("needed_later")
    assert imported.by is not threading.current_thread()
    assert failures == []
