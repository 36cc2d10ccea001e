# Two commands matter: `make demo` and `make test`. Each sets up what it needs first.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench clean clean-venv

BIN := .venv/bin
JOBS ?= 2
BENCH ?= adapters planner skills tasks record
SIZE ?= --quick

# Small models and small matrices: two spinning threads on busy cores are slower than one.
export OMP_NUM_THREADS ?= 1
ifeq ($(shell uname -s),Linux)
export MUJOCO_GL ?= egl
endif

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: ## Make .venv and install everything into it (does nothing the second time)
	@bash scripts/setup.sh

demo: setup ## Run three household tasks from free text
	@$(BIN)/hiervla demo

lint: setup ## Style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## Everything that guards the project
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

format: setup ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: setup ## Run the benchmarks (BENCH="adapters planner skills tasks record", SIZE=--quick or --full)
	@set -e; for name in $(BENCH); do $(BIN)/python -m benchmarks.$$name $(SIZE); done

clean: ## Remove caches, builds and scratch files; keeps .venv and runs/
	rm -rf .work dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-venv: ## Remove .venv
	rm -rf .venv
