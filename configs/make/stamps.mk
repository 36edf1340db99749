# Settings stamps: .stamps/NAME holds the values of the variables in SETTINGS.NAME.
#
# A stamp is rewritten only when a value changes; what depends on the settings depends on their stamp. Nothing is
# written while make reads its files: `make -n X=…` changes nothing. The first stamp of a source is dated 1970, so
# that a file that you put under raw/ yourself is newer and is taken as it is.

current = $(call same,$(file <$(DATA)/.stamps/$(1)),$(call settings,$(1)))
settings = $(foreach v,$(SETTINGS.$(1)),$(v)=$(call hide,$($(v))))

kept = $(and $(TRAIN_FROM),$(filter model-%,$(filter-out model-$(FROM_MODEL),$(1))),$(wildcard $(DATA)/.stamps/$(1)))

.SECONDEXPANSION:
$(DATA)/.stamps/%: $$(if $$(call current,$$*)$$(call kept,$$*),,FORCE)
	@mkdir -p $(@D) && printf '%s\n' $(call quote,$(call settings,$*)) >$@.part
	@$(if $(filter raw-%,$*),$(if $(wildcard $@),,touch -d @0 $@.part &&)) mv $@.part $@
