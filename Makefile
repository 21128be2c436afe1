# make run     segment the sample photograph
# make test    run the tests, but for those marked `long`: in less than ten minutes on two cores
# make test-all  run every test          make check   ruff, mypy, import-linter, types of the page
# make smoke   train, kill, resume, save and predict in small
# make bench   the benchmarks            make clean   remove what these made
# make picture the picture of the README
# make docs    the documentation site, into out/docs; a broken link fails
# make engine-demo  the data engine once in small, with simulated people
# make web     build the browser's page, and the model for it, into the package (Node 20.19 or later, and npm)
# make web-test  check and test the page, in Chromium too where there is one
#
# All in a virtual environment in .venv, made with $(PYTHON) and the versions in constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PREBUILT := src/anymask/weights/onnx/model.json
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

# A worker a core, each with one thread: threads that wait for each other waste the cores of the other workers.
PYTEST := OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: run test test-all check smoke bench docs engine-demo picture web web-test clean

run: $(VENV)/.package
	$(BIN)/anymask segment src/anymask/samples/coffee.jpg --point 290,130 -o out

test: $(VENV)/.tests
	$(PYTEST) -m "not long"

test-all: $(VENV)/.tests
	$(PYTEST)

check: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python dev/openapi.py --check

smoke: $(VENV)/.tests
	$(BIN)/python -m pytest tests/end_to_end/test_smoke.py

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/one_click.py
	$(BIN)/python benchmarks/everything.py

engine-demo: $(VENV)/.tests
	rm -rf out/engine-demo out/engine-demo-sheets
	$(BIN)/anymask engine demo -o out/engine-demo

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "The site is in out/docs; to look at it: $(BIN)/python -m mkdocs serve"

picture: $(VENV)/.package
	$(BIN)/python docs/images/make_picture.py

web: web/node_modules/.installed $(PREBUILT)
	cd web && npm run build

$(PREBUILT): $(wildcard src/anymask/export/*.py src/anymask/model/*.py src/anymask/weights/*.safetensors) | $(VENV)/.export
	$(BIN)/python -m anymask.export.prebuilt

web-test: web/node_modules/.installed
	cd web && npm run check && npm test
	@if command -v "$${CHROMIUM:-chromium}" >/dev/null; then cd web && npm run e2e; \
	else echo "Tests in the browser are left out: they need Chromium, Debian's package of that name."; fi

clean:
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf web/node_modules web/e2e/out src/anymask/server/page src/anymask/weights/onnx
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

web/node_modules/.installed: web/package-lock.json
	cd web && npm ci
	@touch $@

$(VENV)/.package: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"anymask needs Python 3.11 or later; name one, as in: make $(MAKECMDGOALS) PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --upgrade "pip>=25.1"
	$(PIP) --editable .
	@touch $@

$(VENV)/.export: $(VENV)/.package
	$(PIP) --editable ".[export]"
	@touch $@

# The peers of the parity tests ask for torchvision, which no test needs: without their dependencies.
$(VENV)/.tests: $(VENV)/.package
	$(PIP) --editable ".[train,server,engine,postgres,ray]" --group test --group check
	$(PIP) --no-deps --group parity
	SAM2_BUILD_CUDA=0 $(PIP) --no-deps --no-build-isolation --group parity-source
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) --group docs
	@touch $@

$(VENV)/.bench: $(VENV)/.tests
	$(PIP) --group bench
	@touch $@
