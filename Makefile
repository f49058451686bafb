# All commands of this repository. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
EXTRA_INDEX_URL ?=
IMAGE = docker build --build-arg EXTRA_INDEX_URL="$(EXTRA_INDEX_URL)" \
	--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)"

NPM_PACKAGES := clients/typescript/node_modules/.package-lock.json

# two spinning torch threads make small operations a hundred times slower
export OMP_WAIT_POLICY := PASSIVE
# keep compiled modules: tests start many Python processes
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-loop test long-test packages packages-check sbom docs-check browser-test browser redis postgres typescript ts-client screenshots faults soak fuzz docs site check format clean install image compose-check

help: ## list the targets
	@echo "session-recsys: make TARGET [ARGS=…] [PYTHON=python3.11]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: install ## train a synthetic shop and open the playground (ARGS=--check: only print)
	$(BIN)/recsys demo $(ARGS)

demo-loop: install ## simulate ten days of a shop that retrains, some minutes (ARGS=--check: two small ones)
	@mkdir -p runs
	$(BIN)/recsys demo-loop --page runs/demo-loop.html $(ARGS)

test: install ## run all tests except those below, with a private Redis (ARGS='-k state': some)
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

long-test: install ## run the tests that are too long for the six minutes of `make test`
	$(BIN)/pytest -m long --numprocesses 2 --dist loadfile $(ARGS)

packages: install ## build sdist and wheel of session-recsys and of its Python client, in dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m build --no-isolation --outdir dist clients/python

packages-check: install ## test the wheels in fresh environments, and the bill of materials
	$(BIN)/pytest tests/packages $(ARGS)

sbom: install ## write the packages of the images and their licences, in dist/sbom (ARGS='--image serve')
	$(BIN)/python docker/sbom.py $(ARGS)

docs-check: install ## run every command of README and documents, on small data, some minutes
	$(BIN)/pytest tests/docs --numprocesses 2 --dist worksteal $(ARGS)

browser-test: browser ## test the playground in a real browser
	$(BIN)/pytest tests/browser $(ARGS)

browser: install ## install a Chromium for the browser tests, if there is none
	@$(BIN)/python tests/browser/browsers.py || { \
	  if command -v apt-get >/dev/null; then \
	    run=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	    $$run apt-get update && $$run apt-get install --yes --no-install-recommends chromium; \
	  else $(BIN)/playwright install chromium; fi; }

redis: ## install the redis-server of Debian, with TLS, for the tests that need one
	@command -v redis-server || { \
	  run=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$run apt-get update && $$run apt-get install --yes --no-install-recommends redis-server; }

postgres: ## install the PostgreSQL of Debian, for the tests of databases
	@command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null || { \
	  run=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$run apt-get update && $$run apt-get install --yes --no-install-recommends postgresql; }

typescript: $(NPM_PACKAGES) ## install Node and what builds the TypeScript client, for its tests

$(NPM_PACKAGES): $(VENV)/installed clients/typescript/package-lock.json
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[typescript]'
	$(BIN)/python tests/support/typescript_client.py install
	touch $@

ts-client: typescript ## write and build the TypeScript client from the OpenAPI document
	$(BIN)/python tests/support/typescript_client.py

screenshots: browser ## write docs/images/ from the trained demo shop
	RECSYS_PICTURES=docs/images $(BIN)/pytest tests/browser/test_pictures.py

faults: install ## measure the service during faults of Redis (ARGS='--seconds 10')
	$(BIN)/python tests/benchmarks/fault_figures.py $(ARGS)

soak: install ## run the long tests: reloads, kills, overload, …; an hour (ARGS=overload: a part)
	$(BIN)/python tests/soak/run.py $(ARGS)

fuzz: install ## send 5,000 requests from the OpenAPI document, some minutes (ARGS='--cases 500')
	$(BIN)/python tests/soak/fuzz_api.py $(ARGS)

docs: install ## write the generated parts of the documents: tables, traces, the page of the API
	$(BIN)/python tests/support/documents/write_docs.py

site: install ## build the documents as a site with a search, in dist/site (ARGS='--out FOLDER')
	$(BIN)/python docs/site/build.py $(ARGS)

image: ## build session-recsys:serve and :train (EXTRA_INDEX_URL=…: another source of torch)
	$(IMAGE) --target serve --tag session-recsys:serve .
	$(IMAGE) --target train --tag session-recsys:train .

compose-check: install ## test docker-compose.yml on the Docker of this machine (ARGS=--help)
	$(BIN)/python tests/compose/run.py $(ARGS)

check: install ## run ruff, ruff format, mypy, import-linter, codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: install ## format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/installed ## create .venv with the exact versions of constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)) and "error: Python 3.11 to 3.13 is needed, this is %d.%d. Say make PYTHON=python3.11" % sys.version_info[:2])'
	@$(PYTHON) install.py $(VENV)

clean: ## remove the environment and all caches
	rm -rf clients/typescript/node_modules clients/typescript/dist clients/typescript/example/dist
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
