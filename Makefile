# Image competitions on Kaggle, from the first download to a leaderboard score.
#
#   make submit CONV=subkernel      everything, up to a printed score
#   make test                       every check
#
# Variables, given as NAME=value behind the target:
COMPETITION ?= dog-vs-cat-vs-bird## the competition's slug on Kaggle, or a folder under data/
CONV ?= subkernel## the convolution, such as channel-selection; an unknown one lists them all
MODEL ?= resnet14## the network
RECIPE ?= quick## how it is trained: a name, or a file that tune saved
SIZE ?= 0## side of the images in pixels, 8 to 1024; 0: as the competition's definition says
FOLDS ?= 5## number of cross-validation folds
SEED ?= 0## every random stream of training derives from it
FOLD_SEED ?= 0## the folds derive from it; runs of the same folds can be compared and blended
WEIGHTS ?= auto## to start from: auto (what `make weights` made, else none), none or a .safetensors file
HOST = auto## auto (kaggle with credentials, else local), kaggle or local
FORCE ?=## 1 uploads even what was uploaded before
EXECUTION ?= auto## how the convolutions compute; auto times what the variant offers
SET ?=## NAME=VALUE ... for any field of the recipe, or device, precision, compile, graphs, threads
LAUNCH ?= auto## where folds train: auto (a GPU each, or the CPU), ddp (all GPUs one fold), ray (a cluster)
BUDGET ?=## stop training after this time, such as 11h; run again to go on (push does so itself)
RUN ?=## a finished run by name: predict, submission, submit, export, audit, report take it, calibrate, thresholds, pseudo need it
RUNS ?= all## runs to blend, by name and separated by commas; all takes every trained one with FOLDS and FOLD_SEED
BLEND ?= greedy## weights of a blend: greedy (chosen for the metric) or equal
CONFIDENCE ?= 0.95## of pseudo: the probability from which on a test image is labelled
TRIALS ?= 20## of tune, in all
VIA ?= file## how push submits: file, or kernel (its version, for code competitions)
MODELS ?= resnet14## what profile measures: networks, separated by commas
CONVS ?= subkernel,channel-selection## and convolutions, likewise; sweep trains these, too
SEEDS ?= 0## seeds of a sweep or a study, separated by commas
STUDY ?= all## what reproduce measures: channel-selection, from-scratch, bottleneck, nntrain or all
SCALE ?= cpu## how much of it: smoke (seconds), cpu (an hour a study and seed) or gpu (published sizes)
GROWTH ?= 1## 0 leaves out of bench how cost grows, which takes long with large images
DEVICE ?= auto## where: auto, cpu or cuda
COMPILE ?=## 1 measures everything once more under torch.compile
GROUP =## 1 makes audit list the copies it finds, and folds keep them together
PYTHON ?= python3## the Python (3.11 or newer) that .venv is made with

VENV := .venv
PIPELINE := $(VENV)/bin/python -m pipeline
OPTIONS = --competition '$(COMPETITION)' --conv '$(CONV)' --model '$(MODEL)' --recipe '$(RECIPE)' \
	--size '$(SIZE)' --folds '$(FOLDS)' --seed '$(SEED)' --fold-seed '$(FOLD_SEED)' \
	--weights '$(WEIGHTS)' --host '$(HOST)' --execution '$(EXECUTION)' --set '$(SET)' \
	--budget '$(BUDGET)' --launch '$(LAUNCH)' --run '$(RUN)' $(if $(FORCE:0=),--force)

# A misspelt variable would be ignored, and the command done with the default.
KNOWN := $(shell sed -n 's/^\([A-Z_]*\) [?:]*=.*/\1/p' $(MAKEFILE_LIST))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(KNOWN),$(GIVEN))
$(if $(UNKNOWN),$(error $(firstword $(UNKNOWN)) is no variable; make help lists them))

.DEFAULT_GOAL := help
.PHONY: help setup download preprocess train predict submission submit export lr-find audit report status verify sweep calibrate thresholds blend pseudo tune select push kernels weights ledger summary profile bench reproduce host test soak lint types pins

help: ## list every target and variable
	@echo "targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo "variables (NAME=value, default in brackets):"
	@sed -n 's/^\([A-Z_]*\) ?*= *\(.*\)## \(.*\)/  \1\t\3 [\2]/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(VENV)/installed ## install the pinned packages into .venv; every target does this when needed

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; run again with PYTHON=python3.12 or the like"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements.txt
	@touch $@

download preprocess train predict submission submit export lr-find: $(VENV)/installed
	@$(PIPELINE) $@ $(OPTIONS)

