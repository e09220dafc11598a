# Two commands: `make run` (the main job on an embedded Kafka) and `make test`. Needs Python 3.11 or newer, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: setup fold run test proof runbook check clean constraints browser screenshot
.DEFAULT_GOAL := run

setup: $(VENV)/ready fold

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV) (once; about a minute)."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q agents portfolio_stream tables  # a start takes a third longer without
	@touch $@

# Compile the fold, if there is a C compiler. It runs interpreted otherwise.
fold: $(VENV)/ready
	@$(BIN)/python setup.py --quiet compile

run: setup
	@$(BIN)/portfolio-stream run $(ARGS)

# Two processes share the test files: most of the tests with a broker wait more than they compute.
test: setup browser $(VENV)/kafka.aot
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# The archive of Java classes that halves the start of the tests' brokers. Without it, the tests take longer.
$(VENV)/kafka.aot: $(VENV)/ready
	-@$(BIN)/python -m tests.archive

# Find a browser for the web view's tests, or get one.
browser: setup
	@$(BIN)/python -m tests.web.chromium

# The whole proof, of which `make test` runs a part. It takes hours; docs/proof.md explains each command.
proof: setup
	$(BIN)/python -m tests.simulation --mutations --seeds 150
	$(BIN)/python -m tests.simulation --every-step
	$(BIN)/python -m tests.simulation --profile storm --minutes 30
	$(BIN)/python -m tests.simulation --profile days --minutes 60
	$(BIN)/python -m tests.sweep --seeds 3
	$(BIN)/python -m tests.chaos --minutes 60
	$(BIN)/python -m tests.operations --runs 60
	$(BIN)/python -m pytest --slow -m slow
	$(BIN)/python -m tests.chaos.stock

# Run every command of the runbook, as it was and as it is, on three brokers under load. It takes about 25 minutes.
runbook: setup
	$(BIN)/python -m pytest --slow -s tests/runbook $(ARGS)

# Make the README's picture of the web view. It takes six minutes.
screenshot: setup browser
	$(BIN)/python -m tests.web.screenshot

# One line runs every check that needs no broker.
check: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

constraints: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --no-header --no-annotate --quiet -o constraints.txt

clean:
	rm -rf $(VENV) build *.egg-info portfolio_stream/compiled/native
