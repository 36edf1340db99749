# The lock: one run at a time works in a DATA folder.
#
# Goals that work in DATA run in a second make, under the lock. With -n, -q and -t no recipe runs: no lock.
# FLOW is set in the make that reads the rules of the flow.

UNLOCKED := help help-variables help-tiny-plm demo clean-demo test test-slow test-faults bench bench-text bench-train \
  bench-scale lint docker-build docker-all test-container test-cluster
GOALS := $(filter-out $(UNLOCKED) $(ROOT)/.venv%,$(MAKECMDGOALS))
LOOKING := $(foreach letter,n q t,$(findstring $(letter),$(filter-out --%,$(firstword -$(MAKEFLAGS)))))
# With MIRROR, the make under the lock runs two others: the first pulls, if there is anything to do (mirror.mk).
PULLING := $(and $(MIRROR),$(filter held,$(SUZURI_LOCK)),$(if $(strip $(LOOKING)),,yes))
FLOW := $(and $(GOALS),$(if $(PULLING),,$(SUZURI_LOCK)$(strip $(LOOKING))))

ifneq ($(if $(FLOW),,$(GOALS)),)

# Unless the user gives -j, a goal's work runs in parallel, and goals run one after another: `make clean-text shards`.
INNER := $(MAKE) --no-print-directory -f $(ROOT)/Makefile SUZURI_LOCK=held
# hold-lock gets this process id, to see if this make was killed while hold-lock started.
THIS_MAKE := $(shell echo $$PPID)
.PHONY: $(GOALS) locked
$(GOALS): locked ; @:
ifneq ($(PULLING),)
locked: | $(VENV)
	+@set -- $(MAKE) --no-print-directory -f $(ROOT)/Makefile SUZURI_LOCK=pulled; \
	  "$$@" -q $(GOALS) >/dev/null 2>&1 || "$$@" pull PULL_FOR='$(GOALS)'; exec "$$@" $(GOALS)
else
locked: | $(VENV)
	+@mkdir -p $(DATA) && : >>$(DATA)/.manifests.sha256; flags=$${MAKEFLAGS-}; set -- $(GOALS); \
	  case " $${flags%% -- *}" in \
	    *" -j"*|*--jobserver*) set -- $(INNER) "$$@" ;; \
	    *) if [ $$# = 1 ]; then set -- $(INNER) -j$(JOBS) "$$@"; \
	       else set -- bash -ec 'for goal; do $(INNER) -j$(JOBS) "$$goal"; done' make "$$@"; fi ;; \
	  esac; exec $(PYTHON) $(BIN)/hold-lock --parent $(THIS_MAKE) $(DATA)/.lock -- "$$@"
endif

endif
