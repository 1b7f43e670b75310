# Each target creates the environment it needs in .venv. PYTHON is the interpreter that .venv is created with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT := out
# Two test processes with one thread each: several threads in each process would slow each other down on few cores.
# They take the files in the order of tests/conftest.py, the longest first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
FORMATTED := aict_hf space training tests examples benchmarks docs

.PHONY: help demo space test test-all test-browser docs check format bench clean

help:  ## list the targets
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "%-14s%s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo  ## harmonize the example composite with the bundled checkpoint
	@mkdir -p $(OUT)
	$(BIN)/aict harmonize examples/dogs_composite.jpg examples/dogs_mask.png -o $(OUT)/dogs.jpg
	@echo "The harmonized photo: $(OUT)/dogs.jpg (the composite: examples/dogs_composite.jpg)"

test: $(VENV)/.dev $(VENV)/.oldest  ## run the default tests and report their coverage
	$(PYTEST) --cov --cov-report=term -m "not slow and not gpu and not browser"

test-all: $(VENV)/.dev $(VENV)/.oldest  ## run all tests except the browser's, with a GPU if there is one
	$(PYTEST) -m "not browser"

test-browser: $(VENV)/.browser  ## test the Space in a browser and take screenshots of it
	$(BIN)/python -m pytest -m browser

docs: $(VENV)/.docs  ## build the documentation into out/docs, with warnings as errors
	$(BIN)/python -m sphinx -W --keep-going -q -d $(OUT)/doctrees docs $(OUT)/docs
	@echo "The documentation: $(OUT)/docs/index.html"

space: $(VENV)/.space  ## start the Gradio Space on http://127.0.0.1:7860
	$(BIN)/python space/app.py

check: $(VENV)/.dev  ## check format, lint and types
	$(BIN)/ruff format --check $(FORMATTED)
	$(BIN)/ruff check $(FORMATTED)
	$(BIN)/mypy

format: $(VENV)/.dev  ## format the code and fix what ruff can fix
	$(BIN)/ruff format $(FORMATTED)
	$(BIN)/ruff check --fix $(FORMATTED)

bench: $(VENV)/.dev  ## run the quick benchmarks; RESULTS.md has the commands of all
	$(BIN)/python benchmarks/bench_harmonize.py
	$(BIN)/python benchmarks/bench_training.py
	$(BIN)/python benchmarks/bench_lut.py --sizes 2048x2048 5120x2880 --dtypes uint8 --maps 64 \
		--ways published reference kernel
	$(BIN)/python benchmarks/bench_large.py
	$(BIN)/python benchmarks/efficiency_table.py
	$(BIN)/python benchmarks/bench_end_to_end.py
	$(BIN)/python benchmarks/bench_graphs.py
	$(BIN)/python benchmarks/bench_augment.py
	$(BIN)/python benchmarks/bench_space.py

clean:  ## delete .venv and out
	rm -rf $(VENV) $(OUT)

$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) install --quiet -c constraints.txt -e ".[16bit,fast,large]"
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

# The API reference imports every module, so it needs all extras.
$(VENV)/.docs: $(VENV)/.dev
	$(PIP) install --quiet -c constraints.txt -e ".[dev,docs]"
	@touch $@

$(VENV)/.space: $(VENV)/.torch pyproject.toml
	$(PIP) install --quiet -c constraints.txt -e ".[16bit,compositing,cutout,numba,space,video]"
	@touch $@

# Debian's chromium if it is installed or root can install it, else the one that Playwright downloads.
$(VENV)/.browser: $(VENV)/.dev
	$(PIP) install --quiet -c constraints.txt -e ".[dev,browser]"
	command -v chromium >/dev/null || (apt-get -qq update && apt-get -qq install -y chromium) \
		|| $(BIN)/python -m playwright install chromium
	@touch $@

# The oldest transformers that pyproject.toml allows, in a folder of its own: exported models must load there too.
$(VENV)/.oldest: $(VENV)/.dev
	$(PIP) install --quiet --no-deps --upgrade --target $(VENV)/oldest "transformers==5.17.0" "huggingface-hub<2" \
		httpx httpcore h11 anyio idna certifi
	@touch $@
