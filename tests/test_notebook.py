"""The notebook of examples/: its code is of today's API, its outputs are in it, and its photographs are there.

`make notebook` executes it; here no cell is run.
"""

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import geomatch
from geomatch.options import AnnotationKind
from geomatch.transfer.references.marked_images import MarkedImages
from tests.conftest import ROOT

NOTEBOOK = ROOT / "examples" / "correspondence.ipynb"
CELLS: list[dict[str, Any]] = [
    cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
]
TREE = ast.parse("\n".join("".join(cell["source"]) for cell in CELLS))
VALUES = {"pipeline": geomatch.Pipeline, "found": geomatch.Match, "transfer": geomatch.AnnotationTransfer}
"""What the notebook's variables are."""


def called_on(names: set[str]) -> list[tuple[str, ast.Attribute]]:
    """The attributes that code reads of variables of these names."""
    nodes = [node for node in ast.walk(TREE) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return [(node.value.id, node) for node in nodes if isinstance(node.value, ast.Name) and node.value.id in names]


def known_names(kind: type) -> set[str]:
    return {*dir(kind), *getattr(kind, "__dataclass_fields__", ())}


def test_notebook_uses_names_that_exist() -> None:
    used = called_on({"geomatch", *VALUES})
    assert {name for name, _ in used} == {"geomatch", *VALUES} - {"transfer"}
    for name, node in used:
        known = set(geomatch.__all__) if name == "geomatch" else known_names(VALUES[name])
        assert node.attr in known, f"line {node.lineno}: {name}.{node.attr}"


def test_notebook_passes_keywords_that_are_taken() -> None:
    calls = [node for node in ast.walk(TREE) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    checked = 0
    for call in calls:
        assert isinstance(call.func, ast.Attribute)
        owner = call.func.value
        if isinstance(owner, ast.Name) and owner.id in ("geomatch", *VALUES):
            found = getattr(geomatch if owner.id == "geomatch" else VALUES[owner.id], call.func.attr)
            taken = inspect.signature(found).parameters
            assert {each.arg for each in call.keywords} <= set(taken), ast.unparse(call)
            checked += 1
    assert checked >= 5


def test_notebook_has_the_outputs_of_a_whole_run() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    assert NOTEBOOK.stat().st_size <= 400_000


@pytest.mark.parametrize("folder", ["many_teapots"])
def test_notebook_photographs_are_those_that_the_truth_marks(folder: str) -> None:
    truth = ROOT / "examples" / folder / "truth.json"
    found = MarkedImages.open(truth, AnnotationKind.keypoints).locate([truth.with_name("photos")])
    assert sorted(found) == sorted(truth.with_name("photos").glob("*.jpg"))
    strings = [node.value for node in ast.walk(TREE) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    paths = [NOTEBOOK.parent / text for text in strings if text.endswith((".png", ".json", ".npz", "photos"))]
    assert len(paths) >= 5
    assert all(map(Path.exists, paths)), paths