download: ## get the competition's files into data/<competition>/raw/
preprocess: ## decode the images into a tensor cache, with a contact sheet to look at
train: ## train every fold into a run folder
predict: ## predict the test images with test-time augmentation
submission: ## write and check submission.csv
submit: ## upload it, wait for the score, note it in the ledger
export: ## write the trained, fused network of every fold as ONNX
lr-find: ## suggest a learning rate for CONV, MODEL and RECIPE by a range test, with a plot

audit: $(VENV)/installed ## copies, suspect labels, train against test: what to know before trusting the data
	@$(PIPELINE) audit $(OPTIONS) $(if $(GROUP:0=),--group)

report: $(VENV)/installed ## what RUN (by default that of the settings) is worth, as one HTML page; RUNS=all: every run
	@$(PIPELINE) report $(OPTIONS) $(if $(filter command line environment,$(origin RUNS)),--runs '$(RUNS)')

status: $(VENV)/installed ## what is there, what is stale, and what submit would do; changes nothing
	@$(PIPELINE) status $(OPTIONS)

verify: $(VENV)/installed ## compare every artefact of COMPETITION with the hash noted when it was made
	@$(PIPELINE) verify $(OPTIONS)

sweep: $(VENV)/installed ## cross-validate every one of CONVS with every one of SEEDS, side by side
	@$(PIPELINE) sweep $(OPTIONS) --convs '$(CONVS)' --seeds '$(SEEDS)'

calibrate thresholds: $(VENV)/installed
	@$(PIPELINE) $@ $(OPTIONS)

calibrate: ## fit the temperature of RUN for log loss; makes a run of its own, as the next two do
thresholds: ## fit how RUN's probabilities become answers, for metrics such as macro_f1
blend: $(VENV)/installed ## weigh RUNS into one
	@$(PIPELINE) blend $(OPTIONS) --runs '$(RUNS)' --how '$(BLEND)'

pseudo: $(VENV)/installed ## train RUN once more, with test images that its own networks are sure of
	@$(PIPELINE) pseudo $(OPTIONS) --confidence '$(CONFIDENCE)'

tune: $(VENV)/installed ## search better values of RECIPE's fields on the first fold, TRIALS or BUDGET long
	@$(PIPELINE) tune $(OPTIONS) --trials '$(TRIALS)'

select: $(VENV)/installed ## propose two final submissions among the uploads, and mark them in the ledger
	@$(PIPELINE) select $(OPTIONS)

push: $(VENV)/installed ## push the kernel to Kaggle's GPUs, wait, check its submission, submit it
	@$(PIPELINE) push $(OPTIONS) --via '$(VIA)'

kernels: $(VENV)/installed ## write the notebooks under kernels/ anew from the package
	@$(PIPELINE) kernels

weights: $(VENV)/installed ## keep the published weights of MODEL, here and as a private dataset on Kaggle
	@$(PIPELINE) weights $(OPTIONS)

ledger: $(VENV)/installed ## print every upload: cross-validation beside public and private score
	@$(PIPELINE) ledger

summary: $(VENV)/installed ## shapes, parameters and multiply-accumulates of MODEL with CONV, layer by layer
	@$(PIPELINE) summary --model '$(MODEL)' --conv '$(CONV)'

profile: $(VENV)/installed ## time and memory of every convolution and execution, beside the standard one
	@$(PIPELINE) profile --models '$(MODELS)' --convs '$(CONVS)' --device '$(DEVICE)' $(if $(COMPILE:0=),--compile)

bench: $(VENV)/installed ## epochs of the training engine beside a plain published-style loop
	@$(PIPELINE) bench $(OPTIONS) $(if $(GROWTH:0=),,--no-growth)

reproduce: $(VENV)/installed ## measure the published studies again, and write submissions/RESULTS.md
	@$(PIPELINE) reproduce $(OPTIONS) --study '$(STUDY)' --scale '$(SCALE)' --seeds '$(SEEDS)'

host: $(VENV)/installed ## keep the local competition host running for the plain kaggle command
	@$(PIPELINE) host

lint: $(VENV)/installed ## ruff
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(VENV)/installed ## mypy
	@$(VENV)/bin/mypy

test: lint ## every check: lint, types and tests
	@$(VENV)/bin/mypy & types=$$!; \
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$types || { echo "mypy found errors: see above, or run make types"; exit 1; }; exit $$tests

soak: $(VENV)/installed ## what takes too long for make test; writes tests/RELIABILITY.md
	@report=$$(mktemp); $(VENV)/bin/python -m pytest -m soak -v -o junit_family=xunit1 \
		--junit-xml=$$report; code=$$?; \
		[ $$code -gt 1 ] || $(VENV)/bin/python -m tests.reliability $$report; rm $$report; exit $$code

pins: ## write requirements.txt anew from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --extra dev pyproject.toml -o requirements.txt
