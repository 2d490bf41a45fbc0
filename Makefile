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

# Two processes with a thread each: twice as fast on two cores as one process with two threads. In the order of names, so that the longest file, which has few tests, is not left for the end.
test: $(STAMP) lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-extended: $(STAMP)
	$(BIN)/pytest -m extended

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tables for benchmarks/RESULTS.md, about five quarters of an hour on one core; what a run keeps in runs/bench is taken up again. DATA: the folder of real data.
DATA ?= DATA
bench: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@mkdir -p runs/bench
	$(BIN)/python benchmarks/sample_efficiency.py --keep runs/bench
	$(BIN)/python benchmarks/surrogate.py --keep runs/bench --data $(DATA)
	$(BIN)/python benchmarks/other_libraries.py --truth runs/bench/digits.npz
	$(BIN)/python benchmarks/figure8.py --pool runs/bench/permutations.npy
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/variance.py
	$(BIN)/python benchmarks/masked_forward.py
	$(BIN)/python benchmarks/flips.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/inception.py --data $(DATA)

# Reports, the chart of README, and tables in README, docs/results.md, recipe headers and reports/paper.md, from the committed result JSON; the stored texts of tests/golden.
figures: $(STAMP)
	$(BIN)/python -m tools.result_schema
	$(BIN)/python -m tools.views reports
	$(BIN)/python -m tools.chart reports/fig3a_fairness/result.json docs/repair.svg
	$(BIN)/python -m tools.paper reports
	$(BIN)/python -m tools.embed README.md docs/results.md recipes/*.toml
	REPAIRKIT_WRITE_GOLDEN=1 $(BIN)/pytest -q tests/report/test_golden.py

# The two networks that ship with the package, trained anew (about 20 minutes on one core).
stand-ins: $(STAMP)
	$(BIN)/python -m tools.train_examples repairkit/models/weights

clean:
	rm -rf .venv build dist *.egg-info
