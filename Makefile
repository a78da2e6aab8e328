# Everything here needs Python 3.10 or newer and make; the rest is set up when it is first needed.
#   PYTHON=python3.12          the Python that the environment .venv is made with
#   COMFY_HOME=/path           a ComfyUI of yours (default: a pinned release in .comfyui/)
#   COMFY_PYTHON=/path/python  the Python that runs it (default: its own environment, else one is made)
#   PORT=8188, LISTEN=127.0.0.1, ARGS="…"   (make launch: PORT=3000, HOST=::, see README.md)

PYTHON ?= python3
PORT ?= 8188
SECONDS ?= 60
ROUNDS ?= 50
FUZZED := tests/comfyui/test_random_graphs.py tests/comfyui/test_machine.py tests/comfyui/test_description.py
VERSION ?= 0.3.75
DEST ?=
ARGS ?=

SETUP := $(PYTHON) docker/comfyui.py
VENV := .venv/bin/python

export COMFY_HOME COMFY_PYTHON LISTEN ARGS

.DEFAULT_GOAL := help
.PHONY: help run serve launch comfyui test chaos load fuzz versions screenshots lint format typecheck bench tools clean

help: ## this list
	@sed -n 's/^#  / /p' Makefile
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: ## set up, start ComfyUI with the extension, make a first image, keep serving until Ctrl-C
	@exec $(PYTHON) examples/first_image.py --start --port $(PORT) --serve-args="$$ARGS"

serve: ## set up and start ComfyUI with the extension in the foreground (ARGS: for its main.py)
	@exec $(SETUP) serve --port $(PORT) -- $(ARGS)

launch: ## set up and start the launcher (its variables: README; ARGS: for ComfyUI's main.py)
	@exec $(SETUP) launch -- $(ARGS)

comfyui: ## get a ComfyUI: VERSION=0.3.52 DEST=folder
	@$(SETUP) get --version $(VERSION) $(if $(DEST),--dest "$(DEST)")

test: ## the whole suite, against real ComfyUIs (ARGS: for pytest)
	@comfyuis=$$($(SETUP) prepare --dev) && \
	STATELESS_TEST_COMFYUIS="$$comfyuis" $(VENV) -m pytest $(ARGS)

chaos: ## injected faults, for some ten minutes, as root (ARGS: for pytest; STATELESS_TEST_SEED repeats)
	@comfyuis=$$($(SETUP) prepare --dev) && \
	STATELESS_TEST_COMFYUIS="$$comfyuis" $(VENV) -m pytest -m chaos tests/chaos $(ARGS)

load: ## ten minutes of load; a soak: ARGS="--seconds 3600 --plot soak.svg" (ARGS: for tests/chaos/load.py)
	@comfyuis=$$($(SETUP) prepare --dev) && \
	STATELESS_TEST_COMFYUIS="$$comfyuis" $(VENV) -m tests.chaos.load $(ARGS)

fuzz: ## random requests, files and graphs, then libFuzzer, SECONDS=60 for each parser (ROUNDS=50)
	@comfyuis=$$($(SETUP) prepare --dev --fuzz) || exit; \
	STATELESS_TEST_COMFYUIS="$$comfyuis" STATELESS_TEST_FUZZ=$(ROUNDS) \
	$(VENV) -m pytest tests/fuzz $(FUZZED) $(ARGS); \
	status=$$?; $(VENV) -m tests.fuzz.harnesses.every $(SECONDS) && exit $$status

versions: ## what needs no ComfyUI on Python 3.10 to 3.13, old and new dependencies (ARGS: --only, --quick)
	@$(PYTHON) docker/versions.py $(ARGS)

screenshots: ## the pictures of the tab in ComfyUI's editor, made anew in docs/screenshots/
	@comfyuis=$$($(SETUP) prepare --dev) && \
	STATELESS_TEST_COMFYUIS="$$comfyuis" $(VENV) -m tests.browser.screenshots

bench: tools ## our route against ComfyUI's own, in one run (ARGS: for benchmarks/run.py)
	@comfyuis=$$($(SETUP) prepare) && \
	STATELESS_TEST_COMFYUIS="$$comfyuis" $(VENV) benchmarks/run.py $(ARGS)

lint: tools ## formatting, linter and type checker: what a change has to pass
	$(VENV) -m ruff format --check
	$(VENV) -m ruff check
	$(VENV) -m mypy
	$(VENV) -m mypy --python-version 3.13 comfyui_stateless docker

format: tools ## format the code, and mend what the linter can
	$(VENV) -m ruff format
	$(VENV) -m ruff check --fix

typecheck: tools ## the type checker alone
	$(VENV) -m mypy

tools:
	@$(SETUP) tools

clean: ## remove environments, caches and logs; ComfyUIs (with models and outputs) stay
	rm -rf .venv .comfyui/envs .comfyui/packaging .comfyui/setup.log .comfyui/torch-pins.txt
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info first-image.png
	find . \( -name .git -o -name .comfyui \) -prune -o -name __pycache__ -prune -exec rm -rf {} +
