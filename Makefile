# Every target sets up what it needs in .venv; a machine with Python 3.11 or later and make is enough.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: install demo starter test test-slow torture torture-cockpit wheel lint house bench gpu ablations cockpit reproduce-position reproduce-rotation stability validate lock clean

install: $(VENV)/installed

$(VENV)/installed: requirements.lock requirements-torch.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "dmsynth needs Python 3.11 or later; install one, or run make PYTHON=/path/to/it"; exit 1; }
	@$(PYTHON) src/dmsynth/support/system_libraries.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --require-hashes -r requirements.lock
	$(PIP) -r requirements-torch.txt
	$(PIP) --no-deps --no-build-isolation -e .
	$(BIN)/dmsynth fetch || echo 'going on without; what needs it fetches it or says so'
	@touch $@

demo: install  ## one portrait → a steered, tracked video and its report, in runs/demo
	$(BIN)/dmsynth demo --out runs/demo $(DEMO)

starter: install  ## the face that dmsynth comes with, trained anew from its portrait: five minutes
	$(BIN)/dmsynth starter --out src/dmsynth/data/starter.safetensors --folder runs/starter

# A file of tests at a time on each core, the longest first (tests/conftest.py), and one thread in each: tests in
# parallel beat operators in parallel.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: install  ## the fast tests
	$(PYTEST)

test-slow: install  ## the tests that take minutes
	$(PYTEST) -m slow

N := 10000
KILLS := 100

torture: install  ## N damaged inputs through every reader, and KILLS kills: half an hour; counts of what went wrong
	cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -m torture.inputs $(N)
	cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -m torture.kills $(KILLS)

torture-cockpit: install  ## the cockpit for MINUTES (60): three pages steering, 2,000 odd requests; its memory and its answers
	cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -m torture.cockpit $(MINUTES)

wheel: install  ## dist/*.whl, whole: with the browser's runtime and the starter face
	$(BIN)/hatchling build -t wheel

lint: install
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy

house: install  ## docs/images/house.png: the folders and their imports, drawn anew
	$(BIN)/python tests/house.py docs/images/house.png

bench: install  ## posing, import, training and steering speed, side by side on this machine
	$(BIN)/dmsynth bench --out runs/bench

gpu: install  ## what matters on a GPU, in ten minutes, on one page: make gpu GPU="--minutes 20"
	$(BIN)/dmsynth gpu --out runs/gpu $(GPU)

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

validate: install  ## the reference DMS on every scenario with the posed portrait: ten minutes
	$(BIN)/dmsynth validate all --face posed:portrait --dms reference --out runs/reference

lock: install  ## write requirements.lock anew from pyproject.toml, for every Python and system
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --upgrade --no-header \
		--no-annotate --constraint requirements-torch.txt --excludes requirements-excluded.txt --no-emit-package torch \
		--output-file requirements.lock pyproject.toml requirements.in

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
