# make demo      trains five mixing methods on real digits and compares them, in minutes on a CPU
# make test      runs all tests except the slow ones, in minutes on two cores
# make test-all  runs all tests, also those in Lightning and other frameworks
# make lint      runs the linter and checks the format
# Each of them first installs what it needs into .venv (some 6 GB); PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
DEMO = results/runs/digits_preactresnet18_narrow_puzzlemix/seed0/checkpoints
SHELL = bash
.SHELLFLAGS = -o pipefail -c
DEMO_SEEDS = demo-seeds-0,2 demo-seeds-1,3

.PHONY: help demo $(DEMO_SEEDS) test test-all lint
.DELETE_ON_ERROR:

help:  # the first target, so plain `make` prints it
	@sed -n '/^#/!q; s/^# //p' Makefile

demo: .venv/installed
	@$(MAKE) --no-print-directory --jobs=2 $(DEMO_SEEDS)
	.venv/bin/python scripts/visualize.py checkpoint=$(DEMO)/last.pt
	.venv/bin/python scripts/compare.py table=digits_preactresnet18_narrow
	.venv/bin/python scripts/report.py
	@printf '%-12s%s\n' runs: results/runs checkpoint: $(DEMO)/last.pt picture: $(DEMO)/last_puzzles.png page: results/report.html

# Two processes with one thread each are faster than one process with two. Behind a pipe they print lines, not bars.
$(DEMO_SEEDS): demo-seeds-%:
	OMP_NUM_THREADS=1 .venv/bin/python scripts/train.py sweep=digits_table seed=$* 2>&1 | cat

test: .venv/installed-for-tests
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-all: .venv/installed-for-all-tests
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadgroup

lint: .venv/installed-for-tests
	.venv/bin/ruff check
	.venv/bin/ruff format --check

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.txt
	.venv/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

.venv/installed-for-tests: .venv/installed requirements-test.txt
	.venv/bin/python -m pip install --quiet --requirement requirements-test.txt
	touch $@

.venv/installed-for-all-tests: .venv/installed-for-tests requirements-frameworks.txt
	.venv/bin/python -m pip install --quiet --requirement requirements-frameworks.txt --constraint requirements.txt
	touch $@
