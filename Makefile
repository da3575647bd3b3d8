# Everything here sets itself up in .venv; all that is needed is make, Python 3.11 or later, and the network once.

PYTHON ?= python3
# COMPILED=1 makes an environment of its own, whose Bester is a compiled wheel, as in: make bench COMPILED=1
COMPILED ?=
VENV := .venv$(if $(COMPILED),-compiled)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(if $(COMPILED),$(VENV)/.compiled,$(INSTALLED))
# More for pytest, as in: make test ARGS="-k exchange"
ARGS ?=

# Where no bytecode is kept, each of the many processes of the tests compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-compiled compiled check types audit coverage coverage-core bench faults lab clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

demo: $(READY) ## play two stories on real servers
	@$(BIN)/bester demo

# Six, because tests wait for processes more than they work: that is as fast as two processors can be.
test: $(READY) ## run the tests; skips are listed with their reasons
	$(BIN)/pytest -n 6 --dist loadfile --no-loadscope-reorder -rs $(ARGS)

# The folders whose tests meet what is compiled.
test-compiled: ## run the tests of the hot path, with Bester compiled
	@$(MAKE) test COMPILED=1 ARGS="tests/protocol tests/core tests/properties tests/bench tests/server tests/system/test_compiled.py tests/docs/test_protocol.py $(ARGS)"

compiled: ## install Bester into .venv-compiled, compiled
	@$(MAKE) .venv-compiled/.compiled COMPILED=1

check: $(READY) ## lint, format, types of Python and JavaScript, imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.javascript
	$(BIN)/pytest -q tests/test_house.py tests/test_order.py

types: $(READY) ## write bester.d.ts anew from bester.js
	$(BIN)/python -m tests.javascript --write

audit: $(VENV)/.audit ## look for published advisories on the packages that are installed
	@$(BIN)/python .ci/audit

coverage: $(READY) ## run the tests, and tell which lines they never reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -rs $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --show-missing --skip-covered

coverage-core: $(READY) ## let the tests of the exchange reach every branch of it
	$(BIN)/coverage erase
	$(BIN)/coverage run --source bester.core -m pytest -q tests/core
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --show-missing --skip-covered --fail-under 100

# More for the benchmark, as in: make bench ARGS=--quick
bench: $(VENV)/.bench ## measure it beside its peers (10 minutes)
	@$(BIN)/python -m bench $(ARGS)

# More for it, as in: make faults ARGS="--only kill"; some need root, and say so where it is missing
faults: $(READY) ## kill it, cut its power, fill its disk, and count messages (5 minutes)
	@$(BIN)/python -m faults $(ARGS)

# More for it, as in: make lab ARGS="--hours 8", ARGS="--seed 7 -v" or ARGS="--plan FILE"
lab: $(READY) ## search for faults in simulated networks of servers (2 minutes)
	@$(BIN)/python -m lab $(ARGS)

clean: ## remove what was made, .venv too
	rm -rf .venv .venv-compiled dist build htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src gadgets tests -name __pycache__ -type d -prune -exec rm -rf {} +
	find src -name '*.so' -delete

# The dev group needs a pip that knows groups, so the virtual environment gets one, whatever the system has.
$(INSTALLED): pyproject.toml gadgets/pyproject.toml
	@if [ ! -x $(BIN)/python ]; then \
		for candidate in "$(PYTHON)" python3.14 python3.13 python3.12 python3.11; do \
			if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "make: Python 3.11 or later is needed, and $(PYTHON) is not: name one with make PYTHON=/path/to/python" >&2; \
			exit 1; \
		fi; \
		"$$found" -m venv $(VENV) || { rm -rf $(VENV); echo "make: no virtual environment (Debian: apt-get install python3-venv)" >&2; exit 1; }; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --editable './gadgets[all]' --group dev
	-@$(BIN)/python -m tests.javascript --install
	@touch $@

# The wheel replaces what is editable. The environment has what compiles, which is not fetched again for each change.
$(VENV)/.compiled: $(INSTALLED) hatch_build.py $(if $(COMPILED),$(shell find src docs -type f ! -name '*.pyc'))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall .
	@$(BIN)/python -c "from bester.compiled import build; build() == 'compiled' or \
		exit('make: Bester is not compiled here: a C compiler and the headers of Python are needed')"
	@touch $@

$(VENV)/.audit: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group audit
	@touch $@

$(VENV)/.bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	@touch $@
