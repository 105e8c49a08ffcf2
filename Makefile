# make demo   install, render a demo video, ask it questions
# make test   install, run the whole suite
# make lint   style and project rules
# make clean  remove what the commands above made
#
# On Linux plain `pip` brings torch with its CUDA libraries; PIP_ARGS is passed to pip, for those
# who have an index with a smaller CPU build.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt

# The demo video is a seed of the procedural world that is held out from training; the questions
# were written from its timeline before any model had seen it.
DEMO_VIDEO ?= demo/demo.mp4
DEMO_QUESTION ?= What is shown at 26 s?
DEMO_CHOICE_QUESTION ?= What colour is the star?
DEMO_CHOICES ?= red green blue orange
DEMO_GROUND_QUERY ?= the orange cross

.PHONY: demo test lint clean install install-dev

demo: $(DEMO_VIDEO)
	$(BIN)/timevlm ask $(DEMO_VIDEO) "$(DEMO_QUESTION)"
	$(BIN)/timevlm ask $(DEMO_VIDEO) "$(DEMO_CHOICE_QUESTION)" --choices $(DEMO_CHOICES)
	$(BIN)/timevlm ground $(DEMO_VIDEO) "$(DEMO_GROUND_QUERY)"
	$(BIN)/timevlm caption $(DEMO_VIDEO)

$(DEMO_VIDEO): $(VENV)/.installed scripts/make_demo_video.py
	@mkdir -p $(@D)
	$(BIN)/python scripts/make_demo_video.py --out $@

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/check_rules.py

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# The stamps make a second run start at once and without a network.
$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "error: $(PYTHON) cannot make an environment; run: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e ".[dev]"
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
