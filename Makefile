# Everything runs in .venv, which the first target that needs it builds from the locked versions in requirements/.
#   ARGS passes options on:   make train ENV=hopper ARGS="--total-env-steps 1000000"
#   PYTHON names the interpreter (3.11, 3.12 or 3.13); otherwise 3.12, 3.13 or 3.11 is taken, the first that is found.
#   JOBS is the number of test processes; each takes up to 4 GB of memory.
#   EXHAUSTIVE chooses exhaustive test cases to run as well: all, or one of several parts, such as 3/16.
#   EXTRAS adds accelerators and tools: cuda12, cuda13, warp, onnx, wandb, minari, view, playground, docs.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
INSTALL := $(PIP) install --root-user-action=ignore

ARGS ?=
EXTRAS ?=
CKPT ?= ckpt
JOBS ?= 2
EXHAUSTIVE ?=
comma := ,

known_extras := cuda12 cuda13 warp onnx wandb minari view playground docs
asked_extras := $(subst $(comma), ,$(EXTRAS))
ifneq ($(filter-out $(known_extras),$(asked_extras)),)
$(error EXTRAS=$(filter-out $(known_extras),$(asked_extras)) is unknown; choose from $(known_extras))
endif

# Extras are remembered by their stamps, so that a changed lock brings them up to date too.
extra_stamp = $(VENV)/.stamp-extra-
extras := $(sort $(asked_extras) $(patsubst $(extra_stamp)%,%,$(wildcard $(extra_stamp)*)))
ifneq ($(and $(filter cuda12,$(extras)),$(filter cuda13,$(extras))),)
$(error cuda12 and cuda13 exclude each other in one .venv; choose one, after `make clean-venv` if the other is installed)
endif
ifeq ($(or $(ENV),$(filter-out train,$(MAKECMDGOALS)),$(if $(MAKECMDGOALS),,help)),)
$(error name the task: make train ENV=halfcheetah (or hopper, walker2d))
endif
READY := $(STAMP) $(addprefix $(extra_stamp),$(extras))

# The stamp holds the checkout's path: a .venv that was moved or lost its interpreter is made again. An interpreter
# named on the command line always gets a look, because .venv may be of another version.
state := $(shell $(BIN)/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null)
ifneq ($(or $(PYTHON),$(filter-out "$(state)","$(CURDIR)")),)
$(STAMP): FORCE
endif

$(STAMP): pyproject.toml requirements/lock.txt
	@sh requirements/venv.sh $(VENV) "$(PYTHON)"
	@if [ ! -e $@ ] || [ -n "$(filter-out FORCE,$?)" ]; then \
		echo "setup: installing the locked packages (some 400 MB to download the first time)" >&2 \
		&& $(INSTALL) --no-deps -r requirements/lock.txt \
		&& $(INSTALL) --no-deps --no-build-isolation -e . \
		&& pwd -P > $@; \
	fi

$(extra_stamp)%: $(STAMP) requirements/extras.txt
	@echo "setup: installing the extra $*" >&2
	@$(INSTALL) --no-build-isolation -c requirements/extras.txt -e ".[$*]"
	@touch $@

.PHONY: help
help: ## list the targets (default)
	@echo "usage: make TARGET [ENV=halfcheetah] [SEED=0] [CKPT=ckpt] [ARGS=\"...\"] [EXTRAS=cuda12] [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(READY) ## make .venv from the locked versions; EXTRAS=cuda12|cuda13|warp|onnx|wandb|minari|view|playground|docs adds to it
	@echo "setup: $(VENV) is ready: $$($(BIN)/python -c 'import sys, importlib.metadata as m; \
		print("Python %d.%d.%d," % sys.version_info[:3], "jax", m.version("jax") + ",", "mujoco", m.version("mujoco"))')" >&2

.PHONY: train
train: $(READY) ## train a policy: make train ENV=halfcheetah (or hopper, walker2d)
	@$(BIN)/mjxppo train --env $(ENV) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: render
render: $(READY) ## draw a trained policy to a video: make render CKPT=ckpt ARGS="--out run.gif"
	@$(BIN)/mjxppo render $(CKPT) $(ARGS)

