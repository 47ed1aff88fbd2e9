# `make help` lists what there is. An active environment that has the packages is used; otherwise .venv is made.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help report section publish archive test test-faults lab bench environment colossalai peers clean

BASE_PYTHON = $(or $(PYTHON),$(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done))
# The packages whose presence makes an active environment good enough; versions are those of pyproject.toml.
IS_READY := import importlib.util as u, sys; sys.exit(sys.prefix == sys.base_prefix and not u.os.environ.get("CONDA_PREFIX") \
	or not all(map(u.find_spec, "torch torchvision jupyterlab papermill seaborn nbconvert distributed mlxtend pypandoc \
	safetensors typst ipywidgets pytest".split())))
ACTIVE_IS_READY := $(shell $(or $(BASE_PYTHON),false) -c '$(IS_READY)' 2>/dev/null && echo yes)
ifeq ($(ACTIVE_IS_READY),yes)
RUN := $(BASE_PYTHON)
ENVIRONMENT :=
else
RUN := .venv/bin/python
ENVIRONMENT := .venv/installed
EVIDENCE := .venv/evidence
endif

OPTIONS = $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(EPOCHS),--epochs '$(EPOCHS)') \
	$(if $(BATCH_SIZE),--batch-size '$(BATCH_SIZE)') $(if $(DATASET),--dataset '$(DATASET)') \
	$(if $(BACKEND),--backend '$(BACKEND)') $(if $(PROCESSES),--processes '$(PROCESSES)') \
	$(if $(PARAMS),--params '$(subst ','\'',$(PARAMS))') $(if $(filter-out 0,$(QUICK)),--quick)

help:
	@echo 'make report      train every experiment and make report/build/report.html and report.pdf'
	@echo '                 SEEDS=5 EPOCHS=30 BATCH_SIZE=128 DATASET=mnist|fashion_mnist|sample PARAMS="name=value ..." QUICK=1'
	@echo '                 EXTENDED=1 for part 3 too (hours), BACKEND=colossalai|cuda PROCESSES=2'
	@echo 'make section     run one section anew: NAME=2-2 PARAMS="turning_points=[10,20] epochs=20"'
	@echo 'make lab         open the notebooks in JupyterLab'
	@echo 'make test        run the tests'
	@echo 'make test-faults run those that kill processes, fill disks and lose workers, or make the extended report'
	@echo 'make publish     make the report and copy it to report/, where it is committed'
	@echo 'make archive     pack the made report, its notebooks, data and lock into report/build/crate.zip, an RO-Crate'
	@echo 'make bench       time training beside other ways, over workers and in a report; PUBLISH=1 puts it into bench/README.md'
	@echo 'make environment make the environment and nothing else'
	@echo 'make colossalai  add Colossal-AI to the environment (0.3 GB), for BACKEND=colossalai'
	@echo 'make peers       make .venv-peers with the tools beside which lrlib.peers is tested (0.4 GB)'
	@echo 'make clean       delete what was made, the trained runs (.lrlib) and the environment (.venv) apart'

report publish: $(ENVIRONMENT) $(if $(filter-out 0,$(EXTENDED)),$(EVIDENCE))
	@$(RUN) -m lrlib $@ $(OPTIONS) $(if $(filter-out 0,$(EXTENDED)),--extended)

section: $(ENVIRONMENT)
	@$(RUN) -m lrlib section '$(or $(NAME),none given; add NAME=2-2)' $(OPTIONS)

archive: $(ENVIRONMENT)
	@$(RUN) -m lrlib archive

lab: $(ENVIRONMENT)
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(RUN) -m jupyterlab --notebook-dir=notebooks

test: $(ENVIRONMENT)
	$(RUN) -m pytest

test-faults: $(ENVIRONMENT)
	$(RUN) -m pytest -m 'faults or extended'

bench: $(ENVIRONMENT)
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(RUN) bench/training.py --report \
		$(if $(filter-out 0,$(PUBLISH)),--publish)
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(RUN) bench/waiting.py $(if $(filter-out 0,$(PUBLISH)),--publish)

environment: $(ENVIRONMENT)

.venv/installed: requirements.lock pyproject.toml
	@test -n "$(BASE_PYTHON)" || { echo 'lrlib needs Python 3.11 or newer; install it or name it: make PYTHON=/path/to/python' >&2; exit 2; }
	@echo 'making .venv from requirements.lock; this happens once and downloads some gigabytes' >&2
	$(BASE_PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# The optimizers that part 3 has beside the range test; where they are not installed it leaves their rows out.
.venv/evidence: .venv/installed
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
