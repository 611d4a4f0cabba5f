# Every target sets up what it needs in .venv; a machine with Python 3.11 or 3.12 and make is enough.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$python && break; done)

# The tracker's model: taken from beside the checkout where it is there, else downloaded once and verified.
LANDMARKER := $(abspath ../shared/models/face_landmarker.task)
ifneq ($(wildcard $(LANDMARKER)),)
export DMSYNTH_FACE_LANDMARKER ?= $(LANDMARKER)
endif

.PHONY: install demo starter test test-slow lint bench ablations cockpit reproduce-position reproduce-rotation stability validate lock clean

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "dmsynth needs Python 3.11 or 3.12; install one, or run make PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m dmsynth.web.runtime
	@touch $@

demo: install  ## one portrait → a steered, tracked video and its report, in runs/demo
	$(BIN)/dmsynth demo --out runs/demo

starter: install  ## the face that dmsynth comes with, trained anew from its portrait: five minutes
	$(BIN)/dmsynth starter --out src/dmsynth/data/starter.safetensors --folder runs/starter

test: install  ## the fast tests
	$(BIN)/python -m pytest

test-slow: install  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy

bench: install  ## posing, import, training and steering speed, side by side on this machine
	$(BIN)/dmsynth bench --out runs/bench

ablations: install  ## SwapWarp with one part left out at a time: a quarter of an hour
	$(BIN)/dmsynth ablate --out runs/ablations

reproduce-position: install  ## chapter 3 of the thesis, scaled to a laptop: hours; interrupted, it goes on
	$(BIN)/dmsynth reproduce position --preset laptop --out runs/position

reproduce-rotation: install  ## chapter 4 on the embedded portrait: make reproduce-rotation DRIVING=somebody.mp4
	$(BIN)/dmsynth reproduce rotation --preset laptop --driving "$(DRIVING)" --out runs/rotation

cockpit: install  ## steer, train and validate in a page on this machine alone
	$(BIN)/dmsynth cockpit --workspace runs/cockpit

stability: install  ## the thesis's optimization against the stable one: a quarter of an hour
	$(BIN)/dmsynth reproduce stability --out runs/stability

validate: install  ## the reference DMS on every scenario with the starter face: a few minutes
	$(BIN)/dmsynth validate all --face starter --dms reference --out runs/reference

lock: install  ## write requirements.lock anew from pyproject.toml
	$(BIN)/pip-compile --quiet --extra dev --allow-unsafe --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	sed -i.bak -e 's/+cpu$$//' -e '/considered to be unsafe/d' requirements.lock && rm requirements.lock.bak

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
