"""Execute a notebook where it is, and keep its outputs: `make notebook`.

    python scripts/run_notebook.py examples/correspondence.ipynb

Times of execution and the version of Python are left out, so that the same outputs are the same file. Needs
``pip install 'geomatch[notebook]'``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

CELL_SECONDS = 600


def run(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": path.parent}}).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
