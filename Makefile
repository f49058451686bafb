# Everything a newcomer types. `make` alone explains itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
EXTRA_INDEX_URL ?=
IMAGE = docker build --build-arg EXTRA_INDEX_URL="$(EXTRA_INDEX_URL)" \
	--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)"

# two spinning torch threads make small operations a hundred times slower
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test docs-check browser-test browser redis screenshots faults soak fuzz docs check format clean install image compose-check

help: ## show this list
	@echo "session-recsys: make TARGET [ARGS=…] [PYTHON=python3.11]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: install ## train a synthetic shop, open a page to play with it (ARGS=--check: only print)
	$(BIN)/recsys demo $(ARGS)

test: install ## all tests but those below, with a private Redis (ARGS='-k state': some of them)
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

docs-check: install ## type every command of README and documents, in small, some minutes
	$(BIN)/pytest tests/docs $(ARGS)

browser-test: browser ## the playground in a real browser
	$(BIN)/pytest tests/browser $(ARGS)

browser: install ## a Chromium for the browser tests, where there is none
	@$(BIN)/python tests/browsers.py || { \
	  if command -v apt-get >/dev/null; then \
	    run=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	    $$run apt-get update && $$run apt-get install --yes --no-install-recommends chromium; \
	  else $(BIN)/playwright install chromium; fi; }

redis: ## a redis-server of Debian on the PATH, with TLS, for the tests that need one
	@command -v redis-server || { \
	  run=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$run apt-get update && $$run apt-get install --yes --no-install-recommends redis-server; }

screenshots: browser ## docs/images/, by the browser tests, of the trained demo shop
	RECSYS_PICTURES=docs/images $(BIN)/pytest tests/browser/test_pictures.py

faults: install ## what the service says and how quickly while Redis fails (ARGS='--seconds 10')
	$(BIN)/python tests/fault_figures.py $(ARGS)

soak: install ## reloads, kills, overload, cross-talk, mutants, about an hour (ARGS=overload: a part)
	$(BIN)/python tests/soak.py $(ARGS)

fuzz: install ## 5,000 requests made from the OpenAPI document, some minutes (ARGS='--cases 500')
	$(BIN)/python tests/fuzz_api.py $(ARGS)

docs: install ## rewrite what documents have from the code: tables, and the page of the API
	$(BIN)/python tests/write_docs.py

image: ## session-recsys:serve and :train (EXTRA_INDEX_URL=…: another source of torch, see README)
	$(IMAGE) --target serve --tag session-recsys:serve .
	$(IMAGE) --target train --tag session-recsys:train .

compose-check: install ## docker-compose.yml on this machine's Docker: start, ask, break, mend (ARGS=--help)
	$(BIN)/python tests/compose_check.py $(ARGS)

check: install ## ruff, ruff format, mypy, import-linter, codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: install ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/installed ## an environment in .venv, with the exact versions of constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)) and "error: Python 3.11 to 3.13 is needed, this is %d.%d. Say make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean: ## remove the environment and all caches
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
