# make demo    install the runtime alone and segment a picture
# make test    create .venv, install, run the whole test suite
# make check   ruff, mypy, import-linter

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

DEMO := .venv-demo
DEMO_OUT := ovsdino-out

.PHONY: demo test check format clean

demo: $(DEMO)/installed
	$(DEMO)/bin/ovsdino-run examples/street.png --classes cars,road,building,sky,tree,person --out "$(DEMO_OUT)"
	@echo "ovsdino-run is in $(DEMO): to have it on your PATH, run"
	@echo "    . $(DEMO)/bin/activate"

# One thread a process: two test processes share the machine's cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e . --group dev
	touch $@

$(DEMO)/installed: pyproject.toml constraints.txt $(shell find runtime -type f -not -name '*.pyc')
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt ".[cpu]"
	touch $@

clean:
	rm -rf .venv .venv-demo dist build
