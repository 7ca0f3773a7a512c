# All that a person types. Every target installs what it needs into .venv, and is quick when it is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: quickstart test check bench faults clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   the main job on embedded servers: digits → GAN → serving → 1,000 pictures"
	@echo "make test         all tests"
	@echo "make check        format, lint, types, import contracts, fast tests"
	@echo "make bench        all benchmarks, one JSON object each"
	@echo "make faults       injects every fault that one machine can, checks every picture after it, prints a table"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -m "not slow"

test: $(STAMP)
	@infra/dev/test-tools.sh
	$(BIN)/pytest -q

quickstart: $(STAMP)
	$(BIN)/aigc quickstart

bench: $(STAMP)
	$(BIN)/python -m benchmarks.ledger
	$(BIN)/python -m benchmarks.footprint
	$(BIN)/python -m benchmarks.generation
	$(BIN)/python -m benchmarks.manifest

faults: $(STAMP)
	AIGC_MACHINE_EXAMPLES=1000 $(BIN)/pytest -q tests/contract/test_ledger_machine.py
	PYTHONPATH=tests:. $(BIN)/python -m faults
	PYTHONPATH=tests:. $(BIN)/python -m faults.kill_loop --rounds $(or $(ROUNDS),60)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
