# Everything a contributor calls. A bare checkout needs Python 3.11 or newer and make; the rest is fetched, by hash.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
  command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# The stamp is named by what was installed: a changed lock or pyproject installs again, nothing else does.
STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# uv installs the same lock four times as fast; where it cannot (no wheel, a mirror it does not know), pip does.
UV := UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
PACKAGES := crds operator pipelines charts tests examples
GENERATE = $(BIN)/python -m millstream_api.crd $(1) && $(BIN)/python -m millstream_pipelines.cli.reference $(1)

.DEFAULT_GOAL := help
.PHONY: help venv demo test check format crds bench image cluster lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

venv: $(STAMP) ## make .venv with the pinned dependencies and this checkout

$(STAMP):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=…)" >&2; exit 1; }
	@echo "installing the pinned dependencies into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r .ci/uv.lock && $(UV) --require-hashes -r requirements.lock \
	  || $(PIP) --require-hashes -r requirements.lock
	@$(UV) --no-deps --editable . || $(PIP) --no-deps --editable .
	@rm -f $(VENV)/.installed-* && touch $@

demo: $(STAMP) ## real flights into an embedded PostgreSQL, twice, and a report
	@$(BIN)/python examples/demo-nycflights/demo.py

test: $(STAMP) ## all tests, those on a real cluster too
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadscope

check: $(STAMP) ## format, lint, types, layers, generated files
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(call GENERATE,--check)
	@if command -v helm >/dev/null; then $(BIN)/python charts/generate.py --check; \
	  else echo "helm is absent: what the chart generates is compared by tests/chart only"; fi

format: $(STAMP) ## format and repair what can be
	$(BIN)/ruff check --fix --quiet $(PACKAGES) ; $(BIN)/ruff format $(PACKAGES)

crds: $(STAMP) ## write the CRDs and the reference from the models
	$(call GENERATE,)

bench: $(STAMP) ## speed as a ratio to the limit measured in the same run
	@$(BIN)/python -m tests.benchmarks

image: ## build the operator and runner images with docker or buildah
	@.ci/image

cluster: $(STAMP) ## start the test node and print how to reach it
	@$(BIN)/python -m tests.cluster

lock: $(STAMP) ## pin the newest allowed dependencies
	UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra dev --upgrade pyproject.toml --output-file requirements.lock

clean: ## remove everything that was made here
	rm -rf $(VENV) .millstream build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
