# make book   the pages, in _build/html/index.html
# make test   lint, types, unit tests, every chapter on the smoke profile, the built pages
# Both create .venv themselves. Another interpreter: make book PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: book test lint types tests benchmark lock clean

book: $(INSTALLED)
	$(BIN)/effnotes build

test: lint types tests

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)
	$(BIN)/mypy

tests: $(INSTALLED)
	$(BIN)/pytest

benchmark: $(INSTALLED)
	$(BIN)/pytest -o addopts= --import-mode=importlib tests/benchmarks

# The lock is one for all supported versions of Python and names no index; needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --all-extras pyproject.toml -o requirements.lock

clean:
	rm -rf _build

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "effnotes needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@
