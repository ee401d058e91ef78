.DEFAULT_GOAL := help
PYTHON ?= python3
BIN = .venv/bin
GOOGLEAPIS = $(shell $(BIN)/python -c "import google.api, pathlib; print(pathlib.Path(list(google.api.__path__)[0]).parents[1])")

# The user who calls make owns the secrets; root gives them to the group of the image's user. Set for compose only, since
# services refuse unknown settings.
COMPOSE = docker compose -f deploy/compose.yaml
CONTAINERS = image up down certificates logs demo-compose test-compose
$(CONTAINERS): export AIMASS_INIT_USER ?= $(shell id -u):$(shell id -g)
$(CONTAINERS): export AIMASS_SECRETS_GID ?= $(shell if [ $$(id -u) = 0 ]; then echo 10001; else id -g; fi)

.PHONY: help setup demo test test-far check proto docs bench fuzz properties image up down certificates logs demo-compose test-compose

help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-13s %s\n", $$1, $$2}'

setup: .venv/.all ## Creates .venv with all pinned dependencies

# The demo has a shorter list of its own, so that a newcomer waits for nothing else.
.venv/.%: requirements/%.txt pyproject.toml sdk/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "AI Mass needs Python 3.11 or newer; name one with PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing requirements/$*.txt into .venv, a minute or two"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$*.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e sdk -e .
	@$(BIN)/python -m compileall -q services sdk/aimass
	@touch $@

demo: $(if $(wildcard .venv/.all),,.venv/.demo) ## The main job in this terminal: from raw flights to watched predictions
	$(BIN)/python -m examples.flights

# A test run starts some two hundred processes. They share compiled modules, whatever the environment says: compiling
# takes as long as the rest of a start.
test test-far: export PYTHONDONTWRITEBYTECODE =

test: setup ## Runs every test that needs no server
	$(BIN)/python -m pytest -q -n logical --dist loadscope --no-loadscope-reorder -m "not far"

test-far: setup ## Runs the tests on Kafka, PostgreSQL, Redis, S3 and Triton, which it starts and stops
	$(BIN)/python -m tests.far

check: setup ## Checks types, style, structure, and that the generated code is up to date
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_structure.py
	$(MAKE) --no-print-directory proto && git diff --exit-code --stat -- sdk/aimass/v1 'sdk/aimass/*services.pyi'

proto: setup ## Generates sdk/aimass/v1 and the client's types from proto/
	PATH=$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto -I $(GOOGLEAPIS) --python_out=sdk --mypy_out=quiet:sdk \
	  --grpc_python_out=sdk --mypy_grpc_out=quiet:sdk --include_source_info --descriptor_set_out=.venv/api.binpb proto/aimass/v1/*.proto
	$(BIN)/python -m grpc_tools.protoc -I proto --include_source_info --descriptor_set_out=sdk/aimass/v1/inference.binpb proto/inference/*.proto
	$(BIN)/python sdk/tools/pack.py .venv/api.binpb sdk/aimass/v1/comments.json.gz
	PYTHONPATH=sdk $(BIN)/python sdk/tools/stubs.py sdk/aimass
	$(BIN)/ruff format --quiet --no-cache --isolated --line-length 120 sdk/aimass/v1/*.pyi sdk/aimass/*services.pyi

docs: setup ## Generates docs/configuration.md from the settings classes
	PYTHONPATH=.:sdk $(BIN)/python docs/tools/configuration.py docs/configuration.md

bench: setup ## Measures against other products
	$(BIN)/python -m tests.bench

fuzz: setup ## Sends a million damaged requests and a hundred thousand generated ones: no 5xx, no crash, no leak
	$(BIN)/python -m tests.fuzz $(FUZZ)

properties: setup ## Runs the property tests with examples that no run had before
	$(BIN)/python -m pytest -q -n logical --dist loadscope -m "hypothesis and not far" --hypothesis-profile=random

image: ## Builds the image of the services, and Triton's
	$(COMPOSE) build --quiet

up: image ## Starts the stack in containers, and says where it and the first key are
	@mkdir -p deploy/secrets deploy/import
	@$(COMPOSE) run --rm -T --no-deps init >/dev/null
	$(COMPOSE) up --detach --wait
	@deploy/where

down: ## Stops the containers and keeps their data (docker compose -f deploy/compose.yaml down --volumes deletes it)
	deploy/down

certificates: ## Renews certificates that expire soon; only Triton is restarted for them
	@deploy/renew

logs: ## Follows the output of the containers
	$(COMPOSE) logs --follow --tail 100

demo-compose: setup up ## Runs the main job against the containers
	deploy/demo

test-compose: setup image ## Runs the journeys against containers of their own, which are killed one by one
	$(BIN)/python -m tests.far.compose
