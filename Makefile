# Every target makes its own .venv from a bare clone: Python 3.11 or later with pip is enough.
# Pass arguments with ARGS, as in: make test ARGS='tests/unit -x'

VENV ?= .venv
WORKERS ?= 2
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Relative, because pip splits these at spaces. They also hold inside pip's isolated builds.
export PIP_CONSTRAINT := config/constraints.txt
export PIP_BUILD_CONSTRAINT := config/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test main-job e2e crash machine soak storm mutants check format bench bench-gc
.PHONY: bench-concat bench-trickle bench-statement settings wheel clean

help:  ## what can be made
	@sed -n 's/^\([a-z0-9-]*\):.*##  *\(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | tr '#' '\t'

run: $(READY)  ## starts the service on 127.0.0.1:8080, data in ./filestore-data
	$(BIN)/filestore serve $(ARGS)

test: $(READY)  ## all tests but the long ones, on SQLite, PostgreSQL, disk, SeaweedFS, MinIO
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --ignore=tests/e2e --ignore=tests/crash $(ARGS)

main-job: $(READY)  ## the main job with real clients, and crashes: in small, some minutes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/e2e tests/crash $(ARGS)

e2e: $(READY)  ## the long ones: the main job at full size
	$(BIN)/python -m pytest -m e2e $(ARGS)

crash: $(READY)  ## kills the server at every failpoint, and 3,000 times at random: 1,000 on each backend
	FILESTORE_CRASH_ROUNDS=$${FILESTORE_CRASH_ROUNDS:-1000} \
		$(BIN)/python -m pytest tests/crash -m '' $(ARGS)

machine: $(READY)  ## random histories against a plain model, some minutes; FILESTORE_MACHINE_SEED repeats
	FILESTORE_MACHINE_EXAMPLES=$${FILESTORE_MACHINE_EXAMPLES:-100} \
		$(BIN)/python -m pytest tests/model/test_machine.py -rP --timeout 0 $(ARGS)

soak: $(READY)  ## mixed load for SOAK_SECONDS (120) on each backend while it collects all the time
	SOAK_SECONDS=$${SOAK_SECONDS:-120} \
		$(BIN)/python -m pytest tests/e2e/test_soak.py -m '' -rP $(ARGS)

storm: $(READY)  ## STORM_OPERATIONS (10000) by 32 clients with kill -9 in between; the books are audited
	STORM_OPERATIONS=$${STORM_OPERATIONS:-10000} \
		$(BIN)/python -m pytest tests/crash/test_storm.py -m '' -rP --timeout 0 $(ARGS)

mutants: $(READY)  ## takes rules of the design out of a copy, one at a time: tests must fail
	$(BIN)/python tests/mutants.py $(ARGS)

check: $(READY)  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## puts the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## MB/s and memory of uploads, beside a plain S3 client
	$(BIN)/python bench/ingest.py $(ARGS)

bench-trickle: $(READY)  ## memory and pace of the service beside 500 slow uploads
	$(BIN)/python bench/trickle.py $(ARGS)

bench-gc: $(READY)  ## what a collection costs and delays, on 200,000 and on 2 million blocks
	$(BIN)/python bench/collecting.py $(ARGS)

bench-statement: $(READY)  ## a statement and a verification of a million rows, beside a plain export
	$(BIN)/python bench/statement.py $(ARGS)

bench-concat: $(READY)  ## what a concatenation costs, beside tusd where there is one
	$(BIN)/python bench/concat.py $(ARGS)

settings: $(READY)  ## writes config/default.toml anew from the settings in the code
	$(BIN)/python -m filestore.settings > config/default.toml.new
	mv config/default.toml.new config/default.toml

wheel: $(READY)  ## builds dist/filestore-*.whl
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## removes .venv, caches and builds; never data
	rm -rf $(VENV) dist build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml config/constraints.txt
	@test -n '$(PYTHON)' || { echo 'filestore needs Python 3.11 or later: make PYTHON=...' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
