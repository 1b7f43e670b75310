# Everything runs in .venv, which the targets make themselves. PYTHON chooses the interpreter it is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT := out
# Two tests at a time, each with one thread: threads that wait for one another are slower on few cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
FORMATTED := aict_hf space training tests examples benchmarks

.PHONY: demo space test test-all test-browser check format bench clean

demo: $(VENV)/.demo  ## harmonize the example composite with the bundled checkpoint
	@mkdir -p $(OUT)
	$(BIN)/aict harmonize examples/dandelion_composite.jpg examples/dandelion_mask.png -o $(OUT)/dandelion.jpg
	@echo "The harmonized picture: $(OUT)/dandelion.jpg (before: examples/dandelion_composite.jpg)"

test: $(VENV)/.dev $(VENV)/.oldest  ## the default tests: a few minutes on two CPU cores
	$(PYTEST) -m "not slow and not gpu and not browser"

test-all: $(VENV)/.dev $(VENV)/.oldest  ## slow tests too, and those that need a GPU where there is one
	$(PYTEST) -m "not browser"

test-browser: $(VENV)/.browser  ## the Space in a real browser; takes the screenshots the README shows
	$(BIN)/python -m pytest -m browser

space: $(VENV)/.space  ## the Gradio Space on http://127.0.0.1:7860
	$(BIN)/python space/app.py

check: $(VENV)/.dev  ## lint and types
	$(BIN)/ruff format --check $(FORMATTED)
	$(BIN)/ruff check $(FORMATTED)
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format $(FORMATTED)
	$(BIN)/ruff check --fix $(FORMATTED)

bench: $(VENV)/.dev  ## the figures of benchmarks/RESULTS.md
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

clean:
	rm -rf $(VENV) $(OUT)

$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) install --quiet -c constraints.txt -e ".[16bit,large,numba]"
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.space: $(VENV)/.torch pyproject.toml
	$(PIP) install --quiet -c constraints.txt -e ".[16bit,compositing,numba,space]"
	@touch $@

# Debian's chromium, where it is or can be had (as root); elsewhere the one that Playwright brings.
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
