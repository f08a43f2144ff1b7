# duologue: two commands do everything on a fresh Debian machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
INPUT ?=
WORKERS ?= 2
TEST_WORKERS ?= 2
DEBIAN := ffmpeg espeak-ng
DEBIAN_TEST := $(DEBIAN) chromium
TORCH := torch==2.13.0
# MediaPipe and others size their thread pools by these; one thread a process keeps bytes and CPU time honest.
export OMP_NUM_THREADS ?= 1
export PYANNOTE_METRICS_ENABLED := 0

.PHONY: install install-dev demo test lint bench docs debian debian-test clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements/lock.txt setup.py
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(TORCH)
	$(BIN)/python -m pip install -q --no-deps -r requirements/lock.txt
	$(BIN)/python -m pip install -q --no-deps -e .
	touch $@

install-dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.txt
	$(BIN)/python -m pip install -q --no-deps -r requirements/dev.txt
	touch $@

debian:
	@sh requirements/debian.sh $(DEBIAN)

debian-test:
	@sh requirements/debian.sh $(DEBIAN_TEST)

demo: debian install
	$(BIN)/python -m duologue.pipeline.demo --out "$(OUT)" --workers $(WORKERS) $(if $(INPUT),--input $(INPUT))

# The checkout's folder need not be called duologue, so mypy sees it through a link of that name.
lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .cache/mypy && ln -sfn "$(CURDIR)" .cache/mypy/duologue
	MYPYPATH=.cache/mypy $(BIN)/mypy -p duologue

test: debian-test lint
	$(BIN)/python -m pytest -q -n $(TEST_WORKERS) --dist loadfile

bench: debian install
	for script in bench/*.py; do $(BIN)/python $$script --json || exit 1; done

docs: install-dev
	$(BIN)/python -m pytest -q tests/test_docs.py

clean:
	rm -rf .cache .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
