# make run [CONFIG=experiments/x.py] [ARGS="--config.train.steps=100"], make test.
# PYTHON: any Python from 3.11 on. EXTRAS=cuda (or cuda12, tpu) for an accelerator.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= experiments/tca.py
ARGS ?=
EXTRAS ?=
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	--constraint requirements.lock --editable

.PHONY: run test lint lock clean
comma := ,

run: $(VENV)/.run-$(EXTRAS)
	$(VENV)/bin/python -m experiments.run --config=$(CONFIG) $(ARGS)

test: $(VENV)/.test-$(EXTRAS)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/python -m pytest -n 2 --dist=worksteal $(ARGS)

lint: $(VENV)/.test-$(EXTRAS)
	$(VENV)/bin/ruff check .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-$(EXTRAS): setup.cfg requirements.lock | $(VENV)/bin/python
	$(INSTALL) ".$(if $(EXTRAS),[$(EXTRAS)])"
	touch $@

$(VENV)/.test-$(EXTRAS): setup.cfg requirements.lock | $(VENV)/bin/python
	$(INSTALL) ".[test$(if $(EXTRAS),$(comma)$(EXTRAS))]"
	touch $@

# Pins whatever is installed now: make lock after trying newer versions.
lock: $(VENV)/.test-$(EXTRAS)
	$(VENV)/bin/python -m pip freeze --exclude-editable | grep -v ' @ ' > requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info
