PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
BUILD_LLAMA := third_party/llama-cpp-python/build.sh
LLAMA_PATCH := third_party/llama-cpp-python/cpu-attention.patch
REQUIRE_TOOLS := third_party/require-tools.sh

.PHONY: run test test-clients lint types format clean

run: $(VENV)/.installed ## install what is missing and run the whole service
	@$(BIN)/python manage.py up

test: $(VENV)/.installed-dev ## the whole suite, on real Postgres, Redis and models
	$(BIN)/python -m pytest $(ARGS)

# A docstring begins with the thing or the action that it describes.
RIDDLE := ^ *"""(What|Who|Whose|Of|With|As|Those)\>

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@! git grep -nE '$(RIDDLE)' -- '*.py' || { echo "Begin these docstrings with a subject or a verb."; exit 1; }

types: $(VENV)/.installed-dev
	$(BIN)/mypy .

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@$(REQUIRE_TOOLS) $(PYTHON)
	$(PYTHON) -m venv $(VENV)

# A wheel of llama.cpp fits only the processor and the flags it was compiled for: its folder is named by a
# hash of them.
$(VENV)/.installed: requirements.txt $(BUILD_LLAMA) $(LLAMA_PATCH) Makefile | $(VENV)/bin/python
	@$(REQUIRE_TOOLS)
	@echo "Installing requirements; the first time llama.cpp is compiled, which takes minutes."
	@set -e; \
	for_this=$$({ grep '^llama-cpp-python' requirements.txt; cat $(BUILD_LLAMA) $(LLAMA_PATCH); \
		echo "$$CFLAGS $$CXXFLAGS $$CMAKE_ARGS"; $${CXX:-c++} --version; \
		grep -m1 '^flags' /proc/cpuinfo; } | sha256sum | cut -c1-16); \
	wheels=$$($(BIN)/python -m pip cache dir || echo $(VENV))/llama-cpp-python-$$for_this; \
	ls "$$wheels"/*.whl >/dev/null 2>&1 || $(BUILD_LLAMA) $(BIN)/python "$$wheels"; \
	$(PIP) install --force-reinstall --no-deps "$$wheels"/*.whl; \
	$(PIP) install -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) install -r requirements-dev.txt
	@touch $@

clean: ## remove the virtual environment, not the data in var/
	rm -rf $(VENV)

CLIENTS := var/clients-venv

test-clients: $(CLIENTS)-current/.installed $(CLIENTS)-instructor/.installed ## client libraries of others against the running service
	$(CLIENTS)-current/bin/python -m pytest -q tests/clients --ignore tests/clients/check_instructor.py
	$(CLIENTS)-instructor/bin/python -m pytest -q tests/clients/check_instructor.py

$(CLIENTS)-%/.installed: tests/clients/requirements-%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --quiet --disable-pip-version-check install -r $<
	@touch $@
