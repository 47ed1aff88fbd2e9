# `make help` lists the targets. An active environment that has the packages is used; otherwise .venv is made.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help report study section publish verify lab docs test test-all test-oldest bench environment environment-made colossalai peers clean

# Only arguments of make count: a variable of the environment may be there for other work (WSL sets NAME).
VALUES := SEEDS EPOCHS BATCH_SIZE DATASET BACKEND PROCESSES PARAMS RESULTS
SWITCHES := QUICK PUBLISH
VARIABLES := NAME $(VALUES) $(SWITCHES) LAB_OPTIONS PYTHON
ACCEPTED_report := $(VALUES) QUICK
ACCEPTED_study := $(VALUES) QUICK
ACCEPTED_section := NAME $(VALUES) QUICK
ACCEPTED_publish := NAME $(VALUES) QUICK
ACCEPTED_lab := LAB_OPTIONS RESULTS
ACCEPTED_verify :=
ACCEPTED_bench := PUBLISH
is_given = $(filter command,$(origin $1))
value_of = $(if $(call is_given,$1),$(value $1))
quote = '$(subst ','\'',$1)'
GIVEN := $(foreach name,$(.VARIABLES),$(if $(call is_given,$(name)),$(name)))
ACCEPTED := PYTHON SHELL MAKE% .SHELLFLAGS $(foreach goal,$(MAKECMDGOALS),$(ACCEPTED_$(goal)))
ifneq ($(filter-out $(ACCEPTED),$(GIVEN)),)
$(error make $(or $(MAKECMDGOALS),help) does not accept $(filter-out $(ACCEPTED),$(GIVEN)) (accepted: $(filter $(VARIABLES),$(ACCEPTED))))
endif
$(foreach name,$(SWITCHES),$(if $(filter-out 0 1,$(call value_of,$(name))),$(error $(name) must be 1 or 0, got $(call value_of,$(name)))))
is_on = $(filter 1,$(call value_of,$1))
option = $(if $(call value_of,$1),--$2 $(call quote,$(call value_of,$1)))
OPTIONS = $(call option,SEEDS,seeds) $(call option,EPOCHS,epochs) $(call option,BATCH_SIZE,batch-size) $(call option,DATASET,dataset) \
	$(call option,BACKEND,backend) $(call option,PROCESSES,processes) $(call option,PARAMS,params) $(call option,RESULTS,results) \
	$(if $(call is_on,QUICK),--quick)
IGNORED = $(strip $(foreach name,$(VALUES) $(SWITCHES),$(if $(filter environment,$(origin $(name))),$(name))))
SAY_IGNORED = $(if $(IGNORED),@echo 'ignored (set as environment variables, not as make arguments): $(IGNORED)' >&2)

unexport PYTHONINSPECT PYTHONSAFEPATH
ASK := PYTHONINSPECT=
BASE_PYTHON = $(or $(PYTHON),$(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$(ASK) $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done))
# The packages whose presence makes an active environment good enough; versions are those of pyproject.toml.
IS_READY := import importlib.util as u, sys; sys.exit(sys.prefix == sys.base_prefix and not u.os.environ.get("CONDA_PREFIX") \
	or not all(map(u.find_spec, "torch torchvision jupyterlab papermill seaborn nbconvert mlxtend pypandoc safetensors typst \
	ipywidgets pytest".split())))
ifeq ($(shell $(ASK) $(or $(BASE_PYTHON),false) -c '$(IS_READY)' 2>/dev/null && echo yes),yes)
RUN := $(BASE_PYTHON)
ENVIRONMENT :=
else
RUN := .venv/bin/python
# Made again when the content of the lock changes; a link is somebody's own environment.
IS_MADE := $(IS_READY) if __import__("os").path.islink(".venv") else None; from pathlib import Path; import hashlib; \
	sys.exit(Path(".venv/installed").read_text().strip() != hashlib.sha256(Path("requirements.lock").read_bytes()).hexdigest())
ENVIRONMENT := $(if $(shell $(ASK) .venv/bin/python -c '$(IS_MADE)' 2>/dev/null && echo yes),,environment-made)
endif
# Python compiles a module when it is first imported; compiling all of them here takes minutes.
INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile

