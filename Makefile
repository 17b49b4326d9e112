PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# For llama.cpp: GCC 12 takes the writes to AMX's tile configuration for dead stores and drops them,
# and on CPUs with AMX every prompt then crashes its process.
export CXXFLAGS := $(CXXFLAGS) -fno-tree-dse -fno-dse

.PHONY: run test lint types format clean

run: $(VENV)/.installed ## install what is missing and run the whole service
	@$(BIN)/python manage.py up

test: $(VENV)/.installed-dev ## the whole suite, on real Postgres, Redis and models
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy .

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Brigade needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	@echo "Installing requirements; the first time llama.cpp is compiled, which takes minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean: ## remove the virtual environment, not the data in var/
	rm -rf $(VENV)
