# Everything a person types here. Needs Python 3.11 or newer, make and git.

PYTHON ?= python3
BENCH ?= cpu
PORT ?= 5000
DATABASE_PORT ?= 5433
WORKERS ?= 2
VENV := .venv
INSTALLED := $(VENV)/.installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# The project reports to nobody.
export MLFLOW_DISABLE_TELEMETRY := true
export ORT_DISABLE_TELEMETRY := 1
export DVC_NO_ANALYTICS := true
# Code is compiled once and not in every process, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-long lint types ui tracking-server dashboard lock clean bench gpu-cargo

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## download, preprocess, search, train, evaluate and register, as params.yaml says
# DVC works outside of git, without experiments, only if it is told to.
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	dvc repro
	@darkroom results

# Files of tests are shared out among processes in their order, which tests/plugin.py decides.
PYTEST := pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## the tests, in WORKERS processes (2)
	$(PYTEST)

test-fast: $(INSTALLED) ## those that take seconds: no pipelines, servers or browsers
	$(PYTEST) -m "not slow"

test-long: $(INSTALLED) ## the tests, and whole races, all kills and more fuzzing: hours
	$(PYTEST) --long

lint: $(INSTALLED) ## style and mistakes, by ruff
	ruff check .
	ruff format --check .

types: $(INSTALLED) ## types, by mypy in strict mode
	mypy

ui: $(INSTALLED) ## MLflow's page, opened on your runs; PORT to choose (5000)
	python -m deploy.ui --port $(PORT)

tracking-server: $(INSTALLED) ## MLflow for a team, with passwords, on PostgreSQL; PORT and DATABASE_PORT to choose
	python -m deploy.tracking_server --port $(PORT) --database-port $(DATABASE_PORT)

dashboard: $(INSTALLED) ## Optuna Dashboard on http://127.0.0.1:8080, for the searches
	darkroom dashboard

bench: $(INSTALLED) ## measure BENCH=cpu, gpu, serve or search, and write docs/performance.md
	python -m benchmarks $(BENCH)

gpu-cargo: $(INSTALLED) ## pack DATA, a mirror, and wheels for the day on a GPU; AIRBENCH to compare with it
	python -m benchmarks.gpu_cargo --data "$(or $(DATA),$(DARKROOM_MIRROR))" $(if $(AIRBENCH),--airbench "$(AIRBENCH)") $(if $(PIPELINE),--pipeline)

# Every file that may be installed, by its hash, for all platforms; nothing that was published within the last week, which
# is when most packages that somebody has tampered with are found and withdrawn.
COMPILE := uv pip compile --universal --upgrade --generate-hashes --exclude-newer "1 week" --quiet \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(INSTALLED) ## pin the newest versions that pyproject.toml allows in requirements.lock, and those of the images
	$(COMPILE) pyproject.toml --extra dev --python-version 3.11 --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra serve --python-version 3.11 --constraint requirements.lock --no-annotate \
		--output-file requirements-serve.lock
	$(COMPILE) deploy/requirements.in --python-version 3.12 --constraint requirements.lock --no-annotate \
		--output-file deploy/requirements.lock

clean: ## remove what was made here, but not settings, own images, MLflow runs or DVC's cache
	rm -rf $(VENV) data/raw data/processed models reports \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d; set PYTHON=" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
# uv installs in a quarter of the time. It does not read pip's configuration: where that is needed, pip installs. Both
# refuse a file whose hash is not in the lock file, and so is uv itself taken.
	awk '/^uv==/ { found = 1 } found { print } found && !/\\$$/ { exit }' requirements.lock > $(VENV)/uv.lock
	$(VENV)/bin/python -m pip install --quiet --require-hashes --requirement $(VENV)/uv.lock
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --require-hashes --python $(VENV) \
		--requirement requirements.lock || \
		$(VENV)/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
