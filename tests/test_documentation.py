"""The documentation's links lead somewhere, its prose is narrow, and README's Python runs."""

import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from geomatch import __version__
from tests.conftest import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "weights").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ +(.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_links_exist(page: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        name, _, fragment = link.partition("#")
        if "://" in name:
            continue
        linked = (page.parent / unquote(name)).resolve() if name else page
        if not linked.exists() or (fragment and fragment not in anchors(linked)):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_prose_is_narrow(page: Path) -> None:
    """At most 100 columns; a table's row, a picture's line and a single long word cannot be wrapped."""
    wide = [line for line in without_code(page).splitlines() if len(line) > 100 and not line.startswith(("|", "!["))]
    assert [line for line in wide if " " in line.lstrip(" -*")] == []


def test_index_lists_every_page() -> None:
    docs = ROOT / "docs"
    listed = set(re.findall(r"\]\(([^)]+\.md)\)", (docs / "index.md").read_text()))
    assert {str(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"index.md"} <= listed


def test_readme_fits_a_front_page() -> None:
    assert len(README.splitlines()) <= 150


def test_readme_python_runs(teapots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        shutil.copy(teapots / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    exec(compile(blocks[0], "README.md", "exec"), {})


def test_version_stands_in_every_file() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
