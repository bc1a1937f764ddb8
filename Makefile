# make demo   set up .venv, run the quickstart sweep and its analysis
# make test   set up .venv, run the tests
# make test-all   those that take half a minute each, too
# make lint   format, lint, docstrings and type checks
# make docs   build the documentation into site/, strictly and without network
# make generated   write the catalogues of docs/ from the registries, and the rows of new metrics in the table of invariances
# make cluster   install and start a one-node Slurm (Debian, root) and Ray, run the tests on them

PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all lint docs generated cluster clean

demo: .venv/ready
	$(BIN)/mmbench run -m sweeps=quickstart
	$(BIN)/mmbench analyze

test: .venv/ready
	$(BIN)/python -m pytest -n auto --dist worksteal

test-all: .venv/ready
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'slow or not slow'

lint: .venv/ready
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

docs: .venv/ready
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

generated: .venv/ready
	$(BIN)/python docs/generate.py
	$(BIN)/python -m benchmarks.studies.invariances --missing

# Without the constraints: Ray's launcher needs an older cloudpickle, and with it an older joblib.
cluster: .venv/ready
	@if command -v uv >/dev/null; then \
	  set -ex; uv pip install --quiet --python $(BIN)/python -e '.[dev,slurm,ray]'; \
	else \
	  set -ex; $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,slurm,ray]'; \
	fi
	tests/cluster/start_slurm.sh
	$(BIN)/python -m pytest tests/cluster

.venv/ready: pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
	  set -ex; uv venv --quiet --clear --python $(PYTHON) .venv; \
	  uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  set -ex; $(PYTHON) -m venv --clear .venv; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

clean:
	rm -rf .venv dist results site
