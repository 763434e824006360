"""docs/papers.md names code and tests that exist, and a test for every sentence of a paper."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for table in re.findall(
        r"^\| the paper \|.*\n((?:\|.*\n)+)", (ROOT / "docs" / "papers.md").read_text(), re.MULTILINE
    )
    for line in table.splitlines()[1:]
]
"""The rows of the tables of sentences; other tables have numbers."""
REFERENCE = re.compile(r"`([\w/]+\.py)::([\w.]+)`")


@cache
def names_in(file: Path) -> set[str]:
    """Functions, classes and constants of a module, and ``Class.method``."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        found = {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = {target.id for target in targets if isinstance(target, ast.Name)}
        names |= found
    return names


def test_papers_has_all_five_papers() -> None:
    titles = re.findall(r"^## (.*)$", (ROOT / "docs" / "papers.md").read_text(), re.MULTILINE)
    papers = ["AnchorNet", "Probabilistic Introspection", "Deformable Spatial Pyramid", "Proposal Flow", "SCNet"]
    assert titles == [*papers, "The tables in one command"]
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_papers_names_code_and_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 4
    for cell, folder, prefix in ((row[1], "geomatch", ""), (row[2], "tests", "test_")):
        assert re.fullmatch(rf"{REFERENCE.pattern}(, {REFERENCE.pattern})*", cell)
        for file, name in REFERENCE.findall(cell):
            assert name in names_in(ROOT / folder / file)
            assert name.startswith(prefix)
