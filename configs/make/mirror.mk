# The mirror: with MIRROR=s3://bucket/prefix finished stages are put there, and taken from there on another machine.
#
# A make with MIRROR has two parts (lock.mk). The first one, the goal `pull`, goes through the stages in the order of
# the flow, and takes from the mirror what is missing or out of date here and was made with the same settings from the
# same inputs. The second one is the ordinary make, in which a finished stage is also pushed: .stamps/pushed/STAGE is
# made when it has arrived, so nothing is asked of the network later. A mirror that fails is reported, and that is all.

# $(call source,DATASET,FILE): what text/DATASET is made from. Text that is in a mirror does not need its source here.
PUSHED := $(DATA)/.stamps/pushed
source = $(if $(and $(wildcard $(PUSHED)/text/$(1)),$(wildcard $(DATA)/text/$(1)/manifest.json),\
  $(call current,text-$(1)),$(call current,raw-$(1))),$(wildcard $(2)),$(2))

ifneq ($(MIRROR),)

# The stages are folders under DATA. STAMP.STAGE: their settings; MADE_FROM.STAGE: what they are made from.
# SOURCE.STAGE: the settings of the download that is its input. By them it is found where the download is not here: the
# address has been read, whatever is there by now. What was streamed from a local file is not mirrored: it has no input
# that could be compared.
remote = $(filter http% s3%,$(1))
SOURCE.text/cc100-ja := $(if $(call remote,$(CC100_JA_URL)),$(if $(STREAM),,raw-cc100-ja))
SOURCE.text/jawiki := $(if $(call remote,$(JAWIKI_URL)),$(if $(STREAM),,raw-jawiki))
STREAMED.cc100-ja := $(call remote,$(CC100_JA_URL))
STREAMED.jawiki := $(call remote,$(JAWIKI_URL))
MIRRORED := tokenizer $(MODELS:%=models/%) $(OWN_MODELS:%=models/%) \
  $(foreach d,$(DATASETS),shards/$(d) $(if $(RAW.$(d))$(STREAMED.$(d)),text/$(d)))
manifests = $(patsubst %,$(DATA)/%/manifest.json,$(1))
STAMP.tokenizer := tokenizer
MADE_FROM.tokenizer := $(call manifests,text/$(TOKENIZER_CORPUS))
$(foreach d,$(DATASETS),\
  $(eval STAMP.text/$(d) := text-$(d)) $(eval MADE_FROM.text/$(d) := $(RAW.$(d):%/jawiki=%/jawiki/manifest.json)) \
  $(eval STAMP.shards/$(d) := shards) $(eval MADE_FROM.shards/$(d) := $(call manifests,text/$(d) tokenizer)))
$(foreach m,$(MODELS) $(OWN_MODELS),$(eval STAMP.models/$(m) := model-$(m)) $(eval MADE_FROM.models/$(m) := \
  $(RECIPE.$(m)) $(CONFIG.$(m)) $(call base_files,$(m)) \
  $(call manifests,shards/$(DATASET.$(m)) tokenizer $(INIT.$(m):%=models/%))))

# $(call mirror-stage,ACTION,STAGE)
mirror-stage = mirror-stage --settings $(DATA)/.stamps/$(STAMP.$(2)) $(MADE_FROM.$(2):%=--input %) \
  $(SOURCE.$(2):%=--source $(DATA)/.stamps/%) $(1) $(DATA)/$(2) $(call quote,$(MIRROR:%/=%)/$(2))
SETTINGS.mirror := MIRROR
mark = mkdir -p $(dir $(PUSHED)/$(1)) && touch $(PUSHED)/$(1)

# The stages of a goal; each pulls or pushes those that it is made from.
stages_of = $(filter $(MIRRORED),$(foreach goal,$(1), \
  $(if $(filter all models eval demo-chain,$(goal)),$(MODELS:%=models/%)) \
  $(if $(filter shards,$(goal)),$(foreach m,$(MODELS),shards/$(DATASET.$(m)))) \
  $(if $(filter train-tokenizer,$(goal)),tokenizer) $(patsubst build-dataset-%,text/%,$(goal:shards-%=shards/%)) \
  $(patsubst $(DATA)/%/manifest.json,%,$(goal) $(if $(filter train-model-%,$(goal)),\
    $(call models_of,$(goal:train-model-%=%))))))
# The inputs that must be here to look for a stage.
asked = $(if $(SOURCE.$(1)),$(wildcard $(MADE_FROM.$(1))),$(MADE_FROM.$(1)))
stages_in = $(filter $(MIRRORED),$(patsubst $(DATA)/%/manifest.json,%,$(MADE_FROM.$(1))))

# A stage is pulled when all that it is made from is up to date, which only make knows, and itself is not.
.PHONY: pull $(MIRRORED:%=pull/%)
pull: $(addprefix pull/,$(call stages_of,$(PULL_FOR))) ; @:
$(MIRRORED:%=pull/%): pull/%: $$(addprefix pull/,$$(call stages_in,$$*)) \
    $$(filter-out $$(call manifests,$$(call stages_in,$$*)),$$(call asked,$$*)) \
    $$(addprefix $(DATA)/.stamps/,$$(STAMP.$$*) $$(SOURCE.$$*) $(if $(MAPPED),maps) mirror checked) | $(VENV)
	+@make="$(MAKE) --no-print-directory -f $(ROOT)/Makefile"; \
	  if $(if $(call asked,$*),$$make -q $(call asked,$*) &&) ! $$make -q $(call manifests,$*); then \
	    mkdir -p $(dir $(DATA)/$*); \
	    if $(call mirror-stage,pull,$*) $(if $(filter-out $(call asked,$*),$(MADE_FROM.$*)),\
	        || { $$make $(MADE_FROM.$*) && $(call mirror-stage,pull,$*); }); then $(call mark,$*); fi; \
	  fi

$(MIRRORED:%=$(PUSHED)/%): $(PUSHED)/%: $(DATA)/%/manifest.json $(DATA)/.stamps/mirror \
    | $$(addprefix $(PUSHED)/,$$(call stages_in,$$*)) $(VENV)
	@if $(call mirror-stage,push,$*); then $(call mark,$*); fi
$(foreach goal,$(filter-out $(DATA)/%,$(GOALS)),$(eval $(goal): $(addprefix $(PUSHED)/,$(call stages_of,$(goal)))))

# With MIRROR_CHECKPOINTS=1 a run's newest checkpoint is put there, too, and a run that begins here goes on from it.
RUN_PUSHING = $(if $(MIRROR_CHECKPOINTS),$(call mirror-stage,run,models/$*) -- )

else ifneq ($(MIRROR_CHECKPOINTS),)
  $(error MIRROR_CHECKPOINTS=$(MIRROR_CHECKPOINTS): needs MIRROR=s3://bucket/prefix)
endif
