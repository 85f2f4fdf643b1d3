# Two commands do all the set-up: `make demo` and `make test`. `make help` tells the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV_BIN := .venv/bin
DEMO_DATA ?= .muster/demo
WORKERS ?= 3

.PHONY: help demo test test-phone check format bench lock runtime dev chromium mksh strace chaos

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: runtime ## a virtual rack of 20 phones, backend, agent and console; EXIT=1 ends with the run's result
	@$(VENV_BIN)/muster demo --data $(DEMO_DATA) $(if $(EXIT),--exit) $(DEMO_ARGS)

test: check chromium mksh ## everything: style, types, layers, then all tests, browser included
	$(VENV_BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TEST_ARGS)

test-phone: dev ## the conformance suites against a phone on this PC: MUSTER_REAL_SERIAL=… make test-phone
	@test -n "$(MUSTER_REAL_SERIAL)" || { echo "MUSTER_REAL_SERIAL=… names the phone, as adb devices shows it" >&2; exit 2; }
	$(VENV_BIN)/python -m pytest tests/conformance/adb tests/conformance/phone $(TEST_ARGS)

check: dev ## style (ruff), types (mypy, strict) and layers (import-linter)
	$(VENV_BIN)/ruff check .
	$(VENV_BIN)/ruff format --check .
	$(VENV_BIN)/mypy
	$(VENV_BIN)/lint-imports

WORLD_SEEDS ?= 10000
PROPERTY_EXAMPLES ?= 20
HOSTILE_STRINGS ?= 100000
HOSTILE_PLACES ?= 10000
HUNG ?= 1000
KILLS ?= 200
RACK_SEEDS ?= 5
STRACE_FAULTS ?= 60
CHAOS_SEED ?= $(shell echo $$RANDOM)
chaos: dev mksh strace ## the long hunts: simulated worlds, new examples of properties, hostile strings, hung commands, failing disks, kill -9; sizes as above
	WORLD_SEEDS=$(WORLD_SEEDS) $(VENV_BIN)/python -m pytest tests/world -n $(WORKERS) -q
	PROPERTY_EXAMPLES=$(PROPERTY_EXAMPLES) $(VENV_BIN)/python -m pytest tests/property tests/unit -n $(WORKERS) -q -m hypothesis --timeout 3600 --hypothesis-seed=$(CHAOS_SEED)
	HOSTILE_STRINGS=$(HOSTILE_STRINGS) $(VENV_BIN)/python -m pytest tests/property/test_template_quoting.py -n $(WORKERS) -q -k batches
	HOSTILE_PLACES=$(HOSTILE_PLACES) $(VENV_BIN)/python -m pytest tests/property/test_template_places.py -n $(WORKERS) -q
	HUNG_COMMANDS=$(HUNG) HUNG_REQUESTS=$(HUNG) $(VENV_BIN)/python -m pytest tests/conformance/adb/test_hung_commands.py tests/conformance/vendor/test_hung_vendor_tool.py -n $(WORKERS) -q -k in_a_row
	RACK_SEEDS=$(RACK_SEEDS) RACK_GRACE_SEC=15 $(VENV_BIN)/python -m pytest tests/system/test_hundred_phones.py -q -s
	FAILING_STORE=all $(VENV_BIN)/python -m pytest tests/chaos/test_failing_store.py -n $(WORKERS) -q
	KILLS=$(KILLS) CHAOS_SEED=$(CHAOS_SEED) $(VENV_BIN)/python -m pytest tests/chaos/test_kill_nine.py tests/chaos/test_kill_nine_neighbours.py -q -s
	STRACE_FAULTS=$(STRACE_FAULTS) CHAOS_SEED=$(CHAOS_SEED) $(VENV_BIN)/python -m pytest tests/chaos/test_strace_failures.py -q -s

format: dev ## let ruff rewrite what it can
	$(VENV_BIN)/ruff check --fix .
	$(VENV_BIN)/ruff format .

bench: dev ## performance claims, as ratios side by side in one run
	$(VENV_BIN)/python -m benchmarks $(BENCH)

lock: dev ## pin the requirements anew (needs uv in PATH)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade --extra build pyproject.toml -o requirements/runtime.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade --extra build --extra dev pyproject.toml -o requirements/dev.txt

runtime:
	@$(PYTHON) scripts/environment.py runtime

dev:
	@$(PYTHON) scripts/environment.py dev

chromium:
	@scripts/debian_package.sh "the browser tests" "chromium chromium-browser google-chrome" chromium fonts-noto-cjk

mksh:
	@scripts/debian_package.sh --optional "the tests of commands in Android's own shell" mksh mksh

strace:
	@scripts/debian_package.sh --optional "the tests of failing system calls" strace strace
