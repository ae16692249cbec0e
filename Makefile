# Every target sets up what it needs in .venv, from a bare clone.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2

.PHONY: demo test check docs bench stress reproduce clean

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,lite,track]'
	touch .venv/.done

demo: .venv/.done
	$(BIN)/foveate demo

test: .venv/.done
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q --durations=10

check: .venv/.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

docs: .venv/.done
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: .venv/.done
	$(BIN)/python -m benchmarks

stress: .venv/.done
	$(BIN)/python -m pytest -q -m stress

reproduce: .venv/.done
	$(BIN)/python -m experiments

clean:
	rm -rf .venv demo site
