# make demo    set up and run the demonstration: less than five minutes on two cores
# make test    set up and run the default tests (no Ray)
# make bench   set up, measure, and append the figures to tests/bench/RESULTS.md
# make check   set up and run everything: format, lint, types, every tier of tests
# make soak    set up and kill a running experiment at least twenty times, then run every tier on Python 3.12
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' >/dev/null 2>&1 && echo python3.12 || (command -v python3.11 >/dev/null 2>&1 && echo python3.11 || echo python3))
PYTHON312 ?= python3.12
VENV   ?= .venv
BIN    := $(VENV)/bin
MARK   := $(VENV)/.ready

export NO_ALBUMENTATIONS_UPDATE = 1
# The tests start hundreds of processes: what one of them has compiled is kept for the others.
export PYTHONDONTWRITEBYTECODE =

.PHONY: setup demo test lint types resolves static check bench soak lock clean

setup: $(MARK)

$(MARK): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else f"{sys.executable} is Python {v[0]}.{v[1]}; expected 3.11 or 3.12: type make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(MARK)

demo: setup
	$(BIN)/mtal run demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

resolves: setup
	@for v in 3.11 3.12; do VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --dry-run --python-version $$v --target $(VENV)/.resolved --require-hashes -r requirements.lock && echo "the lock resolves for Python $$v" || exit 1; done

static: lint types resolves

check: setup
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target static test
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m "(ray or browser or s3 or slow or label_studio) and not soak"

bench: setup
	$(BIN)/python tests/bench/bench_golden.py
	$(BIN)/python tests/bench/bench_arithmetic.py
	$(BIN)/python tests/bench/bench_selection.py
	$(BIN)/python tests/bench/bench_pool.py
	$(BIN)/python tests/bench/bench_prepare.py
	$(BIN)/python tests/bench/bench_training_together.py
	$(BIN)/python tests/bench/bench_scaling.py
	$(BIN)/python tests/bench/bench_scoring.py
	$(BIN)/python tests/bench/bench_pseudo_labels.py --record
	$(BIN)/python tests/bench/bench_orchestration.py
	$(BIN)/python tests/bench/bench_run.py demo

soak: setup
	$(BIN)/python -m tests.ray.soak --kills 20 --seed $${MTAL_SOAK_SEED:-$$(date +%s)} --record
	$(BIN)/python -m pytest -n 2 -m soak
	$(BIN)/python -m tests.ray.soak --kills 7 --s3 --seed $${MTAL_SOAK_SEED:-$$(date +%s)} --record
	$(MAKE) PYTHON=$(PYTHON312) VENV=.venv-312 check

lock:
	$(BIN)/uv pip compile --universal --python-version 3.11 --group dev pyproject.toml --generate-hashes --no-emit-index-url --no-header -o requirements.lock

clean:
	rm -rf $(VENV) .venv-312 .venv-label-studio .mypy_cache .pytest_cache .ruff_cache dist
