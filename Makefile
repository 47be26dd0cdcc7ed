# Every target sets up what it needs: a virtual environment in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.capplan-dev
# a worker for each core; one that is done takes tests from the other's end
PYTEST := $(BIN)/python -m pytest -n logical --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help dev check lint types layers unit small test verify demo examples bench golden-accept clean

help: ## show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "capplan needs Python 3.11 or later; $(PYTHON) is older (make PYTHON=python3.12 ...)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

dev: $(STAMP) ## virtual environment with everything for development

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy --strict capplan lab

layers: $(STAMP)
	$(BIN)/lint-imports

unit: $(STAMP)
	$(PYTEST)

check: lint types layers unit ## ruff, mypy --strict, import-linter, pytest

# The same small cases twice more: as plain Python, and compiled with bounds checks
# (out-of-range reads are silent otherwise).
small: $(STAMP)
	CAPPLAN_JIT=0 $(PYTEST) -q -m small
	NUMBA_BOUNDSCHECK=1 $(PYTEST) -q -m small

test: check small ## check, then the small cases un-jitted and with bounds checks

verify: $(STAMP) ## slow checks (convergence over the granule order); pictures in build/verification
	$(BIN)/python -m pytest -q tests/verification -o python_files='verify_*.py'

demo: $(STAMP) ## simulate a shipped node and print the verdict
	$(BIN)/capplan demo

examples: $(STAMP) ## draw the reports of reports/examples again
	$(BIN)/python -m tests.report.examples

bench: $(STAMP) ## benchmarks (medians; not part of test)
	$(BIN)/python -m benchmarks

golden-accept: $(STAMP) ## accept the present output as the golden files
	CAPPLAN_GOLDEN_ACCEPT=1 $(BIN)/python -m pytest -q $(wildcard tests/golden) tests/test_docs.py tests/recordings tests/validate/test_fidelity.py tests/evidence

clean: ## remove the environment and all caches
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
