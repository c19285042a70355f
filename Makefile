# TapAuth. `make` or `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test lint format size build clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

$(PY):
	@echo "[1/3] creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("TapAuth needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: tools/requirements-run.txt tools/constraints.txt | $(PY)
	@echo "[2/3] installing what the desktop charger needs (a minute on a slow line)"
	@$(PIP) install -r tools/requirements-run.txt -c tools/constraints.txt
	@touch $@

$(VENV)/test.stamp: tools/requirements-test.txt tools/constraints.txt $(VENV)/run.stamp
	@echo "[2/3] installing what the tests need"
	@$(PIP) install -r tools/requirements-test.txt -c tools/constraints.txt
	@touch $@

build/lib.stamp: tools/requirements-firmware.txt tools/fetch_libs.py $(VENV)/run.stamp
	@echo "[3/3] fetching the libraries that go onto the board"
	@$(PY) -m tools.fetch_libs build/lib
	@touch $@

build: build/lib.stamp  ## compile the firmware to build/firmware
	@$(PY) -m tools.build

clean:  ## remove what was built, the desktop charger's flash included
	rm -rf build

distclean: clean  ## remove the installed tools too
	rm -rf $(VENV)
