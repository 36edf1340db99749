# What goes piece by piece (MAPPED), and its pieces: MAPS.NAME, a file of records per input, and RANGES.NAME, per range.
#
# A corpus of your own does if it is a folder of files, cc100-ja and jawiki if there is a cluster (LAUNCH). None of many
# files does if an amount ends it: where that falls is known only when the files before have been read, and then the
# pipe has read no more than it needs. Which shards jawiki has is known when it is here, so a second make makes its
# pieces.

CLUSTER := $(and $(LAUNCH),$(if $(STREAM),,yes))
ended = $(filter-out 0,$(foreach amount,$(1),$($(amount))))
JAWIKI_PIECES := $(if $(call ended,JAWIKI_MAX_DOCUMENTS JAWIKI_MAX_SENTENCE_NUM),,$(if $(CLUSTER),jawiki))
LATER := $(if $(SHARDS_KNOWN),,$(JAWIKI_PIECES))
MAPPED := $(if $(call ended,MAX_SENTENCE_NUM),,$(OWN_FOLDERS)) $(if $(CLUSTER),cc100-ja) \
  $(if $(SHARDS_KNOWN),$(JAWIKI_PIECES))
piped = $(patsubst %,$(DATA)/text/%/manifest.json,$(filter-out $(MAPPED) $(LATER),$(1)))
$(LATER:%=$(DATA)/text/%/manifest.json): $$(call source,jawiki,$(RAW.jawiki:=/manifest.json)) \
    $(DATA)/.stamps/text-jawiki | $(VENV)
	+@$(MAKE) --no-print-directory -f $(ROOT)/Makefile SHARDS_KNOWN=1 $@

FILES.cc100-ja := $(CC100_NUM_FILES)
FILES.jawiki := $(JAWIKI_NUM_FILES)
INPUTS.cc100-ja := $(RAW.cc100-ja)
INPUTS.jawiki := $(filter-out %/manifest.json %.part,$(wildcard $(RAW.jawiki)/*))
# Where the inputs are, and what else a map depends on: no stamp that text made by a pipe would not have.
FOLDER.cc100-ja := $(DATA)/raw
FOLDER.jawiki := $(RAW.jawiki)
AFTER.cc100-ja := $(DATA)/.stamps/text-cc100-ja
AFTER.jawiki := $(DATA)/.stamps/text-jawiki $(RAW.jawiki)/manifest.json
MAP_OPTIONS.cc100-ja := $(call limit,--max-lines,$(CC100_MAX_SENTENCE_NUM))
MAP_OPTIONS.jawiki := --wiki
LINES.cc100-ja := $(call limit,--lines,$(CC100_MAX_SENTENCE_NUM))
$(foreach d,$(OWN),$(eval FOLDER.$(d) := $(DATA)/raw/$(d)) $(eval AFTER.$(d) := $(DATA)/.stamps/maps) \
  $(eval MAP_OPTIONS.$(d) := --text-field=$(TEXT_FIELD)))

MAPS := $(DATA)/pieces/maps
shares = $(patsubst %,%-of-$(1),$(shell seq $(1)))
$(foreach d,$(MAPPED),$(eval MAPS.$(d) := $(addprefix $(MAPS)/$(d)/,$(addsuffix .records,$(notdir $(INPUTS.$(d)))))) \
  $(eval RANGES.$(d) := $(patsubst %,$(DATA)/pieces/ranges/$(d)/%.records,$(call shares,$(RANGES)))) \
  $(eval FACTOR.$(d) := $(if $(filter-out %.txt %.jsonl,$(INPUTS.$(d))),15,3)))

# Pieces that are removed are made again only when something else has changed. (Without a name, .SECONDARY would mean
# all targets.)
$(foreach d,$(MAPPED),$(eval .SECONDARY: $(MAPS.$(d)) $(RANGES.$(d)) $(MAPS)/$(d)/complete))

# A map has one process; or several, if there are fewer files than jobs, and all jobs are on this machine.
many = $(filter $(JOBS),$(words $(wordlist 1,$(JOBS),$(MAPS.$(1)))))
$(foreach d,$(MAPPED),$(eval MAP_JOBS.$(d) := $(if $(or $(LAUNCH),$(call many,$(d))),1,$(HALF))))
MAP_JOBS.cc100-ja := $(HALF)
