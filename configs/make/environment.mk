# The Python environment, .venv, which make creates when a goal needs it; SUZURI_PYTHON names a Python to use instead.

ifdef SUZURI_PYTHON
  VENV :=
  PYTHON := $(SUZURI_PYTHON)
  export SUZURI_PYTHON
else
  VENV := $(ROOT)/.venv/installed.txt
  PYTHON := $(ROOT)/.venv/bin/python
endif
# The marker installed.txt is a copy of the requirements that were installed; if it differs, .venv is made again.
unless_installed = $(if $(call same,$(file <$(ROOT)/.venv/$(1)),$(file <$(ROOT)/configs/$(2))),,FORCE)
# With an s3:// address every goal needs the packages for object storage.
ifneq ($(and $(VENV),$(findstring s3://,$(MIRROR) $(CC100_JA_URL) $(JAWIKI_URL))),)
  VENV += $(if $(call unless_installed,installed-s3.txt,requirements-s3.txt),$(ROOT)/.venv/installed-s3.txt)
endif
pip = $(ROOT)/.venv/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 \
  $(call options,$(PIP_ARGS))

$(ROOT)/.venv/installed.txt: $(call unless_installed,installed.txt,requirements.txt)
	@python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "make: python3 3.11 or newer with venv is needed (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(call say,installing Python packages into $(ROOT)/.venv: only once$(comma) takes some minutes)
	@rm -f $@ && python3 -m venv --clear $(ROOT)/.venv
	@$(pip) -r $(ROOT)/configs/requirements.txt
	@cp $(ROOT)/configs/requirements.txt $@.part && mv $@.part $@

$(ROOT)/.venv/installed-%.txt: $(ROOT)/.venv/installed.txt FORCE
	@cmp -s $(ROOT)/configs/requirements-$*.txt $@ \
	  || { echo "== installing the packages of configs/requirements-$*.txt into $(ROOT)/.venv" >&2; \
	       flock $(ROOT)/.venv/installed.txt $(pip) -r $(ROOT)/configs/requirements-$*.txt; \
	       cp $(ROOT)/configs/requirements-$*.txt $@.part && mv $@.part $@; }

# `make eval`, `make report` and their tests need the packages for evaluation.
INSTALL_EVAL := $(and $(VENV),$(call unless_installed,installed-eval.txt,requirements-eval.txt))
EVAL_VENV := $(if $(INSTALL_EVAL),$(ROOT)/.venv/installed-eval.txt)
$(ROOT)/.venv/installed-dev.txt: $(patsubst %,$(ROOT)/.venv/installed-%.txt,eval s3 parquet)
