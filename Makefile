# Everything runs in .venv; `make demo` and `make test` are all a newcomer needs.
EXTRA ?= cpu
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TORCH_EXTENSIONS_DIR := $(CURDIR)/.venv/torch_extensions
export HF_HUB_OFFLINE ?= 1
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1

.PHONY: install demo demo-seeds ui test test-full test-gpu lint bench clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt infra/install.sh
	EXTRA=$(EXTRA) bash infra/install.sh

demo: install
	fire-opd demo

demo-seeds: install
	python -m benchmarks.demo_seeds

ui: install
	python -m infra.ui

test: install
	bash infra/chromium.sh
	python -m pytest -m "not full and not gpu"

test-full: install
	bash infra/chromium.sh
	python -m pytest -m "not gpu"

test-gpu: install
	python -m pytest -m gpu

lint: install
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

bench: install
	python -m benchmarks.head --out benchmarks/results
	python -m benchmarks.select --out benchmarks/results
	python -m benchmarks.orchestration --out benchmarks/results
	python -m benchmarks.recording --mib 0 256 4096 --out benchmarks/results

clean:
	rm -rf runs .state run inputs inputs.json
	git worktree prune
