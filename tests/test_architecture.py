"""The house rules: imports run downwards, matching and evaluation touch no files, `--help` is quick."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "geomatch"

# Each room may import from itself and from those that stand before it here; rooms on one line do not see each other,
# but for the exceptions below.
FLOORS = (
    {"errors", "options", "parameters", "geometry", "__init__"},
    {"annotations", "correspondence", "registry", "runtime"},
    {"io", "datasets", "features"},
    {"matching"},
    {"visualize"},
    {"pipeline", "training"},
    {"evaluation", "batch"},
    {"transfer"},
    {"doctor"},
    {"cli"},
    {"__main__"},
)
SAME_FLOOR = {("registry", "runtime"), ("datasets", "io"), ("features", "io"), ("evaluation", "batch")}


def is_pure(file: str) -> bool:
    return file.startswith(("matching/", "evaluation/metrics/")) or file in (
        "evaluation/protocols.py",
        "evaluation/scoreboard.py",
    )


def room(module: str) -> str:
    return module.removeprefix("geomatch").removeprefix(".").split(".")[0] or "__init__"


def imports() -> list[tuple[str, str, str]]:
    found = []
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            found += [(str(path.relative_to(PACKAGE)), parts[0], name) for name in names]
    return found


def floor_of(name: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if name in rooms)


def test_imports_run_downwards() -> None:
    wrong = [
        (file, imported)
        for file, importer, imported in imports()
        if imported.startswith("geomatch")
        and room(imported) != importer
        and (importer, room(imported)) not in SAME_FLOOR
        and floor_of(room(imported)) >= floor_of(importer)
        and floor_of(importer) > 0
    ]
    assert wrong == []


def test_matching_and_metrics_do_no_file_io() -> None:
    for file, _, imported in imports():
        if is_pure(file):
            assert imported not in ("io", "os", "tempfile", "geomatch.io"), file
            assert not imported.startswith("geomatch.io"), file


def test_only_the_shim_imports_torchvision() -> None:
    assert [file for file, _, imported in imports() if imported.split(".")[0] == "torchvision"] == []


def test_help_imports_nothing_heavy() -> None:
    """One process asks every command for its help, and names after each what it has imported by then."""
    commands = [
        "",
        "match",
        "view",
        "transfer",
        "at",
        "extract",
        "eval",
        "datasets",
        "train introspection",
        "train anchornet",
        "show confidence",
        "show responses",
        "crops",
        "doctor",
    ]
    script = """
import sys
from geomatch.cli.app import app
for command in sys.argv[1:]:
    try:
        app([*command.split(), "--help"])
    except SystemExit:
        pass
    heavy = {"torch", "torchvision", "numpy", "scipy", "PIL", "safetensors"} & set(sys.modules)
    print(f"HEAVY after {command!r}: {sorted(heavy)}")
"""
    done = subprocess.run([sys.executable, "-c", script, *commands], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("HEAVY")] == [f"HEAVY after {each!r}: []" for each in commands]
    assert done.stdout.count("Usage") == len(commands)
