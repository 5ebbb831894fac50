# Two commands are enough: `make run` (the main job) and `make test`.
# Each does its own set-up; run twice, it does it once.

PYTHON ?= python3
PY = .venv/bin/python
DEEP = .venv-deep/bin/python

.PHONY: run lab test test-deep record setup setup-deep help

run: setup  ## R1-Zero in miniature on the embedded model, with table and figure
	$(PY) -m r1lite run

lab: setup  ## open JupyterLab on the first notebook
	$(PY) -m jupyterlab notebooks/00_start_here.ipynb

test: setup  ## unit tests, then every notebook executed
	$(PY) -m pytest -m "not deep" --durations=10
	$(PY) -m pytest --nbval-lax notebooks -o addopts=-q --durations=10

test-deep: setup-deep  ## what a learner should not have to install
	$(DEEP) -m ruff check r1lite tests
	$(DEEP) -m ruff format --check r1lite tests
	$(DEEP) -m pytest -m deep tests/deep --durations=10

record: setup  ## run every recorded arm that is not finished, then redraw what quotes them
	$(PY) -m r1lite record

setup:
	@command -v $(PYTHON) >/dev/null || { echo "set-up stopped: $(PYTHON) was not found. Install Python 3.10 to 3.13, or name one: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) r1lite/environment.py

setup-deep:
	@command -v $(PYTHON) >/dev/null || { echo "set-up stopped: $(PYTHON) was not found. Install Python 3.10 to 3.13, or name one: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@$(PYTHON) r1lite/environment.py --deep

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/'
