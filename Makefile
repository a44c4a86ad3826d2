# One command per job, the same on a laptop and in CI. `make help` lists them.
# Only Python (with venv) and make are needed; every target makes the environment it runs in.

PYTHON ?= python3
VENV ?= .venv
VENV26 ?= .venv-torch26
VENV_INTEGRATIONS ?= .venv-integrations
PYTEST_ARGS ?=

SHELL := /bin/sh
.SHELLFLAGS := -euc
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export PIP_DISABLE_PIP_VERSION_CHECK := 1

CONSTRAINTS := requirements/constraints-dev.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS)
# Tests run beside each other; those that compare times (the marker `timed`) run alone afterwards.
WORKERS ?= logical
BESIDE := --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal
# Kernels of such tests have fewer cores than threads: a thread that waits for another sleeps
# meanwhile. By default it spins, which takes the core from the one that it waits for.
WAITING := OMP_WAIT_POLICY=passive
DEFAULT_TESTS := not slow and not models and not hypothesis_long and not browser
LONG_TESTS := (slow or models or hypothesis_long) and not browser
SERVED := $(addprefix tests/deploy/serving/test_serving_,load.py ray.py openapi.py)
CPU_TIME := tests/models/test_cpu_time_measured.py
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
# What `.ci/run` tests with torch 2.6: counts, shapes, memory, stored reports, the command line.
SMOKE26 := $(addprefix tests/,estimate/compute/test_flops.py estimate/compute/test_true_answers.py \
	trace/shapes/test_table.py trace/run/test_autocast.py estimate/memory/test_memory.py \
	estimate/memory/test_workspaces.py trace/operators/test_packed_sequences.py \
	trace/kernels/test_cuda_attention.py facts/test_stored_reports.py cli/test_cli.py \
	advise/battery/test_attention_code.py trace/run/test_imports_of_a_run.py \
	project/test_examples.py)
PYTEST26 := $(VENV26)/bin/python -m pytest $(PYTEST_ARGS)

# The environment grows in three steps, each with its stamp: what the package needs to run, what
# development and the default tests need, and the model libraries and peers of the long suites.
RUN := $(VENV)/.stamp-run
DEV := $(VENV)/.stamp-dev
MODELS := $(VENV)/.stamp-models
SERVING := $(VENV)/.stamp-serving
BROWSER := $(VENV)/.stamp-browser
TORCH26 := $(VENV26)/.stamp
INTEGRATIONS := $(VENV_INTEGRATIONS)/.stamp
WEB := web/node_modules/.stamp

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------- environment

.PHONY: setup setup-models
setup: $(DEV) ## make the development environment in .venv (done once, again when its pins change)
setup-models: $(MODELS) ## add the model libraries and the peers for test-models and bench

# numpy is not needed, but torch warns at import when it is missing.
$(RUN): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) scripts/check_python.py
	@echo "making $(VENV) (torch is large: the first time takes a minute or more)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable . numpy
	@touch $@

# torchvision goes in alone: left to its dependencies it could replace torch by another build.
$(DEV): $(RUN)
	@echo "adding the development tools to $(VENV)"
	@$(PIP) --no-deps torchvision
	@$(PIP) --editable ".[dev]"
	@touch $@

$(MODELS): $(DEV)
	@echo "adding the model libraries and the peers to $(VENV)"
	@$(PIP) --editable ".[dev,models,peers]"
	@touch $@

$(SERVING): $(DEV)
	@echo "adding Ray, ONNX and schemathesis to $(VENV)"
	@$(PIP) --editable ".[dev,serving]"
	@touch $@

$(BROWSER): $(DEV)
	@echo "adding Playwright and JupyterLab to $(VENV)"
	@$(PIP) --editable ".[dev,browser]"
	@touch $@

