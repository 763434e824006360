# Every target works on a fresh machine: it makes the environment first if it is not there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test quick lint check reference notebook bench clean

setup: $(READY)

# torch is installed on its own and first, so that a CPU build of the pinned version is taken where one is offered.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,baselines,backbones,video]'
	touch $@

demo: setup
	$(BIN)/geomatch match examples/teapots/a.png examples/teapots/b.png --output demo --overwrite
	@echo "Look at demo/overview.png; the flow is in demo/flow.flo, the warp in demo/warped.png."

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

quick: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 -m "not slow"

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

reference: setup
	$(BIN)/python scripts/cli_reference.py

notebook: setup
	$(BIN)/python -m pip install --quiet --editable '.[notebook]'
	$(BIN)/python scripts/run_notebook.py examples/correspondence.ipynb

bench: setup
	$(BIN)/python benchmarks/speed/nearest.py
	$(BIN)/python benchmarks/speed/extraction.py
	$(BIN)/python benchmarks/speed/command.py
	$(BIN)/python benchmarks/accuracy/warps.py
	$(BIN)/python benchmarks/speed/evaluation.py
	$(BIN)/python benchmarks/speed/training.py
	$(BIN)/python benchmarks/many/batch.py
	$(BIN)/python benchmarks/many/faults.py

clean:
	rm -rf $(VENV) demo
