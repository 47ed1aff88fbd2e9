# `make help` lists what there is. An active environment that has the packages is used; otherwise .venv is made.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help report section publish archive test test-faults test-oldest lab bench environment environment-made colossalai peers clean

# What counts is what stands in the command: a variable of the environment may be there for other work (WSL sets NAME).
OPTION_NAMES := SEEDS MAX_SEEDS EPOCHS BATCH_SIZE DATASET BACKEND PROCESSES PARAMS
SWITCHES := QUICK PUBLISH
VARIABLES := NAME $(OPTION_NAMES) $(SWITCHES) LAB_OPTIONS PYTHON
is_given = $(filter command,$(origin $1))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(call is_given,$(name)),$(name)))
UNKNOWN := $(filter-out $(VARIABLES) SHELL MAKE% .SHELLFLAGS,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error there is no $(UNKNOWN) to give; there are $(VARIABLES))
endif
# What each goal looks at; what is given to another one would be passed over.
LOOKED_AT_report := $(OPTION_NAMES) QUICK
LOOKED_AT_publish := $(LOOKED_AT_report)
LOOKED_AT_section := NAME $(OPTION_NAMES) QUICK
LOOKED_AT_lab := LAB_OPTIONS
LOOKED_AT_bench := PUBLISH
LOOKED_AT := $(foreach goal,$(MAKECMDGOALS),$(LOOKED_AT_$(goal)))
PASSED_OVER := $(filter-out $(LOOKED_AT) PYTHON,$(filter $(VARIABLES),$(GIVEN)))
ifneq ($(PASSED_OVER),)
$(error make $(or $(MAKECMDGOALS),help) takes no $(PASSED_OVER); it takes $(or $(LOOKED_AT),PYTHON alone))
endif
value_of = $(if $(call is_given,$1),$(value $1))
quote = '$(subst ','\'',$1)'
OFF := 0 no No NO n N false False FALSE off Off OFF
ON := 1 yes Yes YES y Y true True TRUE on On ON
is_on = $(filter-out $(OFF),$(call value_of,$1))
$(foreach name,$(SWITCHES),$(if $(filter-out $(OFF) $(ON),$(call value_of,$(name))),\
	$(error $(name) must be 1 or 0, got $(call value_of,$(name)))))

# Set for other work, the first would have Python wait at a prompt when it is done, the second not look into this
# folder, where lrlib is. What make exports does not reach its own questions in every version.
unexport PYTHONINSPECT PYTHONSAFEPATH
ASK := PYTHONINSPECT=

BASE_PYTHON = $(or $(PYTHON),$(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$(ASK) $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done))
# The packages whose presence makes an active environment good enough; versions are those of pyproject.toml.
IS_READY := import importlib.util as u, sys; sys.exit(sys.prefix == sys.base_prefix and not u.os.environ.get("CONDA_PREFIX") \
	or not all(map(u.find_spec, "torch torchvision jupyterlab papermill seaborn nbconvert distributed mlxtend pypandoc \
	safetensors typst ipywidgets pytest".split())))
ACTIVE_IS_READY := $(shell $(ASK) $(or $(BASE_PYTHON),false) -c '$(IS_READY)' 2>/dev/null && echo yes)
ifeq ($(ACTIVE_IS_READY),yes)
RUN := $(BASE_PYTHON)
ENVIRONMENT :=
else
RUN := .venv/bin/python
# By content, since a pull touches files, and clocks differ; a link is somebody's own environment.
IS_MADE := $(IS_READY) if __import__("os").path.islink(".venv") else None; from pathlib import Path; import hashlib; \
	stamp, lock = Path(".venv/installed"), Path("requirements.lock"); said = stamp.read_text().strip(); \
	sys.exit(sys.version_info < (3, 11) or (said != hashlib.sha256(lock.read_bytes()).hexdigest() if said else \
	lock.stat().st_mtime > stamp.stat().st_mtime))
ENVIRONMENT := $(if $(shell $(ASK) .venv/bin/python -c '$(IS_MADE)' 2>/dev/null && echo yes),,environment-made)
endif

option = $(if $(call value_of,$1),--$2 $(call quote,$(call value_of,$1)))
OPTIONS = $(call option,SEEDS,seeds) $(call option,MAX_SEEDS,max-seeds) $(call option,EPOCHS,epochs) $(call option,BATCH_SIZE,batch-size) \
	$(call option,DATASET,dataset) $(call option,BACKEND,backend) $(call option,PROCESSES,processes) \
	$(call option,PARAMS,params) $(if $(call is_on,QUICK),--quick)
UNUSED = $(strip $(foreach name,$(OPTION_NAMES) $(SWITCHES),$(if $(filter environment,$(origin $(name))),$(name))))
SAY_UNUSED = $(if $(UNUSED),@echo 'not used because of standing in the environment and not after make: $(UNUSED)' >&2)

