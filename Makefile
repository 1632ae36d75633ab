PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Threads that wait without spinning: on a machine that does other things as well, the joint phase is faster.
export OMP_WAIT_POLICY ?= passive
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: demo install test test-gpu check format bench bench-gpu

demo: install
	$(BIN)/python scripts/demo.py

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt overrides.txt setup.py $(wildcard qsplat/kernels/*.c qsplat/kernels/*.h)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt --override overrides.txt --editable ".[dev,sfm,tools]"
	ln -sf "$$($(BIN)/python -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" $(BIN)/ffmpeg
	ln -sf "$$($(BIN)/python -c 'import libusb_package; print(libusb_package.get_library_path())')" $(VENV)/lib/libusb-1.0.so.0
	touch $(STAMP)

test: install
	$(BIN)/python -m pytest -m "not gpu" --numprocesses 2 --dist loadfile

test-gpu: install
	$(BIN)/python -m pytest -m gpu

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python scripts/bench/rasterizer.py --json docs/performance/rasterizer.json
	$(BIN)/python scripts/bench/loss.py --json docs/performance/loss.json
	$(BIN)/python scripts/bench/training.py --json docs/performance/training.json
	$(BIN)/python scripts/bench/scaling.py --json docs/performance/scaling.json --plot docs/performance
	$(BIN)/python scripts/bench/ns_train.py --json docs/performance/ns_train.json
	$(BIN)/python scripts/bench/startup.py --json docs/performance/startup.json --repeats 3
	OMP_NUM_THREADS=1 $(BIN)/python scripts/bench/convolutions.py --json docs/performance/convolutions.json
	$(BIN)/python scripts/bench/page.py

bench-gpu: install
	$(BIN)/python scripts/bench/gpu.py
