# The pieces of each corpus of many files: MAPS.NAME, a file of records per input, and RANGES.NAME, one per range.

MAPPED := $(filter-out $(PIPED),$(OWN))
MAPS := $(DATA)/pieces/maps
$(foreach d,$(MAPPED),$(eval MAPS.$(d) := $(INPUTS.$(d):$(DATA)/raw/%=$(MAPS)/%.records)) \
  $(eval RANGES.$(d) := $(patsubst %,$(DATA)/pieces/ranges/$(d)/%-of-$(RANGES).records,$(shell seq $(RANGES)))) \
  $(eval $(MAPS.$(d)): | $(MAPS)/$(d)))

# Pieces that are removed are made again only when something else has changed. (Without a name, .SECONDARY would mean
# all targets.)
$(foreach d,$(MAPPED),$(eval .SECONDARY: $(MAPS.$(d)) $(RANGES.$(d)) $(MAPS)/$(d)/complete))

# A map has one process; or several, if there are fewer files than jobs, and all jobs are on this machine.
many = $(filter $(JOBS),$(words $(wordlist 1,$(JOBS),$(MAPS.$(1)))))
$(foreach d,$(MAPPED),$(eval MAP_JOBS.$(d) := $(if $(or $(LAUNCH),$(call many,$(d))),1,$(HALF))))
