# Everything runs in a virtual environment of the checkout's own. `make demo` shows the project, the rest is for working on it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto
TESTS ?= tests
# 2.0 needs Node 22
CLIENT_NODE ?= @kubernetes/client-node@1.3.0

.PHONY: demo test clients client-e2e lint golden fuzz bench chaos venv clean

demo: $(VENV)/.installed ## start a cluster, deploy a web application, break things, watch them heal
	$(BIN)/python deploy/demo.py

test: $(VENV)/.installed-dev ## all tests but the slow ones
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(TESTS)

clients: $(VENV)/.installed-dev ## large clients that some tests drive and skip without: Helm, and @kubernetes/client-node if there is npm
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[clients]'
	! command -v npm >/dev/null || npm install --silent --no-audit --no-fund --prefix build/node $(CLIENT_NODE)

client-e2e: $(VENV)/.installed-dev ## the end-to-end tests of client projects, out of their source distributions; CLIENT_E2E="--only kr8s" chooses
	$(BIN)/python scripts/client_e2e.py $(CLIENT_E2E)

lint: $(VENV)/.installed-dev ## style, types, architecture
	$(BIN)/python -m ruff check .
	scripts/typecheck_tree.sh
	MYPYPATH=build/typecheck $(BIN)/python -m mypy -p kubecosm
	$(BIN)/python scripts/lint_imports.py

golden: $(VENV)/.installed-dev ## compare with recorded exchanges of a kube-apiserver, if there are any; GOLDEN="--help" tells the options
	$(BIN)/python -m tests.golden $(GOLDEN)

fuzz: $(VENV)/.installed-dev ## random requests until something breaks; FUZZ="--seed 1 --requests 100000" repeats a run
	$(BIN)/python -m tests.fuzz $(FUZZ)

bench: $(VENV)/.installed-dev ## measure; BENCH="--help" tells the options
	$(BIN)/python -m bench $(BENCH)

chaos: $(VENV)/.installed ## break a cluster from seeds; SEEDS="7 42" repeats runs
	PYTHON=$(BIN)/python deploy/chaos.sh $(SEEDS)

venv: $(VENV)/.installed-dev ## the virtual environment with everything for development

clean: ## forget the virtual environment and what tools left
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("kubecosm needs Python 3.11 or newer: make PYTHON=python3.11 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.installed