$(TORCH26): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) scripts/check_python.py
	@echo "making $(VENV26) with torch 2.6.0 (about 5 GB)"
	@test -x $(VENV26)/bin/python || $(PYTHON) -m venv $(VENV26)
	@{ grep -vE '^(torch|torchvision|sympy)==' $(CONSTRAINTS); cat requirements/torch26.txt; } > $(VENV26)/constraints.txt
	@$(VENV26)/bin/python -m pip install --quiet --constraint $(VENV26)/constraints.txt --editable ".[dev]"
	@$(VENV26)/bin/python -m pip install --quiet --constraint $(VENV26)/constraints.txt --no-deps torchvision
	@touch $@

# Lightning, Keras, MLflow and the like want other versions of some packages than development does.
$(INTEGRATIONS): pyproject.toml $(CONSTRAINTS) requirements/integrations.txt
	@$(PYTHON) scripts/check_python.py
	@echo "making $(VENV_INTEGRATIONS) with Lightning, Keras, MLflow, Weights & Biases, Aim, MCP"
	@test -x $(VENV_INTEGRATIONS)/bin/python || $(PYTHON) -m venv $(VENV_INTEGRATIONS)
	@awk -F== 'NR == FNR {own[$$1]; print; next} !($$1 in own)' requirements/integrations.txt $(CONSTRAINTS) > $(VENV_INTEGRATIONS)/constraints.txt
	@$(VENV_INTEGRATIONS)/bin/python -m pip install --quiet --constraint $(VENV_INTEGRATIONS)/constraints.txt --editable ".[integrations]"
	@touch $@

.PHONY: constraints
constraints: $(MODELS) $(SERVING) $(BROWSER) ## write the pins from what is installed in .venv
	@$(BIN)/python scripts/freeze.py > $(CONSTRAINTS).new
	@mv $(CONSTRAINTS).new $(CONSTRAINTS)
	@touch $(RUN) && touch $(DEV) && touch $(MODELS) && touch $(SERVING) && touch $(BROWSER)

# ---------------------------------------------------------------- show

.PHONY: demo
demo: $(RUN) ## print the table of examples/simple_cnn.py
	@$(BIN)/torchgauge summary examples/simple_cnn.py:SimpleCNN --input-size 3,224,224

# ---------------------------------------------------------------- check

.PHONY: test test-models test-cpu-time test-serving test-browser test-torch26 test-torch26-smoke
.PHONY: test-integrations image-test lint types imports check
test: $(DEV) ## run the test suite (a few minutes)
	@$(WAITING) $(PYTEST) $(BESIDE) -m "$(DEFAULT_TESTS) and not timed"
	@$(PYTEST) -m "$(DEFAULT_TESTS) and timed"

test-models: $(MODELS) ## run the long suites: published tables, 60 models, 500 random programs
	@$(WAITING) $(PYTEST) $(BESIDE) -m "$(LONG_TESTS) and not timed" $(addprefix --ignore=,$(SERVED))
	@$(PYTEST) -m "$(LONG_TESTS) and timed" --ignore=$(CPU_TIME)

test-cpu-time: $(MODELS) ## calibrate this CPU, then predict and measure 20 models (10 minutes or more)
	@$(PYTEST) -m "models" $(CPU_TIME)

test-serving: $(SERVING) ## servers under load, with a killed replica, and asked by schemathesis
	@$(PYTEST) -m "slow or models" $(SERVED) \
		tests/models/test_served_models.py::test_a_llama_as_onnx

test-browser: $(BROWSER) $(WEB) ## the page and JupyterLab in Chromium, by mouse and by keyboard (root installs Chromium)
	@scripts/with_chromium.sh $@ $(PYTEST) -m browser tests/web tests/notebook

test-torch26: $(TORCH26) ## run the test suite with torch 2.6.0 in an environment of its own
	@$(WAITING) $(PYTEST26) $(BESIDE) -m "$(DEFAULT_TESTS) and not timed"
	@$(PYTEST26) -m "$(DEFAULT_TESTS) and timed"

