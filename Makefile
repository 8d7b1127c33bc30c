# Two commands do everything on a fresh machine that has Python 3.11 or newer:
#   make book   builds the site        make test   runs every check
# `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The interpreter that makes the environment; say `make book PYTHON=/path/to/python` to choose.
PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from
SITE := _build/html/index.html

# One thread a process: the workers of pytest fill the cores, and sums keep their order.
export OMP_NUM_THREADS ?= 1
# Kernels are chosen from the environment, never from the user's own folders.
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

##@ Readers
.PHONY: help
help: ## list these commands
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: book
book: env ## build the site (warnings are errors) and say which page to open
	@echo "== site"
	@$(BIN)/jupyter-book build . --all -W -n --keep-going -q
	@test -f $(SITE)
	@echo "Open this page in a browser:"
	@echo "  $(CURDIR)/$(SITE)"

.PHONY: serve
serve: ## serve the built site on this machine (PORT=8000)
	@test -f $(SITE) || { echo "There is no site yet: run 'make book' first."; exit 1; }
	@echo "Open http://localhost:$(PORT)/ (stop with Ctrl-C)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

# The environment is made anew when requirements.txt has changed, or when the folder was moved.
.PHONY: env
env: ## make or renew the environment in .venv
	@{ echo "# $(CURDIR)"; cat requirements.txt; } | cmp -s - $(STAMP) || $(MAKE) fresh-env

.PHONY: fresh-env
fresh-env:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)."; \
	echo "Install one, then name it, for example: make book PYTHON=python3.12"; exit 1; }
	@echo "== environment: $$($(PYTHON) --version) in $(VENV) (takes some minutes and 5 GB)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "Python's own venv failed. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@{ echo "# $(CURDIR)"; cat requirements.txt; } > $(STAMP)

##@ Contributors
.PHONY: test
test: ruff book ## every check, as the continuous integration runs them
	@echo "== library, doctests, chapters, rules of the book, site in a browser"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -rfEs --durations=10

.PHONY: lint
lint: ruff ## the quick checks: ruff, and the rules of the book
	@echo "== rules of the book"
	@$(BIN)/python -m pytest -q tests/test_book.py

.PHONY: ruff
ruff: env
	@echo "== ruff"
	@$(BIN)/python -m ruff check .

.PHONY: notebooks
notebooks: env ## run chapters again and store their outputs (CHAPTER=book/partition.ipynb for one)
	@$(BIN)/python .ci/execute.py $(CHAPTER)

# The gradebook of this step is thrown away: a course keeps its own (see book/classroom.md).
.PHONY: assignments
assignments: env ## make the students' copies of the assignments from their masters
	@books=$$(mktemp -d); trap 'rm -rf "$$books"' EXIT; cd book/assignments; \
	export PATH="$(CURDIR)/$(BIN):$$PATH"; for name in $(notdir $(wildcard book/assignments/source/*)); do \
	echo "== students' copy of $$name"; \
	nbgrader generate_assignment "$$name" --force --log-level=ERROR --db="sqlite:///$$books/$$name.db"; done

.PHONY: clean
clean: ## remove the site and all caches, but not the environment
	@rm -rf _build build .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find . -path ./$(VENV) -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	-print0 | xargs -0 rm -rf
