# make demo   install, render a demo video, ask it questions
# make test   install, run the whole suite
# make lint   style and project rules
# make clean  remove what the commands above made
#
# PyPI's torch for Linux brings CUDA libraries. For the smaller CPU build:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt

# The demo video is a seed of the procedural world that is held out from training.
DEMO_VIDEO ?= demo/demo.mp4
DEMO_QUESTION ?= What color is the first shape?
DEMO_CHOICE_QUESTION ?= What color is the first shape?
DEMO_CHOICES ?= red blue green yellow
DEMO_GROUND_QUERY ?= the red circle

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
