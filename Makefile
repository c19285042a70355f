# TapAuth. `make` or `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
# pip's own account, cut down to a line a package.
PROGRESS := awk '/^Collecting/ {print "      " $$2; fflush()}'

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

.DEFAULT_GOAL := help
.PHONY: help run test lint format size bench firmware flash provision deploy status rollback logs \
	build emu test-emu clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(PY):
	@echo "[1/3] creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("TapAuth needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: tools/requirements/run.txt tools/requirements/constraints.txt | $(PY)
	@echo "[2/3] installing what the desktop charger needs (a minute on a slow line)"
	@$(PIP) install -r tools/requirements/run.txt -c tools/requirements/constraints.txt | $(PROGRESS)
	@touch $@

$(VENV)/test.stamp: tools/requirements/test.txt tools/requirements/flash.txt tools/requirements/constraints.txt $(VENV)/run.stamp
	@echo "[2/3] installing what the tests need"
	@$(PIP) install -r tools/requirements/test.txt -c tools/requirements/constraints.txt | $(PROGRESS)
	@touch $@

$(VENV)/flash.stamp: tools/requirements/flash.txt tools/requirements/constraints.txt $(VENV)/run.stamp
	@$(PIP) install -r tools/requirements/flash.txt -c tools/requirements/constraints.txt | $(PROGRESS)
	@touch $@

build/lib.stamp: tools/requirements/firmware.txt tools/compile/fetch_libs.py $(VENV)/run.stamp
	@echo "[3/3] fetching the libraries that go onto the board"
	@$(PY) -m tools.compile.fetch_libs build/lib
	@touch $@

run: build/lib.stamp  ## start the desktop charger (DEMO=1, SERVER=0, BROKER=host:port, MICROPYTHON=path)
	@$(PY) -m tools.charger $(if $(DEMO),--demo) $(if $(filter 0,$(SERVER)),--no-server) $(if $(BROKER),--broker $(BROKER))

test: build/lib.stamp $(VENV)/test.stamp  ## run all tests
	@$(PY) -m tools.desk.mosquitto
	@$(PY) -m tools.build
	@$(PY) -m pytest -n 4 --dist loadfile

emu: build/lib.stamp  ## start the firmware on an emulated Pico W (DEMO=1, SERVER=1, BUS=i2c|spi|uart, UF2=image, BROKER=port)
	@$(PY) -m tools.emulator $(if $(DEMO),--demo) $(if $(filter-out 0,$(SERVER)),--server) $(if $(BUS),--bus $(BUS)) $(if $(BROKER),--broker-port $(BROKER))

test-emu: build/lib.stamp $(VENV)/test.stamp  ## test and measure on an emulated Pico W, some minutes (UF2=image)
	@$(PY) -m tools.emulator.install
	@$(PY) -m tools.desk.mosquitto
	@rm -f build/emu.json
	@$(PY) -m pytest -n 2 --dist loadfile host_tests/emulated; \
	  status=$$?; $(PY) -m tools.bench.rows build/emu.json && exit $$status

lint: $(VENV)/test.stamp  ## check format, style and types
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

format: $(VENV)/test.stamp  ## format the sources
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

size: build/lib.stamp  ## bytes per module and board, idle heap, held against tools/ceilings.json
	@$(PY) -m tools.size

bench: build/lib.stamp  ## measure speed and memory, side by side
	@$(PY) -m tools.bench

firmware: build/lib.stamp  ## build a board's firmware image (BOARD= [LINES=0])
	@$(PY) -m tools.firmware "$(BOARD)" $(if $(filter 0,$(LINES)),--no-lines)

flash: $(VENV)/flash.stamp  ## put MicroPython on a board (BOARD= IMAGE= PORT= [NOW=1])
	@$(PY) -m tools.flash "$(BOARD)" "$(IMAGE)" "$(PORT)" $(if $(NOW),--now)

provision: $(VENV)/run.stamp  ## give boards key and configuration (BOARD= PORT= [SITE=] [NOW=1])
	@$(PY) -m tools.provision "$(BOARD)" "$(PORT)" $(if $(NOW),--now)

deploy: build/lib.stamp  ## update boards when no car charges (BOARD= PORT=a,b [SITE=] [NOW=1] [LINES=0])
	@$(PY) -m tools.deploy "$(BOARD)" "$(PORT)" $(if $(NOW),--now) $(if $(filter 0,$(LINES)),--no-lines)

status: $(VENV)/run.stamp  ## say what boards run, without stopping it (PORT=)
	@$(PY) -m tools.deploy --status "$(PORT)" $(if $(NOW),--now)

rollback: $(VENV)/run.stamp  ## go back to the firmware before, when no car charges (PORT= [NOW=1])
	@$(PY) -m tools.deploy --rollback "$(PORT)" $(if $(NOW),--now)

logs: $(VENV)/run.stamp  ## show what boards print, until Ctrl-C (PORT=)
	@$(PY) -m tools.deploy --logs "$(PORT)"

build: build/lib.stamp  ## compile the firmware to build/firmware
	@$(PY) -m tools.build

clean:  ## remove what was built, the desktop charger's flash included
	rm -rf build

distclean: clean  ## remove the installed tools too
	rm -rf $(VENV) .venv-emu
