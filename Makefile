# Two commands do all the set-up on a machine with Python 3.11 or newer: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
EXAMPLES := .[examples,celery,httpx,pygithub,requests]

# They run twice: the C extension of the recording path is optional, and the Python code behind it is the reference.
RECORDING_TESTS := $(patsubst %,tests/test_%.py,span otlp journal journal_interrupted provider logs stages events verbosity)

.PHONY: demo demo-orders test test-suites test-versions test-backends stack check servers parsers bench docs wheel clean

# With STACK=1 through Collector, Jaeger, VictoriaLogs and Prometheus, which are built when first needed.
# It shows the GitHub sync, which docs/github-sync.md is about.
demo: $(VENV)/.demo
ifdef STACK
	collector/servers/build.sh
	$(BIN)/python -m collector demo
else
	$(BIN)/python -m examples.github_sync demo
endif

# Partial on purpose, which is exit status 2: see docs/order-sync.md.
demo-orders: $(VENV)/.demo
	$(BIN)/python -m examples.order_sync --environment demo sync --execute --generate-report || [ $$? = 2 ]

test: $(VENV)/.installed check servers parsers
	OTELSYNC_PURE_PYTHON=1 $(BIN)/python -m pytest -q -n 3 $(RECORDING_TESTS)
	$(BIN)/python -m pytest -n 4 --dist worksteal --ignore tests/backends
	PYTHON=$(BIN)/python tests/versions.sh

# The oldest dependencies that pyproject.toml takes, and the other Pythons that the machine has.
test-versions: $(VENV)/bin/python
	PYTHON=$(BIN)/python tests/versions.sh

# Collector, Jaeger, VictoriaLogs and Prometheus, built from Go modules when first needed: see collector/README.md.
test-backends: $(VENV)/.installed servers
	collector/servers/build.sh
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/backends

stack: $(VENV)/.demo
	collector/servers/build.sh
	$(BIN)/python -m collector

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Redis, RabbitMQ, PostgreSQL and Chromium, which the tests start; nothing is done where they are installed.
servers: $(VENV)/.servers
	tests/install-servers.sh

# Grafana's parsers of LogQL and TraceQL. Without npm the tests that need them are left out.
parsers: tests/queries/node_modules

tests/queries/node_modules: tests/queries/package-lock.json
	if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --prefix tests/queries && touch $@; fi

# The test suites of what otelsync stands in, from PyPI; docs/compatibility.md lists what fails, and why.
test-suites: $(VENV)/.suites
	$(VENV)-suites/bin/python tests/compatibility

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed
	$(BIN)/python -c 'from otelsync.settings.options import markdown; print(markdown())' > docs/settings.md.new
	mv docs/settings.md.new docs/settings.md
	$(BIN)/otelsync events --markdown > docs/events.md.new
	mv docs/events.md.new docs/events.md
	$(BIN)/python tests/documents.py
	$(BIN)/python -m collector.grafana.generate

wheel: $(VENV)/.installed
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) $(VENV)-suites .versions .cache .demo .order_sync .stack .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "otelsync needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# What the examples need, and none of what checks and tests need.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt otelsync/journal/_native.c
	@echo "Installing otelsync and what the demo needs into $(VENV), once. That takes about a minute:"
	@{ $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt -e '$(EXAMPLES)' || echo failed; } | \
	  sed -un -e 's/^Collecting \([A-Za-z0-9._-]*\).*/  \1/p' -e 's/^ *\(Building wheel[^(]*\).*/  \1/p' \
	  -e 's/^Installing collected packages.*/  installing all of them/p' -e '/^failed$$/q1'
	@touch $@

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml requirements-dev.txt constraints.txt otelsync/journal/_native.c
	$(PIP) install -c constraints.txt -r requirements-dev.txt -e '$(EXAMPLES)'
	touch $(VENV)/.demo $@

$(VENV)/.bench: $(VENV)/.installed requirements-bench.txt
	$(PIP) install -c constraints.txt -r requirements-bench.txt
	touch $@

$(VENV)/.suites: $(VENV)/.installed tests/compatibility/requirements.txt
	$(PYTHON) -m venv $(VENV)-suites
	$(VENV)-suites/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt \
	  -r tests/compatibility/requirements.txt pytest -e '.[celery,httpx,pygithub,requests]'
	touch $@

$(VENV)/.servers: $(VENV)/.installed requirements-servers.txt
	$(PIP) install -c constraints.txt -r requirements-servers.txt
	touch $@
