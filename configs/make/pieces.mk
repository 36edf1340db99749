# What goes piece by piece (MAPPED), and its pieces: MAPS.NAME, a file of records per input, and RANGES.NAME, per range.
#
# A folder of files of your own goes piece by piece; cc100-ja and jawiki do on a cluster (LAUNCH). If an amount ends
# many files, they go through a pipe: where that falls is known only when the files before have been read, and the pipe
# reads no more than it needs.

CLUSTER := $(and $(LAUNCH),$(if $(STREAM),,yes))
ended = $(filter-out 0,$(foreach amount,$(1),$($(amount))))
# What has been downloaded goes piece by piece in a second make, which knows the shards of jawiki, and which runs only
# if there is anything to do.
DOWNLOADED := $(if $(CLUSTER),cc100-ja $(if $(call ended,JAWIKI_MAX_DOCUMENTS JAWIKI_MAX_SENTENCE_NUM),,jawiki))
DOWNLOAD.cc100-ja := $(RAW.cc100-ja)
DOWNLOAD.jawiki := $(RAW.jawiki)/manifest.json
LATER := $(if $(SHARDS_KNOWN),,$(DOWNLOADED))
MAPPED := $(if $(call ended,MAX_SENTENCE_NUM),,$(OWN_FOLDERS)) $(if $(SHARDS_KNOWN),$(DOWNLOADED))
piped = $(patsubst %,$(DATA)/text/%/manifest.json,$(filter-out $(MAPPED) $(LATER),$(1)))
$(LATER:%=$(DATA)/text/%/manifest.json): $(DATA)/text/%/manifest.json: \
    $$(call source,$$*,$$(DOWNLOAD.$$*)) $(DATA)/.stamps/text-% | $(VENV)
	+@$(MAKE) --no-print-directory -f $(ROOT)/Makefile SHARDS_KNOWN=1 $@

FILES.cc100-ja := $(CC100_NUM_FILES)
FILES.jawiki := $(JAWIKI_NUM_FILES)
INPUTS.cc100-ja := $(RAW.cc100-ja)
INPUTS.jawiki := $(if $(filter jawiki,$(MAPPED)),$(addprefix $(RAW.jawiki)/,$(shell \
  sed -n '/^  "outputs"/,/^  }/s/^    "\(.*\)": {$$/\1/p' $(RAW.jawiki)/manifest.json 2>/dev/null)))
$(foreach shard,$(INPUTS.jawiki),$(if $(wildcard $(shard)),,$(error $(RAW.jawiki): there is no $(notdir $(shard)); \
  make clean-raw fetches the dump again$(comma) and a name with blanks works without LAUNCH only)))
# Where the inputs are, and what else a map depends on. Text that a pipe has made has these stamps, too: it stays.
FOLDER.cc100-ja := $(DATA)/raw
FOLDER.jawiki := $(RAW.jawiki)
AFTER.cc100-ja := $(DATA)/.stamps/text-cc100-ja
AFTER.jawiki := $(DATA)/.stamps/text-jawiki $(DOWNLOAD.jawiki)
MAP_OPTIONS.cc100-ja := $(call limit,--max-lines,$(CC100_MAX_SENTENCE_NUM))
MAP_OPTIONS.jawiki := --wiki
# Maps, ranges and text are there at the same time.
LINES.cc100-ja := $(call limit,--line 450 --lines,$(CC100_MAX_SENTENCE_NUM))
$(foreach d,$(OWN),$(eval FOLDER.$(d) := $(DATA)/raw/$(d)) $(eval AFTER.$(d) := $(DATA)/.stamps/maps) \
  $(eval MAP_OPTIONS.$(d) := --text-field=$(TEXT_FIELD)))

MAPS := $(DATA)/pieces/maps
shares = $(patsubst %,%-of-$(1),$(shell seq $(1)))
$(foreach d,$(MAPPED),$(eval MAPS.$(d) := $(addprefix $(MAPS)/$(d)/,$(addsuffix .records,$(notdir $(INPUTS.$(d)))))) \
  $(eval RANGES.$(d) := $(patsubst %,$(DATA)/pieces/ranges/$(d)/%.records,$(call shares,$(RANGES)))) \
  $(eval FACTOR.$(d) := $(if $(filter-out %.txt %.jsonl %.ndjson,$(INPUTS.$(d))),15,3)))

$(CHANGED:%=$(MAPS)/%.records): FORCE

# Pieces that are removed are made again only when something else has changed. (Without a name, .SECONDARY would mean
# all targets.)
$(foreach d,$(MAPPED),$(eval .SECONDARY: $(MAPS.$(d)) $(RANGES.$(d)) $(MAPS)/$(d)/complete))

# A map has one process; or several, if there are fewer files than jobs, and all jobs are on this machine.
many = $(filter $(JOBS),$(words $(wordlist 1,$(JOBS),$(MAPS.$(1)))))
$(foreach d,$(MAPPED),$(eval MAP_JOBS.$(d) := $(if $(or $(LAUNCH),$(call many,$(d))),1,$(HALF))))
MAP_JOBS.cc100-ja := $(HALF)
