# make demo: install into .venv and draw from a tilted model.   make test: install the test tools, run the suite.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/installed
	@echo "drawing from the tilted demo model into results/"
	$(BIN)/python flows/mc_aligned.py --lam -0.5 --value humor --nsamples 50

test: .venv/tested
	@echo "running the whole suite"
	$(BIN)/python -m pytest

lint: .venv/linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml
	@echo "installing exptilt into .venv (about two minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	@touch $@

.venv/linted: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[lint]"
	@touch $@

clean:
	rm -rf .venv results
