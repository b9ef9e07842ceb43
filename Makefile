# Everything a person or CI does with this tree. `make` alone prints what there is.
# Variables: PYTHON (interpreter for the virtual environment, 3.11 or newer), ARGS (passed on to pytest or the benchmarks),
# MINUTES (of `make test-thorough` and `make fuzz`), ROUNDS, FROM and SEED (of `make crash-rounds`).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
endif

NO_PYTHON := vpclab: no Python 3.11 or newer found; run: apt-get install -y gcc libc6-dev python3-dev python3-venv \
    (or have one elsewhere: make PYTHON=/path/to/python3.11 ...)

VENV := .venv
PY := $(VENV)/bin/python
MINUTES := 30
ROUNDS := 500
FROM := 1
LAB_FILE := examples/quickstart.yaml
COMPILED := $(patsubst fastpath/%.pyx,fastpath.%,$(wildcard fastpath/*.pyx))
INSTALL := VPCLAB_INSTALL=1 $(PY) -m pip install --no-build-isolation --editable

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:  ## print this
	@echo 'vpclab: a cloud network you can ping. First time here: make lab'
	@echo
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

# -- set-up: each step leaves a stamp, so that the second run is quick ------------------------------------------------

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then echo '$(NO_PYTHON)' >&2; exit 3; fi
	@$(PYTHON) -P lab/preflight.py build
	@echo '== virtual environment in $(VENV) ($(PYTHON))'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.builds: pyproject.toml $(VENV)/.created
	@echo '== what the build needs'
	@$(PY) -m pip install 'setuptools>=77' 'Cython>=3.1,<4' 'wheel'
	@touch $@

$(VENV)/.extensions: setup.py $(wildcard fastpath/*.pyx fastpath/*.pxd fastpath/*.h) $(VENV)/.builds
	@$(PY) -P lab/preflight.py build
	@echo '== compiled modules'
	@$(PY) setup.py --quiet build_ext --inplace --parallel $(shell nproc)
	@touch $@

$(VENV)/.runs: pyproject.toml | $(VENV)/.extensions
	@echo '== what vpclab needs'
	@$(INSTALL) '.[scapy]'
	@touch $@

$(VENV)/.tests: pyproject.toml | $(VENV)/.runs
	@echo '== what tests and checks need'
	@$(INSTALL) '.[dev]'
	@touch $@

.PHONY: build develop
build: $(VENV)/.runs $(VENV)/.extensions  ## virtual environment, dependencies, compiled modules
develop: $(VENV)/.tests $(VENV)/.extensions  ## the same, with what tests and checks need

# -- the lab ----------------------------------------------------------------------------------------------------------

.PHONY: lab lab-down
lab: build  ## start the quickstart lab (or reuse it) and show who reaches whom
	@$(PY) -P lab/preflight.py lab
	@./vpclab status --lab quickstart >/dev/null 2>&1 || ./vpclab up $(LAB_FILE)
	@./vpclab report --lab quickstart

lab-down:  ## stop the quickstart lab
	@if [ -e "$${XDG_STATE_HOME:-$$HOME/.local/state}/vpclab/quickstart" ]; then ./vpclab down quickstart; \
	else echo 'lab quickstart is not running'; fi

# -- tests ------------------------------------------------------------------------------------------------------------

# End-to-end tests mostly wait for kernels and programs, so more of them at once than there are processors.
SIDE_BY_SIDE := -n 4 --dist loadgroup

.PHONY: test test-thorough crash-rounds shortages hostile floods unit e2e rootless
test: develop  ## all tests, as the user you are
	@$(PY) -P lab/preflight.py lab
	@$(PY) -P lab/preflight.py test
ifneq ($(strip $(ARGS)),)
	@$(PY) -P -m pytest $(ARGS)
else
	@$(PY) -P -m pytest -m 'not e2e' -n auto
	@$(PY) -P -m pytest -m e2e $(SIDE_BY_SIDE)
endif

test-thorough: develop  ## both engines over fresh random labs for MINUTES (30), resumed where the log stands
	@PYTHONPATH=.:public $(PY) -P -m tests.property.thorough --minutes $(MINUTES) $(ARGS)

crash-rounds: develop  ## ROUNDS (500) of kill -9 at any moment of up, apply and down; SEED and FROM repeat some; long
	@$(PY) -P lab/preflight.py lab
	@PYTHONPATH=.:public $(PY) -P -m tests.crashes.rounds --rounds $(ROUNDS) --from $(FROM) $(if $(SEED),--seed $(SEED)) $(ARGS)

shortages: develop  ## disk, open files and namespaces run out at every point of up and apply; long
	@$(PY) -P lab/preflight.py lab
	@PYTHONPATH=.:public $(PY) -P -m tests.crashes.shortages --every $(ARGS)

floods: develop  ## every flood through real kernels as a table: what others lose, their share, memory (ARGS='--only SYN')
	@$(PY) -P lab/preflight.py lab
	@PYTHONPATH=.:public $(PY) -P -m tests.floods.table $(ARGS)

unit: develop  ## everything that needs no namespaces, on all processors
	@$(PY) -P -m pytest -m 'not e2e' -n auto $(ARGS)

e2e: develop  ## everything with real kernel stacks, as the user you are
	@$(PY) -P lab/preflight.py lab
	@$(PY) -P lab/preflight.py test
	@$(PY) -P -m pytest -m e2e $(SIDE_BY_SIDE) $(ARGS)

rootless: develop  ## as root: the end-to-end tests as an ordinary user
	@tools/rootless $(SIDE_BY_SIDE)

hostile: develop  ## an instance that plays foul on the wire, 20000 times: about half an hour
	@$(PY) -P lab/preflight.py lab
	@HYPOTHESIS_PROFILE=nightly $(PY) -P -m pytest -o faulthandler_timeout=0 tests/e2e/test_hostile_instance.py $(ARGS)

.PHONY: conformance
conformance: develop  ## what AWS says packets do, asserted one by one; writes docs/conformance.md
	@$(PY) -P lab/preflight.py lab
	@$(PY) -P lab/preflight.py test
	@$(PY) -m tests.conformance.page --write $(ARGS)

# -- checks -----------------------------------------------------------------------------------------------------------

.PHONY: check lint format type stubs docs docs-check wheel-smoke
check: lint type stubs docs-check test $(if $(filter 0,$(shell id -u)),rootless) bench-smoke wheel-smoke  ## everything CI runs

lint: develop  ## ruff, cython-lint, codespell
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@shopt -s nullglob; files=(fastpath/*.pyx fastpath/*.pxd bench/*.pyx); [ $${#files[@]} = 0 ] || PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint "$${files[@]}"
	@$(VENV)/bin/codespell

format: develop  ## let ruff format the tree
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

type: develop  ## mypy
	@$(PY) -m mypy

stubs: develop  ## the .pyi of every compiled module against the module
	@if [ -n "$(COMPILED)" ]; then \
	$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist tools/stubtest-allowlist.txt \
	--ignore-unused-allowlist --ignore-disjoint-bases $(COMPILED); fi

docs: develop  ## write the generated documents anew
	@$(PY) -P -m dataplane.schema --write
	@$(PY) -P -m vpclab.learn.page --write

docs-check: develop  ## fail when a generated document is not what would be written now
	@$(PY) -P -m dataplane.schema --check
	@$(PY) -P -m vpclab.learn.page --check
	@$(PY) -m tests.conformance.page --check
	@PYTHONPATH=. $(PY) -P -m tools.mutants --check

wheel-smoke: develop  ## sdist, wheel, clean environment, smoke test from another folder
	@tools/wheel-smoke $(PY)

# -- builds for looking inside -----------------------------------------------------------------------------------------

# None of these but `debug` changes the modules that everything else uses: they have folders of their own in `build`.
.PHONY: debug asan tsan fuzz fuzz-coverage mutants annotate bench bench-smoke bench-report clean
debug: $(VENV)/.builds  ## compiled modules without optimisation, with bounds checks
	@VPCLAB_DEBUG=1 $(PY) setup.py --quiet build_ext --inplace --parallel $(shell nproc)
	@rm -f $(VENV)/.extensions

# Hypothesis draws few examples here: what sanitizers look for shows in the tests of every operation.
asan: develop  ## all tests that touch compiled code, with address and undefined-behaviour sanitizers
	@HYPOTHESIS_PROFILE=quick PYTHONPATH=. $(PY) -P -m tools.sanitized address \
	$(if $(strip $(ARGS)),$(ARGS),-m 'not e2e' tests/unit tests/scenario tests/conformance tests/property)

tsan: develop  ## the worker against everybody who controls it, with a thread sanitizer
	@PYTHONPATH=. $(PY) -P -m tools.sanitized thread $(if $(strip $(ARGS)),$(ARGS),tests/unit/fastpath/test_worker.py \
	tests/unit/fastpath/test_worker_threads.py)

fuzz: develop  ## fuzz packets, captures, ports, GENEVE, lab and capture files, requests for MINUTES (30), and judge it
	@PYTHONPATH=.:public $(PY) -P -m tools.fuzz --minutes $(MINUTES) $(ARGS)

fuzz-coverage: develop  ## which lines of fastpath the inputs that fuzzing kept go through; fails when one is unexplained
	@PYTHONPATH=.:public $(PY) -P -m tools.covered $(ARGS)

mutants: develop  ## put small faults into the code and see which test notices each (ARGS='--limit 10'); hours, resumed
	@PYTHONPATH=. $(PY) -P -m tools.mutants $(ARGS); status=$$?; PYTHONPATH=. $(PY) -P -m tools.mutants --write && exit $$status

annotate: $(VENV)/.builds  ## HTML of where compiled code touches Python, in build/cython-release/fastpath
	@VPCLAB_ANNOTATE=1 $(PY) setup.py --quiet build_ext --inplace --force --parallel $(shell nproc)
	@ls build/cython-release/fastpath/*.html

$(VENV)/.bench: pyproject.toml | $(VENV)/.tests
	@echo '== peers that benchmarks call from Python'
	@$(INSTALL) '.[bench]'
	@touch $@

bench: develop $(VENV)/.bench  ## us beside the peers, as ratios (ARGS='--only tables,python,flow --quick'); long
	@$(PY) -P bench/run.py $(ARGS)

bench-smoke: develop  ## sizes, allocations, system calls and instructions, each against its ceiling
	@$(PY) -P bench/smoke.py $(ARGS)

bench-report: develop  ## write docs/performance.md from the results in bench/results
	@$(PY) -P bench/report.py --write

clean:  ## remove everything made here (not running labs: make lab-down)
	@rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info public/*.egg-info
	@rm -f fastpath/*.so fastpath/*.c fastpath/*.html
	@find . -name __pycache__ -prune -exec rm -rf {} +
