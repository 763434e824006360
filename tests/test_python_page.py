"""The examples of docs/python.md run."""

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT


def python_blocks() -> list[str]:
    """Return the page's examples, in order."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL | re.MULTILINE)


def test_python_page_examples_run(teapots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        shutil.copy(teapots / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    blocks = python_blocks()
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), namespace)
    assert len(blocks) == 12
    assert (tmp_path / "confident.png").is_file()
