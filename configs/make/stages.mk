# The stages of training: the models, each with its recipe, dataset and predecessor.
#
# list-stages reads the recipes and prints make's assignments: MODELS and OWN_MODELS; for each model M RECIPE.M,
# DATASET.M, INIT.M (the model that M continues, if any), BASE.M (the folder that its recipe names as
# model_name_or_path), CONFIG.M (its model_config_file, if any) and RECIPE_SUM.M (a checksum of the settings).

MODELS :=
OWN_MODELS :=
STAGES := $(shell $(firstword $(wildcard $(PYTHON)) python3) $(BIN)/list-stages \
  $(OWN:%=--own=%) --own-recipe $(ROOT)/configs/train-$(MODEL) \
  $(call options,$(TRAIN_SET),--set) -- $(call quote,$(TRAIN_PARAM_JSONS)) cc100-ja jawiki 2>&1)
ifeq ($(.SHELLSTATUS),0)
  $(foreach assignment,$(STAGES),$(eval $(assignment)))
else
  MODEL_GOALS := all models shards eval demo-chain train-model-% \
    $(addprefix $(DATA)/,models/% eval/% .stamps/model-% .stamps/eval-%)
  $(if $(filter $(MODEL_GOALS),$(GOALS)),$(error $(STAGES)))
endif

# A model depends on what its recipe, its model_config_file and TRAIN_SET say, not on the dates of these files.
$(foreach m,$(MODELS) $(OWN_MODELS),$(eval SETTINGS.model-$(m) := RECIPE_SUM.$(m) DATASET.$(m) INIT.$(m)))

# A checkpoint to go back to is one model's; the others stay as they are (stamps.mk), whatever TRAIN_SET is now.
above = $(patsubst %/,%,$(dir $(1)))
FROM_MODEL := $(filter $(MODELS) $(OWN_MODELS),\
  $(patsubst %.part,%,$(notdir $(call above,$(call above,$(abspath $(TRAIN_FROM)))))))
$(if $(TRAIN_FROM),$(if $(FROM_MODEL),,$(error TRAIN_FROM=$(TRAIN_FROM): not in $(DATA)/models/MODEL/checkpoints/)))

# $(call base_files,MODEL): the files of the folder that its training begins with.
base_files = $(foreach folder,$(BASE.$(1)),$(or $(wildcard $(folder)/manifest.json),$(wildcard $(folder)/*.*)))

no_recipe = train-model-$(1): no recipe of TRAIN_PARAM_JSONS is for $(1)$(if $(filter $(1),$(OWN)),$(comma) and \
  there is no configs/train-$(MODEL)-own.json)

# $(call models_of,DATASET): the targets of the models that are trained on a dataset.
models_of = $(foreach m,$(MODELS) $(OWN_MODELS),$(if $(filter $(1),$(DATASET.$(m))),$(DATA)/models/$(m)/manifest.json))

# Before the first step: do the settings of all steps fit together? If a goal asks for a model: also its recipe, and
# those of the models that it continues.
SETTINGS.steps := TOKENIZER_TYPE VOCAB_SIZE ALPHABET UNIT MAX_SEQ_LENGTH CROP_PAIRS VALIDATION_FRACTION MODEL_LICENSE
PLANNED := $(sort $(if $(filter all models eval demo-chain,$(GOALS)),$(lastword $(MODELS))) \
  $(foreach m,$(MODELS) $(OWN_MODELS),$(if $(filter train-model-$(DATASET.$(m)),$(GOALS)),$(m))))
CHECKED := $(DATA)/.stamps/checked $(PLANNED:%=$(DATA)/.stamps/checked-%)
stages_until = $(if $(1),$(call stages_until,$(INIT.$(1))) $(1))
AMOUNTS := $(filter CC100_MAX_% JAWIKI_MAX_%,$(VARIABLES)) MAX_SENTENCE_NUM MIN_CHARS MAX_CHARS \
  TOKENIZER_INPUT_SENTENCES PSEUDO_LINES
SETTINGS.steps += SEED SORT_MEMORY MODEL_DISK $(AMOUNTS)
VALIDATION.cc100-ja := CC100_MAX_VALIDATION_SENTENCE_NUM
VALIDATION.jawiki := JAWIKI_MAX_VALIDATION_SENTENCE_NUM
$(foreach d,$(sort $(foreach m,$(PLANNED),$(foreach s,$(call stages_until,$(m)),$(DATASET.$(s))))),\
  $(foreach v,$(or $(VALIDATION.$(d)),VALIDATION_FRACTION),\
    $(if $(filter 0,$($(v))),$(error $(v)=0: training on $(d) needs text for validation))))

# Files under raw/ that are not datasets: each is reported, and a goal that would use such a dataset ends here.
CHAIN := all models shards eval demo-chain $(foreach m,$(MODELS),train-model-$(DATASET.$(m)))
USED := $(patsubst build-dataset-%,%,$(patsubst shards-%,%,$(GOALS:train-model-%=%))) \
  $(if $(filter $(CHAIN),$(GOALS)),$(foreach m,$(MODELS),$(DATASET.$(m)))) \
  $(if $(filter $(CHAIN) train-model-% shards-% tokenizer train-tokenizer,$(GOALS)),$(TOKENIZER_CORPUS))
$(foreach name,$(filter $(REFUSED),$(USED)),$(error $(call why_refused,$(name))))
report = $(shell printf '%s\n' $(1) | tr -d '\000-\011\013-\037\177' >&2)
$(foreach name,$(filter-out $(REFUSED_FOLDERS),$(REFUSED)),$(call report,$(call quote,make: $(call why,$(name)))))
$(if $(REFUSED_FOLDERS)$(UNFIT_FOLDERS),$(shell $(list_inputs) >/dev/null))
# A name with blanks is several words here; only the first one begins with the folder.
not_read := make: not read; rename it with letters$(comma) digits and . _ + - only: $(DATA)/raw/
$(if $(UNFIT_FILES),$(call report,$(patsubst ''%,%,$(subst $(DATA)/raw/,' '$(not_read),$(call quote,$(UNFIT_FILES))))))
