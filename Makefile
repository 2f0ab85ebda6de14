# The commands for daily work. Needs Python 3.11 or newer, make and git.

PYTHON ?= python3
BENCH ?= cpu
PORT ?= 5000
DATABASE_PORT ?= 5433
WORKERS ?= 2
VENV := .venv
INSTALLED := $(VENV)/.installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# No usage reports to anyone.
export MLFLOW_DISABLE_TELEMETRY := true
export ORT_DISABLE_TELEMETRY := 1
export DVC_NO_ANALYTICS := true
# Python keeps compiled code, whatever the environment says; otherwise every process compiles it again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run test test-fast test-long lint types ui tracking-server dashboard params lock clean bench gpu-cargo

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## run the pipeline with the settings of params.yaml, and show the results
# Outside a git repository, DVC works only with this setting, and without experiments.
	@git rev-parse --git-dir >/dev/null 2>&1 || dvc config --local core.no_scm true
	dvc repro
	@darkroom results

# Test files are distributed over processes in the order that tests/plugin.py sets.
PYTEST := pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## run the tests, in WORKERS processes (2)
	$(PYTEST)

test-fast: $(INSTALLED) ## run the fast tests: no pipelines, servers or browsers
	$(PYTEST) -m "not slow"

test-long: $(INSTALLED) ## run all tests, with whole races, all kills and more fuzzing: hours
	$(PYTEST) --long

lint: $(INSTALLED) ## check style and mistakes with ruff
	ruff check .
	ruff format --check .

types: $(INSTALLED) ## check types with mypy in strict mode
	mypy

ui: $(INSTALLED) ## open MLflow on your runs; PORT sets the port (5000)
	python -m deploy.ui --port $(PORT)

tracking-server: $(INSTALLED) ## start MLflow for a team, with passwords, on PostgreSQL; PORT and DATABASE_PORT set the ports
	python -m deploy.tracking_server --port $(PORT) --database-port $(DATABASE_PORT)

dashboard: $(INSTALLED) ## open Optuna Dashboard for the searches, on http://127.0.0.1:8080
	darkroom dashboard

bench: $(INSTALLED) ## run the benchmarks BENCH=cpu, gpu, serve, search, photos, audit or scale, and write docs/performance.md
	python -m benchmarks $(BENCH) $(ARGS)

params: $(INSTALLED) ## rewrite params.yaml with the values set in it, and its schema, after a change of the settings
	python -m darkroom.commands.params

gpu-cargo: $(INSTALLED) ## pack DATA, a mirror, and wheels for measuring on a GPU; AIRBENCH adds a comparison with it
	python -m benchmarks.gpu_cargo --data "$(or $(DATA),$(DARKROOM_MIRROR))" $(if $(AIRBENCH),--airbench "$(AIRBENCH)") $(if $(PIPELINE),--pipeline)

# The hashes of all files that may be installed, for all platforms. Nothing published within the last week: most packages
# that were tampered with are found and withdrawn within that time.
COMPILE := uv pip compile --universal --upgrade --generate-hashes --exclude-newer "1 week" --quiet \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(INSTALLED) ## pin the newest versions that pyproject.toml allows, here and for the images
	$(COMPILE) pyproject.toml --extra dev --python-version 3.11 --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra serve --python-version 3.11 --constraint requirements.lock --no-annotate \
		--output-file requirements-serve.lock
	$(COMPILE) deploy/requirements.in --python-version 3.12 --constraint requirements.lock --no-annotate \
		--output-file deploy/requirements.lock

clean: ## remove generated files; keep settings, your images, MLflow runs and DVC's cache
	rm -rf $(VENV) data/raw data/processed models reports \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d; set PYTHON=" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
# uv installs in a quarter of the time, but does not read pip's configuration; if that is needed, pip installs. Both refuse
# a file whose hash is not in the lock file. uv itself is installed in the same way.
	awk '/^uv==/ { found = 1 } found { print } found && !/\\$$/ { exit }' requirements.lock > $(VENV)/uv.lock
	$(VENV)/bin/python -m pip install --quiet --require-hashes --requirement $(VENV)/uv.lock
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --require-hashes --python $(VENV) \
		--requirement requirements.lock || \
		$(VENV)/bin/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