help:
	@echo 'make report       train every experiment and make report/build/report.html and report.pdf'
	@echo '                  SEEDS=5 EPOCHS=30 BATCH_SIZE=128 DATASET=mnist|fashion_mnist|sample PARAMS="name=value ..."'
	@echo '                  QUICK=1 (a preview), RESULTS=published (trains nothing), BACKEND=colossalai|cuda PROCESSES=2'
	@echo 'make study        make the study of learning-rate suggestions: study.html and study.pdf (trains nothing)'
	@echo 'make section      run one section: NAME=2-2 PARAMS="turning_points=[10,20] epochs=20"; NAME=study/2 for the study'
	@echo 'make lab          open the notebooks in JupyterLab, on the published results; LAB_OPTIONS="--port=9999"'
	@echo 'make verify       train a sample of the published epochs and compare'
	@echo 'make publish      make the report, copy it to report/ and update README.md; NAME=study for the study'
	@echo 'make docs         make the reference of the package and the guides: report/build/docs/index.html'
	@echo 'make test         run the tests; test-all also those that take long or need Colossal-AI or other finders'
	@echo 'make test-oldest  test the range test with the oldest supported packages, in .venv-oldest (some gigabytes)'
	@echo 'make bench        time training; PUBLISH=1 updates bench/README.md'
	@echo 'make environment  make the environment only; colossalai adds Colossal-AI (0.3 GB); peers makes .venv-peers (0.4 GB)'
	@echo 'make clean        delete report/build; the cache of trained epochs (.lrlib) and .venv remain'

report study: $(ENVIRONMENT)
	$(SAY_IGNORED)
	@$(RUN) -m lrlib report $@ $(OPTIONS)

publish: $(ENVIRONMENT)
	$(SAY_IGNORED)
	@$(RUN) -m lrlib publish $(call quote,$(or $(call value_of,NAME),report)) $(OPTIONS)

section: $(ENVIRONMENT)
	$(SAY_IGNORED)
	@$(RUN) -m lrlib section $(call quote,$(or $(call value_of,NAME),none given; add NAME=2-2)) $(OPTIONS)

verify: $(ENVIRONMENT)
	@$(RUN) -m lrlib verify

lab: $(ENVIRONMENT)
	@$(RUN) -m lrlib lab $(call option,RESULTS,results) $(call value_of,LAB_OPTIONS)

docs: $(ENVIRONMENT)
	@$(RUN) -m pdoc --output-directory report/build/docs lrlib
	@$(RUN) -m nbconvert --log-level ERROR --to html --output-dir report/build/docs \
		--HTMLExporter.mathjax_url= --HTMLExporter.require_js_url= notebooks/guide-*.ipynb

test: $(ENVIRONMENT)
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(ENVIRONMENT)
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m ''

# The range test alone, in an environment of the oldest versions that it takes and without what the report needs.
test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest tests/finder tests/test_suggest.py

.venv-oldest/installed: oldest.lock
	@$(or $(BASE_PYTHON),false) -c 'import sys; sys.exit(sys.version_info[:2] > (3, 12))' || \
		{ echo 'torch 2.4 needs Python 3.11 or 3.12; pass PYTHON=/path/to/python' >&2; exit 2; }
	$(BASE_PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python $(INSTALL) --requirement oldest.lock
	@touch $@

bench: $(ENVIRONMENT)
	PYTHONPATH="$$PWD$${PYTHONPATH:+:$$PYTHONPATH}" $(RUN) bench/training.py $(if $(call is_on,PUBLISH),--publish)

environment: $(ENVIRONMENT)

environment-made:
	@$(or $(BASE_PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'lrlib needs Python 3.11 or newer; install it or pass PYTHON=/path/to/python' >&2; exit 2; }
	@test ! -L .venv || { echo ".venv is a link to $$(readlink .venv), which lacks packages; install requirements.lock there," \
		"or remove the link" >&2; exit 2; }
	@echo 'making .venv from requirements.lock; this happens once and downloads some gigabytes' >&2
	$(BASE_PYTHON) -m venv --clear .venv
	.venv/bin/python $(INSTALL) --requirement requirements.lock
	.venv/bin/python $(INSTALL) --no-deps --editable .
	@.venv/bin/python -c 'import hashlib; print(hashlib.sha256(open("requirements.lock", "rb").read()).hexdigest())' > .venv/installed

colossalai: $(ENVIRONMENT)
	$(RUN) $(INSTALL) --no-deps --requirement colossalai.lock
	@$(RUN) -m lrlib.training.backends.colossal

# The path file lends the project's environment to that of the other finders, so that torch is not installed twice.
.venv-peers/installed: peers.lock $(ENVIRONMENT)
	$(RUN) -m venv --clear .venv-peers
	$(RUN) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > \
		"$$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	.venv-peers/bin/python $(INSTALL) --no-deps --requirement peers.lock
	@touch $@

peers: .venv-peers/installed

clean:
	rm -rf report/build