help:
	@echo 'make report      train every experiment and make report/build/report.html and report.pdf'
	@echo '                 SEEDS=5 EPOCHS=30 BATCH_SIZE=128 DATASET=mnist|fashion_mnist|sample PARAMS="name=value ..." QUICK=1'
	@echo '                 SEEDS=auto MAX_SEEDS=30 adds seeds until the claims are settled'
	@echo '                 BACKEND=colossalai|cuda PROCESSES=2'
	@echo 'make section     run one section anew: NAME=2-2 PARAMS="turning_points=[10,20] epochs=20"'
	@echo 'make lab         open the notebooks in JupyterLab; LAB_OPTIONS="--allow-root --port=9999" are passed on'
	@echo 'make test        run the tests'
	@echo 'make test-faults run those that kill processes, fill disks and lose workers'
	@echo 'make test-oldest run those of the range test with the oldest packages that it takes, in .venv-oldest (some gigabytes)'
	@echo 'make publish     make the report and copy it to report/, where it is committed'
	@echo 'make archive     pack the made report, its notebooks, data and lock into report/build/crate.zip, an RO-Crate'
	@echo 'make bench       time training beside other ways, over workers and in a report; PUBLISH=1 puts it into bench/README.md'
	@echo 'make environment make the environment and nothing else'
	@echo 'make colossalai  add Colossal-AI to the environment (0.3 GB), for BACKEND=colossalai'
	@echo 'make peers       make .venv-peers with the tools beside which lrlib.peers is tested (0.4 GB)'
	@echo 'make clean       delete what was made, the trained runs (.lrlib) and the environment (.venv) apart'

report publish: $(ENVIRONMENT)
	$(SAY_UNUSED)
	@$(RUN) -m lrlib $@ $(OPTIONS)

section: $(ENVIRONMENT)
	$(SAY_UNUSED)
	@$(RUN) -m lrlib section $(call quote,$(or $(call value_of,NAME),none given; add NAME=2-2)) $(OPTIONS)

archive: $(ENVIRONMENT)
	@$(RUN) -m lrlib archive

lab: $(ENVIRONMENT)
	@$(RUN) -m lrlib lab $(call value_of,LAB_OPTIONS)

test: $(ENVIRONMENT)
	$(RUN) -m pytest

test-faults: $(ENVIRONMENT)
	$(RUN) -m pytest -m faults

# The range test alone, in an environment of the oldest versions that it takes and without what the report needs.
test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest tests/finder tests/test_suggest.py

.venv-oldest/installed: oldest.lock
	@$(or $(BASE_PYTHON),false) -c 'import sys; sys.exit(sys.version_info[:2] > (3, 12))' || \
		{ echo 'torch 2.4 needs Python 3.11 or 3.12; name one: make test-oldest PYTHON=/path/to/python' >&2; exit 2; }
	$(BASE_PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --requirement oldest.lock
	@touch $@

bench: $(ENVIRONMENT)
	PYTHONPATH="$$PWD$${PYTHONPATH:+:$$PYTHONPATH}" $(RUN) bench/training.py --report \
		$(if $(call is_on,PUBLISH),--publish)
	PYTHONPATH="$$PWD$${PYTHONPATH:+:$$PYTHONPATH}" $(RUN) bench/waiting.py $(if $(call is_on,PUBLISH),--publish)

environment: $(ENVIRONMENT)

environment-made:
	@test -n '$(BASE_PYTHON)' || { echo 'lrlib needs Python 3.11 or newer; install it or name it: make PYTHON=/path/to/python' >&2; exit 2; }
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo '$(BASE_PYTHON) is no Python of 3.11 or newer, which lrlib needs; name one: make PYTHON=/path/to/python' >&2; exit 2; }
	@test ! -L .venv || { echo ".venv is a link to $$(readlink .venv), which lacks packages that lrlib needs; install" \
		"requirements.lock there, or remove the link" >&2; exit 2; }
	@echo 'making .venv from requirements.lock; this happens once and downloads some gigabytes' >&2
	$(BASE_PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@.venv/bin/python -c 'import hashlib; print(hashlib.sha256(open("requirements.lock", "rb").read()).hexdigest())' > .venv/installed

# The optimizers and finders that the study has beside the range test; where they are not installed it leaves their rows out.
.venv/evidence: pyproject.toml $(ENVIRONMENT)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[evidence]'
	@touch $@

colossalai: $(ENVIRONMENT)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --requirement colossalai.lock
	@$(RUN) -m lrlib.training.backends.colossal

# The path file lends the project's environment to the one of the tools, so that torch is not installed twice.
.venv-peers/installed: peers.lock $(ENVIRONMENT)
	$(RUN) -m venv --clear .venv-peers
	$(RUN) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > \
		"$$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement peers.lock
	@touch $@

peers: .venv-peers/installed

clean:
	rm -rf report/build
