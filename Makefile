# Everything starts from a bare machine with git, make and Python 3.11 with venv.
# The virtual environment holds exactly what requirements.lock names, and is built
# anew when the content of the lock changes: its stamp carries the digest.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

LOCK_DIGEST := $(shell sha256sum requirements.lock | cut -c1-16)
PROJECT_DIGEST := $(shell sha256sum pyproject.toml | cut -c1-16)
LOCKED := $(VENV)/.locked-$(LOCK_DIGEST)
INSTALLED := $(VENV)/.installed-$(LOCK_DIGEST)-$(PROJECT_DIGEST)
BENCH_LOCKED := $(VENV)/.bench-$(LOCK_DIGEST)-$(shell sha256sum requirements-bench.lock | cut -c1-16)

# Checked and formatted; examples/ as soon as it is there.
CODE := hermes tools tests $(wildcard examples)
TESTS ?= tests

.DEFAULT_GOAL := help
.PHONY: help venv serve test torture simulate interop bench lint format proto lock clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# No prerequisite: the name carries the digest, and a touched file must not cost the
# environment that somebody is using.
$(LOCKED):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hermes needs Python 3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# The build backend comes from the lock as well, hence no isolation.
$(INSTALLED): $(LOCKED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

venv: $(INSTALLED) ## make the virtual environment from the lock

serve: venv ## run the broker with its store in ./hermes-data
	@exec $(BIN)/hermes serve

test: venv ## run the tests (TESTS=path for some of them)
	$(BIN)/python -m pytest -q -n logical $(TESTS)

torture: venv ## run the long fault tests
	$(BIN)/python -m pytest -m torture --timeout=0 $(TESTS)

simulate: venv ## run the simulation at length (SIM_SEEDS, SIM_STEPS, SIM_FIRST)
	$(BIN)/python -m tests.support.simulate --first $(or $(SIM_FIRST),0) \
		--seeds $(or $(SIM_SEEDS),10000) --steps $(or $(SIM_STEPS),2000)

interop: venv ## run the Rust client of the original crate against a real server (needs cargo)
	tests/interop/run

# The peers' clients come on top of the lock, and never into it.
$(BENCH_LOCKED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

bench: $(BENCH_LOCKED) ## measure Hermes and the peers that are installed (BENCH=options)
	$(BIN)/hermes-bench $(BENCH)

lint: venv ## check style, formatting, types and layers
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo

format: venv ## format the code and fix what can be fixed safely
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

proto: venv ## generate the protobuf code from proto/
	$(BIN)/python tools/generate_proto.py

lock: ## pin anew what pyproject.toml asks for (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --extra dev --upgrade pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --extra bench --upgrade -c requirements.lock pyproject.toml \
		-o requirements-bench.lock

clean: ## remove the virtual environment, caches and builds; never ./hermes-data
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
