# What can be done here; `make` alone lists it. Each target first installs what it needs into .venv.

SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help run demo test lint check bench soak install rollback uninstall clean

VENV := .venv
BIN := $(VENV)/bin
# What running needs is installed (565 MB, mostly pyarrow, pandas and DuckDB), or also what tests and checks need (812 MB).
RUN := $(VENV)/.ready-run
DEV := $(VENV)/.ready-dev
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCKED = $(PIP) --require-hashes -r .ci/locked/build.txt -r .ci/locked/run.txt

# How many tests run at once: they wait about as long as they compute.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

# Passed on to the command: make run ARGS="--set feed.interval_seconds=10", make test ARGS="-k watcher -x"
ARGS ?=

# The Python that .venv is made with: the first of these that works and is new enough.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	"$$python" -c '$(NEW_ENOUGH)' 2>/dev/null && echo "$$python" && break; done)

help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN) ## Run the service, with config.toml or none; ARGS="..." is passed on
	@$(BIN)/python -m bikeflow run $(ARGS)

demo: $(RUN) ## Show it all on a simulated city, with no network
	@$(BIN)/python -m bikeflow demo $(ARGS)

test: $(DEV) ## Run the tests, WORKERS at once; ARGS="..." goes to pytest: "-k watcher -x", "--long" for more rounds
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: $(DEV) ## Check format, style, types, import layers and workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github

check: lint ## The same and the quick tests: what to run before a commit
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" $(ARGS)

bench: $(DEV) ## Measure the main things; ARGS="[--json] NAME ... or all"
	@$(BIN)/python -m tests.benchmarks $(ARGS)

soak: $(DEV) ## Kill the service 500 times, break its storage for an hour, count; ARGS="--kills N --minutes M"
	@$(BIN)/python -m tests.soak $(ARGS)

install: ## Install, or upgrade, the systemd service (root); WHEEL=FILE installs that
	@systemd/install.sh install $(WHEEL)

rollback: ## Go back to the release before (root)
	@systemd/install.sh rollback

uninstall: ## Remove the service (root); PURGE=1 also its configuration, secrets and state
	@systemd/install.sh uninstall $(if $(PURGE),--purge)

clean: ## Remove .venv and caches; data stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find bikeflow tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An interrupted installation leaves no stamp, so that the next make goes on with it.
$(RUN): pyproject.toml $(wildcard .ci/locked/*.txt)
	@$(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		python="$(PYTHON)"; \
		"$${python:-false}" -c '$(NEW_ENOUGH)' || { \
			echo "bikeflow needs Python 3.11 or newer: apt-get install python3 python3-venv, or make PYTHON=..." >&2; exit 1; }; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
			package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
			echo "This Python can't make virtual environments yet: apt-get install $$package" >&2; exit 1; }; \
		echo "Making $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV); }
	@echo "Installing bikeflow and what it runs with into $(VENV), a minute or two"
	@$(LOCKED)
	@$(PIP) --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q bikeflow
	@touch $@

$(DEV): $(RUN)
	@echo "Installing what tests and checks need into $(VENV), a minute or two"
	@$(LOCKED) -r .ci/locked/test.txt
	@touch $@
