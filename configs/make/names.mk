# Values and names that people give: they are text, never commands, and what make cannot carry is refused at once.

# $(call unfit,NAME): the characters in NAME that make, or the shell of its recipes, would take for something else.
UNFIT := \# % : $$ \ ' " & ; | < > ( ) { } * ? [ ] ~ ! ^ ` = $(shell printf "$$(printf '\\%03o ' {1..31} 127)")
unfit = $(strip $(foreach c,$(UNFIT),$(findstring $(c),$(1))) $(if $(filter-out 1,$(words x$(1)x)),blanks))
refuse_unfit = $(if $(call unfit,$(2)),$(error $(1)$(strip $(2)): make cannot work with $(call unfit,$(2)) in a name))
$(call refuse_unfit,,$(ROOT))

# A value from the command line or the environment is taken as it is; make would expand $(…) in it.
VARIABLES := $(shell sed -n 's/^\([A-Z0-9_]*\) ?=.*/\1/p' $(ROOT)/Makefile)
$(foreach v,$(VARIABLES) SUZURI_PYTHON,\
  $(if $(filter command environment,$(firstword $(origin $(v)))),$(eval override $(v) := $$(value $(v)))))

# The variables that were given, on the command line or in the environment.
GIVEN := $(foreach v,$(VARIABLES),$(if $(filter override,$(origin $(v))),$(v)))

$(foreach goal,$(MAKECMDGOALS),$(call refuse_unfit,make ,$(goal)))
$(if $(filter -%,$(MAKECMDGOALS)),$(error make $(filter -%,$(MAKECMDGOALS)): a goal does not begin with -))

# The values are checked if there are goals that use them. Lists are checked word by word; what recipes quote may hold
# anything but a line break.
WORK := $(filter-out help help-variables help-tiny-plm,$(MAKECMDGOALS))
LISTS := TRAIN_PARAM_JSONS EVAL_TASKS BASELINES
QUOTED := CC100_JA_URL JAWIKI_URL JGLUE_URL JBLIMP_URL MIRROR PIP_ARGS TRAIN_SET FINETUNE LAUNCH TORCHRUN
NUMBERS := JOBS CC100_NUM_FILES JAWIKI_NUM_FILES NUM_FILES RANGES SEEDS $(if $(filter auto gpu,$(GPUS)),,GPUS)
define newline


endef
digits = $(subst 0,,$(subst 1,,$(subst 2,,$(subst 3,,$(subst 4,,$(subst 5,,$(subst 6,,$(subst 7,,$(subst 8,,$(subst \
  9,,$(1)))))))))))
refuse_more = $(if $(shell [ $($(1)) -le $(2) ] 2>/dev/null || echo more),$(error $(1)=$($(1)): at most $(2)))
define refuse_unfit_values
$(foreach v,$(filter-out $(LISTS) $(QUOTED),$(VARIABLES) SUZURI_PYTHON),$(call refuse_unfit,$(v)=,$($(v))))
$(foreach v,$(LISTS),$(foreach word,$(subst :, ,$($(v))),$(call refuse_unfit,$(v): ,$(word))))
$(foreach v,$(QUOTED),$(if $(findstring $(newline),$($(v))),$(call refuse_unfit,$(v)=,$($(v)))))
$(foreach v,$(NUMBERS),$(if $(or $(call digits,$($(v))),$(if $($(v)),,none)),$(error $(v)=$($(v)): not a number)))
$(foreach v,$(NUMBERS),$(if $(subst 0,,$($(v))),,$(error $(v)=$($(v)): at least 1)))
$(foreach v,$(NUMBERS),$(if $(filter 0%,$($(v))),$(error $(v)=$($(v)): begins with 0)))
$(call refuse_more,JOBS,512)$(call refuse_more,RANGES,4096)
$(foreach v,CC100_NUM_FILES JAWIKI_NUM_FILES NUM_FILES,$(call refuse_more,$(v),1000))
endef