.PHONY: evaluate
evaluate: $(READY) ## run a trained policy in Gymnasium's C MuJoCo
	@$(BIN)/mjxppo evaluate $(CKPT) $(ARGS)

.PHONY: benchmark
benchmark: $(READY) ## measure physics, training and compile time
	@$(BIN)/mjxppo benchmark $(ARGS)

.PHONY: study
study: $(READY) ## compare variants, five seeds each: make study NAME=advantage_normalization
	@$(BIN)/mjxppo study $(if $(NAME),$(NAME),advantage_normalization) $(ARGS)

# The CUDA plugin has an environment of its own: in .venv JAX would look for a GPU at every start.
GPU_VENV := .venv-gpu
.PHONY: gpu-program
gpu-program: ## compile for a GPU that need not be there: all GPU configurations, or ARGS="--config half_cheetah_gpu --device h200"
	@$(MAKE) --no-print-directory setup VENV=$(GPU_VENV) EXTRAS=cuda12 ARGS= >&2
	@$(if $(filter-out --record --part=%,$(ARGS)),$(GPU_VENV)/bin/mjxppo benchmark program,$(GPU_VENV)/bin/python tests/gpu_program.py) $(ARGS)

# An environment of its own, so that .venv keeps its Python.
START_VENV := .venv-$(notdir $(PYTHON))
.PHONY: start
start: ## install and train a little with another Python: make start PYTHON=python3.13
	@test -n "$(PYTHON)" || { echo "name the interpreter: make start PYTHON=python3.13" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup VENV=$(START_VENV) EXTRAS= ARGS=
	@JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(START_VENV)/bin/mjxppo train --env hopper --total-env-steps 20000 \
		--eval.episodes 2 --eval.no-video --run-dir $(START_VENV)/run-$$(date +%s) $(ARGS)

.PHONY: kill
kill: $(READY) ## kill a run 50 times and compare it with one left alone: make kill ARGS="--kills 10"
	@$(BIN)/python tests/kill.py $(ARGS)

.PHONY: soak
soak: $(READY) ## train for 500M steps and look for leaks, slowdown and non-finite numbers
	@$(BIN)/python tests/soak.py $(ARGS)

.PHONY: test
test: $(READY) $(extra_stamp)warp $(extra_stamp)onnx ## run the tests: make test ARGS="-k gae"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(if $(EXHAUSTIVE),--exhaustive $(EXHAUSTIVE)) $(ARGS)

.PHONY: test-all
test-all: EXHAUSTIVE := all
test-all: test ## run the tests with every exhaustive case

.PHONY: mutations
mutations: $(READY) ## break each part of learning once, and see a test fail (half an hour)
	@$(BIN)/python tests/mutations.py

.PHONY: lint
lint: $(READY) ## check style and formatting (ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: format
format: $(READY) ## put style and formatting right where that can be done automatically
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: types
types: $(READY) ## check types (mypy)
	@$(BIN)/mypy mjxppo

.PHONY: check
check: lint types docs test ## all that CI runs: style, types, documentation, tests

.PHONY: docs
docs: $(READY) $(extra_stamp)docs ## build the documentation site into site/; every warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --clean

.PHONY: dist
dist: $(READY) ## build the wheel and the source distribution into dist/
	@$(BIN)/python -m build --no-isolation --outdir dist .

# Keeps the present pins where it can; ARGS=--upgrade takes the newest of everything.
UV_COMPILE := UV_SYSTEM_CERTS=1 $(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate
.PHONY: lock
lock: $(READY) ## resolve requirements/*.txt again from pyproject.toml
	@$(INSTALL) uv
	@$(UV_COMPILE) pyproject.toml --extra dev $(ARGS) -o requirements/lock.txt
	@$(UV_COMPILE) pyproject.toml --all-extras -c requirements/lock.txt $(ARGS) -o requirements/extras.txt

.PHONY: clean
clean: ## remove caches and build products (runs and .venv stay)
	@rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: clean-venv
clean-venv: ## remove .venv
	@rm -rf $(VENV)

.PHONY: FORCE
FORCE:
