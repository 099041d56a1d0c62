# Every command that a newcomer, a developer or CI needs. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STAGE ?= dev
APP ?= whippet
export CHROMIUM ?= /usr/bin/chromium
export JAVA ?= /usr/bin/java
export PYTHONDONTWRITEBYTECODE := # otherwise every process would compile torch and boto3 again, for seconds

.DEFAULT_GOAL := help
.PHONY: planted chaos chaos-kills fuzz help install demo up package deploy destroy lock test test-contracts check format lint types openapi bench clean prices weights

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## set up .venv with everything pinned (the other commands do it themselves)

$(INSTALLED): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Whippet needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (once; about 8 GB, PyTorch and its libraries being most of it; some minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements-dev.txt)"
	@$(BIN)/uv pip sync $(if $(MAKE_TERMOUT),,--quiet) --compile-bytecode --python $(BIN)/python requirements-dev.txt
	@touch $@

demo: $(INSTALLED) ## run the whole pipeline on scanned digits, or on DATASET=path/to/zip
	@$(BIN)/python -m localcloud demo $(if $(DATASET),--dataset "$(DATASET)")

up: $(INSTALLED) ## start the local cloud and the app, until Ctrl-C (AWS_PORT, PORT change the ports)
	@$(BIN)/python -m localcloud up

package: $(INSTALLED) ## pack the app for AWS into dist/, without AWS (STAGE=dev)
	@$(BIN)/python -m infrastructure.packaging.build --stage "$(STAGE)"

WHERE = --stage "$(STAGE)" --app "$(APP)" --profile "$(PROFILE)" --region "$(REGION)"

deploy: $(INSTALLED) ## create or update a stage on AWS (STAGE, PROFILE, REGION, TAGS, PARAMETERS: docs/aws.md)
	@$(BIN)/python -m infrastructure.deploying.deploy $(WHERE) --tags "$(TAGS)" --parameters "$(PARAMETERS)" $(if $(ANYWAY),--anyway)

destroy: $(INSTALLED) ## remove a stage from AWS; its data too with DATA=delete
	@$(BIN)/python -m infrastructure.removing.destroy $(WHERE) --data "$(or $(DATA),keep)"

weights: $(INSTALLED) ## put ImageNet weights into a stage's bucket (ARCH=resnet18, FILE=PATH without internet)
	@$(BIN)/python -m infrastructure.weights.put $(WHERE) --architecture "$(or $(ARCH),resnet18)" $(if $(FILE),--file "$(FILE)")

test: $(INSTALLED) $(if $(ONLY),,$(CHROMIUM) $(JAVA)) ## run every test, the fast ones first (ONLY=chalicelib/datasets: one room; LOGS=1: its logs in view)
	@$(if $(LOGS),LOGS=1 )$(BIN)/python -m pytest tests/$(ONLY) --numprocesses $(if $(ONLY),0,2)$(if $(LOGS), --capture=no)

$(CHROMIUM): # the page is tested in a real browser
	@test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { echo "The page's tests need Chromium, and $@ is not there."; \
	  echo "Install it (Debian, Ubuntu: sudo apt-get install chromium), or name yours: make CHROMIUM=PATH $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing Chromium, for the tests of the page (once) ..."
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
	  chromium fonts-dejavu-core >/dev/null

$(JAVA): # the model is served by AWS's own server, TorchServe, which runs on Java
	@test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { echo "The tests with TorchServe need Java 17, and $@ is not there."; \
	  echo "Install it (Debian, Ubuntu: sudo apt-get install openjdk-17-jre-headless), or name yours: make JAVA=PATH $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing Java 17, for the tests with TorchServe (once) ..."
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
	  openjdk-17-jre-headless >/dev/null

test-contracts: $(INSTALLED) $(JAVA) ## run training/ and inference/ under AWS's own toolkits, and AWS's SDK here
	@$(BIN)/python -m pytest tests/contracts

chaos: $(INSTALLED) ## live through 10,000 simulated histories of the control plane, or replay one (SEED=n)
	@$(BIN)/python -m tests.histories.chaos $(if $(SEED),--seed $(SEED),--histories $(or $(HISTORIES),10000))

chaos-kills: $(INSTALLED) ## kill -9 the local cloud, jobs and endpoints a hundred times (KILLS=100, SEED=1)
	@$(BIN)/python -m tests.end_to_end.kills --kills "$(or $(KILLS),100)" --seed "$(or $(SEED),1)"

planted: $(INSTALLED) ## plant 40 gross faults beside a good live model in real trainings, 15 minutes (CASE=17: one)
	@$(BIN)/python -m benchmarks.judging.planted $(if $(CASE),--case "$(CASE)")

check: $(INSTALLED) lint types test ## format, lint, types and every test: what CI runs

lint: $(INSTALLED)
	@$(BIN)/ruff format --check --quiet . || { echo "Unformatted files: run 'make format'."; exit 1; }
	@$(BIN)/ruff check --quiet .

types: $(INSTALLED)
	@$(BIN)/mypy --no-error-summary

fuzz: $(INSTALLED) ## read 2,000 mutated zips and 1,000 mutated images as the app does; seconds
	@$(BIN)/python -W ignore -m tests.support.datasets.fuzz 2000 1000

format: $(INSTALLED) ## format the code and fix what the linter can fix
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

openapi: $(INSTALLED) ## write openapi.json from the app's routes
	@$(BIN)/python -m chalicelib.web.openapi app:app > openapi.json

prices: $(INSTALLED) ## refresh the prices from AWS's price list (PROFILE=, REGION= to add one)
	@$(BIN)/python -m infrastructure.account.prices --profile "$(PROFILE)" $(if $(REGION),--region $(REGION))

lock: $(INSTALLED) ## compile the pinned requirements again
	@$(BIN)/uv pip compile --universal --python-version 3.11 --no-emit-index-url --quiet requirements.in -o requirements.txt
	@$(BIN)/uv pip compile --universal --python-version 3.11 --no-emit-index-url --quiet --override requirements-overrides.txt requirements-dev.in -o requirements-dev.txt

bench: $(INSTALLED) ## measure every claim, into benchmarks/results/
	@$(BIN)/python -m benchmarks

clean: ## remove the local cloud's state and every cache (keeps .venv)
	rm -rf .localcloud .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build test-output
