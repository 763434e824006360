"""The rules of the code: imports run downwards, matching does no file I/O, `--help` is quick, functions are short."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "geomatch"
BENCHMARKS = PACKAGE.parent / "benchmarks"

# A package may import from itself and from packages in the lines above its own; packages in one line may not import
# from each other, except for the pairs (importer, imported) below.
FLOORS = (
    {"errors", "options", "parameters", "geometry", "tensor_value", "__init__"},
    {"annotations", "correspondence", "registry", "runtime"},
    {"io", "datasets", "features"},
    {"matching"},
    {"arguments", "visualize"},
    {"result"},
    {"pipeline", "training"},
    {"evaluation", "batch"},
    {"transfer"},
    {"doctor"},
    {"cli"},
    {"__main__"},
)
SAME_FLOOR = {
    ("registry", "runtime"),
    ("correspondence", "runtime"),
    ("datasets", "io"),
    ("features", "io"),
    ("evaluation", "batch"),
}

MOST_MODULES = 12  # in a folder
MOST_LINES, MOST_PARAMETERS = 60, 10  # of a function
# Every setting of a `Pipeline` is a keyword argument; those of `match` are the same, and its two images.
LONG_FUNCTIONS = {"pipeline.py:__init__", "pipeline.py:match"}


def is_pure(file: str) -> bool:
    return file.startswith(("matching/", "evaluation/metrics/")) or file in (
        "evaluation/protocols.py",
        "evaluation/scoreboard.py",
    )


def package_of(module: str) -> str:
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
    return next(index for index, packages in enumerate(FLOORS) if name in packages)


def test_imports_run_downwards() -> None:
    wrong = [
        (file, imported)
        for file, importer, imported in imports()
        if imported.startswith("geomatch")
        and package_of(imported) != importer
        and (importer, package_of(imported)) not in SAME_FLOOR
        and floor_of(package_of(imported)) >= floor_of(importer)
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
    """One process asks every command for its help, and after each lists the heavy packages imported by then."""
    script = """
import sys
import typer
from geomatch.cli.usage import make_app

app = make_app()

def visit(command, path):
    try:
        app([*path, "--help"])
    except SystemExit:
        pass
    heavy = {"torch", "torchvision", "numpy", "scipy", "PIL", "safetensors"} & set(sys.modules)
    print("HEAVY", path, sorted(heavy))
    for name, child in getattr(command, "commands", {}).items():
        visit(child, [*path, name])

visit(typer.main.get_command(app), [])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    checked = [line for line in done.stdout.splitlines() if line.startswith("HEAVY")]
    assert [line for line in checked if not line.endswith(" []")] == []
    assert done.stdout.count("Usage") == len(checked) > 15


def test_folders_are_small() -> None:
    modules = [path for folder in (PACKAGE, BENCHMARKS) for path in folder.rglob("*.py") if path.name != "__init__.py"]
    sizes = Counter(path.parent.relative_to(PACKAGE.parent) for path in modules)
    assert {str(folder): size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_functions_are_short() -> None:
    """Commands are exempt: each of their parameters is an option of the command line."""
    long = {
        f"{path.relative_to(PACKAGE)}:{function.name}"
        for path in PACKAGE.rglob("*.py")
        if "commands" not in path.parts
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        and (lines(function) > MOST_LINES or parameters(function) > MOST_PARAMETERS)
    }
    assert long == LONG_FUNCTIONS


def lines(function: ast.FunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def parameters(function: ast.FunctionDef) -> int:
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(parameter.arg not in ("self", "cls") for parameter in given)