test-torch26-smoke: $(TORCH26) ## the demo, counts, memory and the command line with torch 2.6.0
	@$(VENV26)/bin/torchgauge summary examples/simple_cnn.py:SimpleCNN --input-size 3,224,224
	@$(WAITING) $(PYTEST26) $(BESIDE) -m "$(DEFAULT_TESTS) and not timed" $(SMOKE26)

test-integrations: $(INTEGRATIONS) ## callbacks, trackers and the MCP server with their real libraries
	@$(VENV_INTEGRATIONS)/bin/python -m pytest $(PYTEST_ARGS) tests/integrations

image-test: $(DEV) ## build the image with buildah, run it with podman, test it (needs root)
	@PYTHON=$(BIN)/python PYTEST_ARGS="$(PYTEST_ARGS)" docker/test/run.sh

lint: $(DEV) ## ruff: rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV) ## mypy --strict
	@$(BIN)/mypy

imports: $(DEV) ## import-linter: the stair of imports
	@$(BIN)/lint-imports

check: lint types imports test ## lint, types, imports and test

# ---------------------------------------------------------------- make

# The page's program: npm takes exactly what web/package-lock.json names. Byte for byte the same
# source gives the same file, which is checked in, so that the package is built without Node.js.
$(WEB): web/package.json web/package-lock.json
	@cd web && npm ci --no-audit --no-fund --silent
	@touch $@

.PHONY: web web-check
web: $(WEB) ## build the page's program (web/) into src/torchgauge/web/app.html; needs Node.js 20
	@cd web && npm run --silent build

web-check: web ## check that the file checked in is what web/ builds
	@git diff --exit-code --stat -- src/torchgauge/web/app.html

.PHONY: format bench bench-smoke gpu-truth-dry accuracy calibrate docs readme messages languages
.PHONY: advice gallery notebook-pictures wheel clean
format: $(DEV) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(MODELS) ## time torchgauge against bare runs and the peers
	@$(BIN)/python benchmarks/run.py

bench-smoke: $(MODELS) ## the benchmark on its smallest model, to see that it runs
	@$(BIN)/python benchmarks/run.py --smoke

gpu-truth-dry: $(DEV) ## the GPU recorder on the CPU: record, be killed, resume, compare
	@PYTHONPATH=src $(BIN)/python -m benchmarks.gpu_truth.dry_run

accuracy: $(MODELS) ## compare every prediction with records and data: docs/accuracy.md
	@PYTHONPATH=src $(BIN)/python -m benchmarks.accuracy

calibrate: $(MODELS) ## fit the predicted time on the published measurements beside the repository
	@PYTHONPATH=src $(BIN)/python -m benchmarks.time_sets.calibrate

docs: $(DEV) ## build the documentation into site/
	@$(BIN)/mkdocs build --strict --quiet

readme: $(DEV) ## run the README's blocks and write their output into it
	@$(BIN)/python scripts/update_readme.py

messages: $(DEV) ## list every text that a user can meet: docs/messages.md
	@$(BIN)/python scripts/list_messages.py

languages: $(DEV) ## bring the catalogues of other languages up to date with the source
	@PYTHONPATH=src $(BIN)/python scripts/update_catalogue.py

advice: $(MODELS) ## measure common advice: the table of docs/advice.md
	@PYTHONPATH=src $(BIN)/python scripts/advice_examples.py

gallery: $(MODELS) ## draw each figure and each view of the page: docs/gallery.md
	@PYTHONPATH=src $(BIN)/python scripts/make_gallery.py

notebook-pictures: $(MODELS) $(BROWSER) ## draw the pictures of docs/notebook.md in JupyterLab
	@PYTHONPATH=src $(BIN)/python scripts/picture_notebook.py

wheel: $(DEV) ## build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean: ## remove the environments and everything built
	docker/test/clean.sh
	rm -rf $(VENV) $(VENV26) $(VENV_INTEGRATIONS) build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
