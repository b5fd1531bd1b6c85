# Every target builds .venv/ first, when it is not there or its list of packages has changed.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help play demo bench benchmark acting worlds gaps rivals pretrained package docs notebooks linkcheck test test-slow lint

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

play: .venv/installed ## drive a dream that comes with the package, in a browser
	$(BIN)/python scripts/play.py

demo: .venv/installed ## collect, train, imagine, act, report: two minutes
	$(BIN)/python scripts/demo.py

# Four hours on two cores; writes RESULTS.md and results/.
benchmark: .venv/installed ## RESULTS.md: four hours
	$(BIN)/python scripts/benchmark.py --models dvbf dvbf-told dvbf-w-inference
	$(BIN)/python scripts/benchmark.py --models paper-dvbf paper-dvbf-bayesian dkf static-vae
	$(BIN)/python scripts/benchmark.py --models dvbf --noise 0.05
	$(BIN)/python scripts/benchmark.py --models dvbf-w-inference --noise 0.05 --seeds 5
	$(BIN)/python scripts/benchmark.py --models dvbf --noise 0.1 --seeds 5
	$(BIN)/python scripts/benchmark.py --models dvbf --sequences 250 --seeds 5
	$(BIN)/python scripts/benchmark.py --models dvbf-bfloat16 --seeds 5
	$(BIN)/python scripts/benchmark.py --models dvbf-large --world frictionless --seeds 5
	$(BIN)/python scripts/benchmark.py --ablations --seeds 5
	$(BIN)/python scripts/vae_balance.py

# An hour or two on two cores; writes ACTING.md and results/acting.json. What is finished is kept in runs/acting.
acting: .venv/installed ## ACTING.md: an hour or two
	$(BIN)/python scripts/acting.py

# Two hours on two cores; writes WORLDS.md, docs/worlds.png and results/worlds.json. What is finished is kept in runs/worlds.
worlds: .venv/installed ## WORLDS.md: two hours
	$(BIN)/python scripts/worlds.py

# An hour on two cores; writes GAPS.md and results/gaps.json. What is finished is kept in runs/gaps.
gaps: .venv/installed ## GAPS.md: an hour
	$(BIN)/python scripts/gaps.py

# About nine hours on two cores with ten seeds (reckoned from those that are there); writes RIVALS.md, docs/rivals.png and results/rivals.json.
# What is finished is kept in runs/rivals.
rivals: .venv/installed ## RIVALS.md: nine hours
	$(BIN)/python scripts/rivals.py

# Ten minutes on two cores; writes worldmodel/pretrained/. What is finished is kept in runs/pretrained-study.
pretrained: .venv/installed ## the runs that come with the package: ten minutes
	$(BIN)/python scripts/pretrained.py

# A quarter of an hour on two cores; writes SPEED.md, results/speed.json and docs/speed.png. Installs PyTorch, whose ordinary build
# brings gigabytes of CUDA libraries; to do without them, install its CPU build of that version into .venv before.
# The twin is first proved to be one.
bench: .venv/installed-bench ## SPEED.md, beside PyTorch, which it installs: a quarter of an hour
	$(BIN)/python -m pytest tests/baselines/test_torch_dvbf.py
	$(BIN)/python scripts/speed.py

# The wheel goes into an environment of its own in build/fresh, and does what a user does, far from the checkout. For another Python:
# make package PYTHON=python3.14
package: .venv/installed-dev ## dist/, and the wheel tried in a fresh environment: three minutes
	rm -rf dist build
	$(BIN)/python -m build
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	mkdir build/elsewhere
	cd build/elsewhere && ../fresh/bin/python $(CURDIR)/tests/packaging/use.py $(CURDIR)/build/fresh

# Warnings are errors. The notebooks of the tutorial are run, and what they gave is kept in docs/_build until they change;
# EXECUTE=off builds without them.
EXECUTE ?= cache
SPHINX = WORLDMODEL_DOCS_EXECUTE=$(EXECUTE) $(BIN)/python -m sphinx -W --keep-going -n -d docs/_build/doctrees
docs: .venv/installed-docs docs/_static/dream.html ## the site, docs/_build/html/index.html
	$(SPHINX) -b html docs docs/_build/html

docs/_static/dream.html: .venv/installed $(wildcard worldmodel/exporting/* worldmodel/play/*) worldmodel/pretrained/swing-up/card.json
	$(BIN)/python scripts/export.py --run worldmodel/pretrained/swing-up --out $@

linkcheck: .venv/installed-docs ## whether the site's links to other sites work
	$(SPHINX) -b linkcheck docs docs/_build/linkcheck

notebooks: .venv/installed-dev ## run the tutorial from nothing: five minutes
	$(BIN)/python -m pytest -m slow tests/docs/test_notebooks.py

test: lint ## lint, types, tests: about ten minutes
	$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/installed-dev ## trainings of minutes
	$(BIN)/python -m pytest -m slow

lint: .venv/installed-dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy && $(BIN)/mypy scripts/*.py

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

.venv/installed-bench: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@
