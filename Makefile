# Two commands: `make run` and `make test`. Both make .venv when it is missing.
PYTHON ?= python3
# An extra package index for the CPU build of torch, where one can be reached; empty by default.
TORCH_INDEX ?=
BIN := .venv/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run check test soak interop bench bench-encryption coverage lint clean

run: .venv/installed
	$(BIN)/sottovoce simulate --ask

# What needs neither Ray nor another process, on two cores; then the rest, one file after the other on each of them:
# processes wait for one another more than they compute.
QUICK := not processes and not whole
ALONE := not processes
ROOMS := privacy pipeline clients server simulations sottovoce
SLOW := processes and not soak and not interop

check: .venv/installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "$(QUICK)"

test: .venv/installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "$(ALONE)" 
	$(BIN)/pytest -n 2 --dist loadfile -m "$(SLOW)"

# The same, with a look at what no test reaches: it takes half as long again.
coverage: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "$(ALONE)" $(ROOMS:%=--cov=%) --cov-report=
	$(BIN)/pytest -n 2 --dist loadfile -m "$(SLOW)" $(ROOMS:%=--cov=%) --cov-append --cov-report=term-missing:skip-covered --cov-fail-under=90

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: .venv/installed-dev
	$(BIN)/pytest -m soak

interop: .venv/installed-dev .venv-airflow/installed .venv-kubeflow/installed .venv-beam/installed .venv-mlmd/installed .venv-openlineage/installed .venv-xgboost/installed
	$(BIN)/pytest -m interop

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.lifecycle

bench-encryption: .venv/installed-dev .venv-nvflare/installed
	$(BIN)/python -m benchmarks.encryption --nvflare .venv-nvflare/bin/python

# NVFlare pins what it likes, so it lives in an environment of its own; only the benchmark uses it.
.venv-nvflare/installed:
	$(PYTHON) -m venv .venv-nvflare
	.venv-nvflare/bin/pip install --quiet 'nvflare[HE]==2.9.0'
	touch $@

# Each of the others' systems pins what it likes too: their environments hold nothing of ours.
.venv-airflow/installed: PACKAGES = apache-airflow==3.3.2
.venv-kubeflow/installed: PACKAGES = kfp==2.17.3 kfp-kubernetes==2.17.3
.venv-beam/installed: PACKAGES = apache-beam==2.77.0
.venv-mlmd/installed: PACKAGES = ml-metadata==1.17.1
.venv-openlineage/installed: PACKAGES = openlineage-python==1.54.0
.venv-xgboost/installed: PACKAGES = xgboost-cpu==3.2.0
.venv-airflow/installed .venv-kubeflow/installed .venv-beam/installed .venv-mlmd/installed .venv-openlineage/installed .venv-xgboost/installed: Makefile
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet $(PACKAGES)
	touch $@

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --retries 1 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
