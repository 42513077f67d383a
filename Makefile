# What a developer runs. `make help` lists it; CONTRIBUTING.md explains it.
#
#   PYTHON=...     the interpreter: for dev, demo, bench, lint and asan (default: python3 on PATH)
#   DEV=name       `make dev` builds in build/name, so that several people can share a checkout
#   BUILDTYPE=...  for dev: release, debugoptimized, debug
#   WERROR=1       for test: compiler warnings are errors
#   LINT=1         for test: lint, too

PYTHON ?= python3
DEV ?= dev
BUILDTYPE ?= release
WERROR ?=
LINT ?=
# What make sets for itself is not for the builds it starts.
MAKEFLAGS += --no-print-directory

VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV = .venv/py$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help dev demo test bench lint format asan fuzz reactor sources pins venv wheel dist clean toolchain

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: toolchain ## build for PYTHON into build/DEV/site (release, no LTO: quick)
	@$(PYTHON) tools/list_sources --check || true
	@tools/build $(DEV) $(PYTHON) -Dbuildtype=$(BUILDTYPE) -Db_ndebug=false
	@echo "PYTHONPATH=$(CURDIR)/build/$(DEV)/site"

reactor: toolchain ## libcorolla, its unit tests and the C examples alone, no Python: build/DEV-reactor/meson
	@tools/need cmocka
	@tools/build $(DEV)-reactor $(PYTHON) -Dextension=false -Dtests=true -Dexamples=true -Dbuildtype=$(BUILDTYPE) -Db_ndebug=false
	@.venv/tools/bin/meson test -C build/$(DEV)-reactor/meson --no-rebuild --print-errorlogs

demo: venv ## serve aiohttp and uvicorn applications on asyncio and on corolla, side by side
	@$(VENV)/bin/python examples/demo/run.py

test: toolchain ## everything: C, pytest on each CPython found, conformance, sanitizers
	@$(PYTHON) tools/test $(if $(LINT),--lint) $(if $(WERROR),--werror)

bench: venv ## asyncio, uvloop and corolla in one run, with ratios
	@$(VENV)/bin/python -m pip install -qq -c requirements/constraints.txt -r requirements/bench.txt
	@tools/need openssl || true
	@$(VENV)/bin/python benchmarks/run.py

asan: toolchain ## the Python tests under ASan and UBSan, the C tests under ASan, UBSan and TSan
	@$(PYTHON) tools/test --only sanitizers

fuzz: toolchain ## the libFuzzer targets, FUZZ_SECONDS each (default 60)
	@$(PYTHON) tools/test --only fuzz --fuzz-seconds $(or $(FUZZ_SECONDS),60)

lint: toolchain ## ruff, mypy, stubtest, clang-format, clang-tidy, cppcheck
	@$(PYTHON) tools/lint

format: ## clang-format and ruff, in place
	@tools/venv lint $(PYTHON) requirements/lint.txt
	@$(PYTHON) tools/lint --fix

sources: ## rewrite the lists of sources in the meson.build files
	@$(PYTHON) tools/list_sources

venv: toolchain ## .venv/pyX.Y with corolla as a user gets it, and what demo and bench need
	@tools/venv py$(VERSION) $(PYTHON) requirements/build.txt requirements/test.txt requirements/demo.txt
	@tools/install $(VENV)

wheel: toolchain ## a wheel in dist/
	@tools/venv py$(VERSION) $(PYTHON) requirements/build.txt requirements/test.txt requirements/demo.txt
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pip wheel -qq --no-build-isolation --no-deps -w dist .

dist: wheel ## a wheel and the sources (of the last commit), in dist/
	@git archive --format=tar.gz --prefix=corolla/ -o dist/corolla-sources.tar.gz HEAD

pins: ## requirements/constraints.txt anew, from the newest versions
	@tools/pins

toolchain:
	@tools/need compiler
	@tools/venv tools $(PYTHON) requirements/build.txt

clean: ## everything built; the venvs too
	rm -rf build dist .venv
