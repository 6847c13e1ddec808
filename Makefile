# make demo: install into .venv and draw from a tilted model.   make test: install the test tools, run the suite.
# make docs: run the code of the documentation, build its site into site/, and look at it in a browser.
# make soak: long runs under faults, with their figures.   make families: try every model class of the library.
# make real: a real chat model by generate, exptilt and vLLM; REAL_MODEL and REAL_VLLM name those that are there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test docs site soak families real lint clean

demo: .venv/installed
	@echo "drawing from the tilted demo model into results/"
	$(BIN)/python flows/mc_aligned.py --lam -0.5 --value humor --nsamples 50

test: .venv/tested
	@echo "running the whole suite"
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

docs: .venv/tested .venv/documented
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[notebook]"
	@echo "running the code of the documentation, page by page (about ten minutes)"
	$(BIN)/python docs/tools/run_blocks.py
	$(BIN)/python docs/tools/run_notebook.py
	$(MAKE) site
	$(BIN)/python docs/tools/look.py

site: .venv/documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "the documentation is site/index.html"

soak: .venv/tested
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test,ray]"
	@echo "running the long runs under faults"
	$(BIN)/python -m pytest -m soak -s --timeout 1800

families: .venv/tested
	@echo "trying every causal language model of the library; the table goes to docs/reference/families.md"
	HF_HUB_OFFLINE=1 $(BIN)/python tests/try_families.py > docs/reference/families.md

real: .venv/tested
	@echo "drawing from a real chat model in four ways, which must be one law"
	HF_HUB_OFFLINE=1 GOMP_SPINCOUNT=1000 VLLM_CPU_KVCACHE_SPACE=2 $(BIN)/python benchmarks/real.py --model "$(REAL_MODEL)" --vllm "$(REAL_VLLM)"
	@echo "tilting it by resampling, moves and steering (about twenty minutes)"
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/real_steering.py --model "$(REAL_MODEL)"

lint: .venv/linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

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

.venv/documented: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

.venv/all: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -e ".[test,lint,docs]"
	@touch .venv/installed && touch .venv/tested .venv/linted .venv/documented $@

clean:
	rm -rf .venv results site
