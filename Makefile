# make demo: from nothing to a repaired model and a report. make test: the same set-up, then the tests.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-extended lint bench figures stand-ins clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "repairkit needs Python 3.11 or newer; run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/repairkit fairness --model squeezenet_celeba

test: $(STAMP) lint
	$(BIN)/pytest

test-extended: $(STAMP)
	$(BIN)/pytest -m extended

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/masked_forward.py

# Tables in README and recipe headers, from the committed result JSON.
figures: $(STAMP)
	$(BIN)/python -m repairkit.report.embed README.md recipes/*.toml

# The two networks that ship with the package, trained anew (about 20 minutes on one core).
stand-ins: $(STAMP)
	$(BIN)/repairkit train --stand-ins repairkit/models/weights

clean:
	rm -rf .venv build dist *.egg-info
