# make book       the pages, in _build/html/index.html
# make test       lint, types, unit tests, every chapter on the smoke profile, the built pages
# make test-all   all tests, with those that kill processes, fill disks, start clusters or run a chapter in many ways
# All create .venv themselves. Another interpreter: make book PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# All but `lab`, which has 34 packages that neither the pages nor most tests need.
EXTRAS := cluster,slides,gguf,lrp,dev
# Two processes, and each file in one of them, which makes its fixtures once.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Builds and tests start hundreds of processes. What they import is compiled once, also where a shell wants no bytecode kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: book test test-all test-avx2 lint types tests benchmark readme lock clean

book: $(INSTALLED)
	$(BIN)/effnotes build

test: lint types tests

test-all: test
	$(PYTEST) -m slow

tests: $(INSTALLED)
	$(PYTEST) -m "not slow"

# Trainings as a processor without AVX-512 computes them.
test-avx2: $(INSTALLED)
	ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m "not slow" tests/unit/test_training*.py tests/unit/test_pruning*.py

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

benchmark: $(INSTALLED)
	$(BIN)/pytest -o addopts= --import-mode=importlib tests/benchmarks

# What README.md says of the kept records, and its picture; to be made again when a record is.
readme: $(INSTALLED)
	$(BIN)/python -m effnotes.studies.readme

# The lock is one for all supported versions of Python and names no index.
lock: $(INSTALLED)
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras pyproject.toml -o requirements.lock

clean:
	rm -rf _build

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "effnotes needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.9,<1"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable '.[$(EXTRAS)]'
	touch $@
