# Everything this project does to itself. A machine needs Python 3.11 or newer with venv and pip, make and git.

.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/sh

# The first of these that runs and is new enough; or say PYTHON=python3.12.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMP := $(VENV)/.ready-$(VERSION)
BIN := $(VENV)/bin
T ?=
# Suites that mostly wait for servers, and rows of which each has a server of its own.
SERVERS := tests/connectors tests/deploy
ROWS := tests/scenarios/test_kafka_rows.py tests/scenarios/test_kafka_races.py

.PHONY: help
help:  ## lists the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

.PHONY: setup
setup: $(STAMP)  ## builds .venv with the pinned packages; nothing to do the second time

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(VERSION)" || { echo "no Python 3.11 or newer with venv and pip was found: say PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up $(VENV) with Python $(VERSION)"
	@test -f $@ || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: setup  ## the first minute, as a user sees it; LOG=postgresql://… or kafka://… puts it on a server, LOG=kafka starts one
	@$(if $(filter kafka,$(LOG)),$(BIN)/python deploy/kafka/demo.py,$(BIN)/contrapas demo $(if $(LOG),--log '$(LOG)'))

.PHONY: test
ifeq ($(T),)
test: setup check  ## says "ready": all of it; make test T=core/test_fold.py for one
	@echo "tests with real servers run beside the others; theirs are printed at the end"
	@mkdir -p build; $(BIN)/python -m pytest -q --durations=12 -p no:cacheprovider $(SERVERS) > build/servers.txt 2>&1 & beside=$$!; \
		$(BIN)/python -m pytest -q --durations=25 --ignore=tests/repo $(SERVERS:%=--ignore=%); rest=$$?; \
		wait $$beside; servers=$$?; cat build/servers.txt; test $$rest -eq 0 && test $$servers -eq 0
	@echo ready
else
test: setup
	@$(BIN)/python -m pytest $(foreach t,$(T),$(if $(wildcard tests/$(t)),tests/$(t),$(t)))
endif

.PHONY: smoke
smoke: setup  ## the tests that are not marked slow and need no server
	@$(BIN)/python -m pytest -q -m "not slow" --ignore=tests/repo --ignore=tests/typing --ignore=tests/fuzz \
		--ignore=tests/simulation $(SERVERS:%=--ignore=%) $(ROWS:%=--ignore=%)

.PHONY: check
check: setup  ## format, lint, exports, import contracts, types, wheel; the first failure ends it
	@mkdir -p build
	@$(BIN)/ruff format --check --output-format concise . > build/format.txt 2>&1 || { cat build/format.txt; echo "run: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/python -m pytest -q --no-header -p no:cacheprovider tests/repo
	@PYTHONPATH=engine:connectors:schemas $(BIN)/lint-imports --no-cache > build/imports.txt 2>&1 || { cat build/imports.txt; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/pyright --pythonpath $(BIN)/python --warnings > build/pyright.txt 2>&1 || { cat build/pyright.txt; exit 1; }
	@rm -rf build/wheel && $(BIN)/python -m build --no-isolation --wheel --outdir build/wheel > build/build.txt 2>&1 || { cat build/build.txt; exit 1; }
	@$(BIN)/check-wheel-contents build/wheel > build/wheel.txt 2>&1 || { cat build/wheel.txt; exit 1; }
	@echo "check: all clean"

.PHONY: format
format: setup  ## puts the code into shape
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

.PHONY: bench
bench: setup  ## one line of JSON per benchmark
	@for f in benchmarks/bench_*.py; do $(BIN)/python $$f || exit 1; done

CASES ?= 20000
SEED ?= 0
JOBS ?= 2
TIME ?= 36000

.PHONY: differential
differential: setup  ## random sagas natively and compiled; CASES=1000000 SEED=0 JOBS=2 TIME=seconds; goes on where it ended
	@$(BIN)/python -m contrapas.testing.differential --cases $(CASES) --seed $(SEED) --jobs $(JOBS) --time $(TIME) \
		--state build/differential.jsonl

SEEDS ?= 0
RING ?= 1

.PHONY: simulate
simulate: setup  ## simulated worlds with faults at every point; SEEDS=1000 or TIME=seconds, SEED=first, JOBS=2, RING=2
	@PYTHONPATH=engine:schemas:. $(BIN)/python -m tests.simulation --ring $(RING) --seeds $(SEEDS) --first $(SEED) --jobs $(JOBS) \
		$(if $(filter 0,$(SEEDS)),--time $(if $(filter 36000,$(TIME)),60,$(TIME)))

.PHONY: fuzz
fuzz: setup  ## decoders, files, command line, HTTP and engine under inputs that nobody made; TIME=seconds in all
	@n=$$($(BIN)/python -m pytest -q --collect-only tests/fuzz 2>/dev/null | grep -c ::); \
		FUZZ_TIME=$$(( $(TIME) / (n ? n : 1) + 1 )) $(BIN)/python -m pytest -q tests/fuzz

.PHONY: services
services: setup  ## fetches the servers that tests start for themselves: PostgreSQL, oldest and newest, Kafka, Debezium
	@$(BIN)/python deploy/postgres/server.py fetch
	@$(BIN)/python deploy/kafka/server.py fetch
	@$(BIN)/python deploy/debezium/engine.py fetch

.PHONY: postgres
postgres: setup  ## a private PostgreSQL until Ctrl-C; prints its address
	@$(BIN)/python deploy/postgres/server.py run

NODES ?= 1

.PHONY: kafka
kafka: setup  ## a private Kafka until Ctrl-C, NODES=3 for three brokers; prints its address
	@$(BIN)/python deploy/kafka/server.py run --nodes $(NODES)

.PHONY: clean
clean:  ## removes what the other targets made, .venv excepted
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .contrapas
