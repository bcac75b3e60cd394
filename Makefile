# `make demo` and `make test` are all a newcomer needs; each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint unit bench results clean

# The stamps are newer than the files they came from, so that a second call installs nothing.
$(VENV)/run.stamp: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	touch $@

demo: $(VENV)/run.stamp
	$(BIN)/forensift demo --out demo-out

test: lint unit

lint: $(VENV)/test.stamp
	$(BIN)/ruff check src tests benchmarks paper notebooks
	$(BIN)/ruff format --check src tests benchmarks paper notebooks
	$(BIN)/mypy src

unit: $(VENV)/test.stamp
	$(BIN)/python -m pytest

bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/lrp.py
	$(BIN)/python benchmarks/dropout.py

# A larger demo, whose tables become docs/results.md.
results: $(VENV)/run.stamp
	$(BIN)/forensift demo --per-family 40 --out runs/results
	cp runs/results/results.md docs/results.md

clean:
	rm -rf $(VENV) build demo-out runs .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
