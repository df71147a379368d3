# Everything that a person or CI does here; `make` alone lists it.
# Needs python3 (3.10 to 3.12) with venv and pip; the rest is installed into .venv from locks/.

.DEFAULT_GOAL := help
.PHONY: help install install-newest demo up down status send test torture check format bench lock clean

N ?= 1000
MINUTES ?= 600
BIN := .venv/bin
RUN := $(BIN)/python -m
# The newest Airflow from the registry, for the integrity tests of the DAGs alone.
NEWEST := .venv-3.3

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-14s %s\n", $$1, $$2}'

# -- installing ------------------------------------------------------------------------------------------------------

install: .venv/installed ## Install what the local stack, the tests and the checks need into .venv.

.venv/installed: locks/airflow-3.2.txt
	@found=; for python in $(PYTHON) python3 python3.12 python3.11 python3.10; do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Polku needs Python 3.10, 3.11 or 3.12 and found none of them (python3 is '$$(python3 --version 2>&1)')." >&2; \
	  echo "Install one, or say where it is: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "Making .venv with $$("$$found" --version)"; \
	  "$$found" -m venv .venv || { echo "No virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' locks/airflow-3.2.txt)"
	@echo "Installing locks/airflow-3.2.txt into .venv"
	@$(BIN)/uv pip sync --quiet --link-mode copy --python $(BIN)/python locks/airflow-3.2.txt
	@touch $@

install-newest: $(NEWEST)/installed ## Install the newest Airflow, for the DAG integrity tests, into .venv-3.3.

$(NEWEST)/installed: locks/airflow-3.3.txt .venv/installed
	@echo "Installing locks/airflow-3.3.txt into $(NEWEST)"
	@[ -x $(NEWEST)/bin/python ] || $(BIN)/uv venv --quiet --python $(BIN)/python $(NEWEST)
	@$(BIN)/uv pip sync --quiet --link-mode copy --python $(NEWEST)/bin/python locks/airflow-3.3.txt
	@touch $@

# The locks hold for every Python of 3.10 to 3.12, on any platform. Airflow's own needs are taken as of the month of its
# release, as MWAA has them; the packages that are pinned to later versions are let through.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --custom-compile-command "make lock"
AS_OF := --exclude-newer 2026-05-01 $(patsubst %,--exclude-newer-package %=2026-11-20,msgspec redshift-connector xxhash)
lock: .venv/installed ## Compile locks/*.txt anew from requirements.txt and locks/*.in.
	$(LOCK) $(AS_OF) requirements.txt locks/airflow-3.2.in -o locks/airflow-3.2.constraints.txt
	$(LOCK) -c locks/airflow-3.2.constraints.txt requirements.txt locks/dev.in locks/airflow-3.2.in -o locks/airflow-3.2.txt
	$(LOCK) locks/airflow-3.3.in -o locks/airflow-3.3.txt

# -- running ---------------------------------------------------------------------------------------------------------

demo: .venv/installed ## From nothing to the result: events in; rows, names and Slack messages out; then stop.
	@$(RUN) local.demo

up: .venv/installed ## Start the local stack, wait until all is healthy, print the addresses.
	@$(RUN) local.stack up

down: .venv/installed ## Stop the local stack.
	@$(RUN) local.stack down

status: .venv/installed ## Say what of the local stack is running, and where.
	@$(RUN) local.stack status

send: .venv/installed ## Send N=1000 sample events through the front door, Kinesis and the S3 buffer.
	@$(RUN) local.send $(N)

# -- checking --------------------------------------------------------------------------------------------------------

test: .venv/installed $(NEWEST)/installed ## Run every test, one of them with the scheduler; then the DAG tests on the newest Airflow.
	$(RUN) pytest -n 2 --dist worksteal $(PYTESTFLAGS)
	$(NEWEST)/bin/python -m pytest tests/dags $(PYTESTFLAGS)

torture: .venv/installed ## Try every fault at every request of a run (MINUTES=600 at most); write the table of docs/guarantees.md.
	@$(RUN) tests.crash.torture --minutes $(MINUTES)

check: .venv/installed ## Run ruff, mypy, import-linter and sqlfluff.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=plugins:. $(BIN)/lint-imports --no-logo
	$(BIN)/sqlfluff lint --quiet include/sql

format: .venv/installed ## Let ruff mend what it can.
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format --quiet

bench: .venv/installed ## Measure the hot path and write docs/benchmarks.md; GROWTH=1 measures large tables too.
	@$(RUN) benchmarks $(if $(GROWTH),--growth)

clean: ## Stop the stack and remove everything that was installed or made here.
	@[ ! -x $(BIN)/python ] || $(RUN) local.stack down
	rm -rf .venv .venv-3.3 .local .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
