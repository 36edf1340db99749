# suzuri: raw Japanese text in, a Hugging Face masked language model out.
#
# First the variables, then the flow from top to bottom: raw/, text/, tokenizer/, shards/, models/, and the measurements
# of the models. `make help` lists the commands. The machinery is in configs/make/: one file each for the environment,
# the lock, the settings stamps, and so on.

MAKEFILE := $(realpath $(lastword $(MAKEFILE_LIST)))
ROOT := $(patsubst %/,%,$(dir $(MAKEFILE)))
ifneq ($(words $(MAKEFILE)),1)
  $(error $(CURDIR): make cannot work in a folder whose path has blanks; move suzuri to another)
endif
BIN := $(ROOT)/bin
MACHINERY := $(ROOT)/configs/make
include $(addprefix $(MACHINERY)/,functions.mk names.mk)

# --- variables --------------------------------------------------------------------------------------------------------

# A value comes from the command line, else from the environment, else from configs/$(PROFILE).mk, else from here.
# A comment follows its value without a blank, because make counts such a blank as part of the value.

PROFILE ?= tiny#                                amounts and model: configs/PROFILE.mk
PROFILES := $(sort $(notdir $(basename $(wildcard $(ROOT)/configs/*.mk))))
KNOWN := $(strip $(foreach profile,$(PROFILES),$(if $(call same,$(profile),$(PROFILE)),$(profile))))
$(if $(or $(KNOWN),$(if $(WORK),,help)),,\
  $(error PROFILE=$(PROFILE): there is no configs/$(PROFILE).mk; the profiles are $(PROFILES)))
include $(KNOWN:%=$(ROOT)/configs/%.mk)

DATA ?= $(ROOT)/data#                           where everything is made

# Programs at a time, and processes of the tools that have --jobs.
JOBS ?= $(shell n=`nproc`; echo $$((n < 512 ? n : 512)))
SEED ?= 0#                                      seed of the shuffle; training has its own, in the recipe
# What a sequence holds: a sentence (line), or sentences of one document (document; window: with a [SEP] after each).
UNIT ?= line
# The share of the training sentences that become two overlapping parts of them in one sequence (pack-tokens --help).
CROP_PAIRS ?= 0
MIN_CHARS ?= 10#                                characters of the shortest sentence that is kept
MAX_CHARS ?= 1000#                              and of the longest
SORT_MEMORY ?= 1G#                              memory of shuffle-split, and of each map-text and reduce-text
RANGES ?= 16#                                   ranges of hashes in which a corpus of many files is shuffled
LAUNCH ?=#                                      sends programs of one core to other machines: srun --exact -N1 -n1 -c1
STREAM ?=#                                      1: read the sources only as far as needed, without a copy under raw/
SAMPLE ?= $(ROOT)/data/sample#                  the embedded corpus, which profile demo reads
PIP_ARGS ?=#                                    more options for pip install
MIRROR ?=#                                      s3://BUCKET/PREFIX: finished stages are put there, and taken from there
MIRROR_CHECKPOINTS ?=#                          1: checkpoints, too: a run can continue on another machine

# cc100-ja: a URL or a file, and amounts; 0 means all there is (for validation: none).
CC100_JA_URL ?= https://data.statmt.org/cc-100/ja.txt.xz
CC100_MAX_SENTENCE_NUM ?= 128000000#            sentences read
CC100_MAX_TRAIN_SENTENCE_NUM ?= 124000000#      distinct sentences written for training
CC100_MAX_VALIDATION_SENTENCE_NUM ?= 1000000#   and for validation
CC100_NUM_FILES ?= 32#                          files for training, and so shards

# jawiki: the root of the dated Cirrus dumps, one of them, a single .json.gz, or a local folder; and amounts.
JAWIKI_URL ?= https://dumps.wikimedia.org/other/cirrus_search_index/
JAWIKI_DATE ?=#                                 YYYYMMDD; empty: the newest complete dump
JAWIKI_MAX_DOCUMENTS ?= 0#                      articles extracted
JAWIKI_MAX_SENTENCE_NUM ?= 0#                   sentences read
JAWIKI_MAX_TRAIN_SENTENCE_NUM ?= 38400000#      distinct sentences written for training
JAWIKI_MAX_VALIDATION_SENTENCE_NUM ?= 1200000#  and for validation
JAWIKI_NUM_FILES ?= 32#                         files for training, and so shards

# Each corpus of your own, raw/NAME.txt[.xz|.gz|.bz2|.zst] or raw/NAME/ with .txt, .jsonl and .parquet files.
MAX_SENTENCE_NUM ?= 0#                          sentences read
TEXT_FIELD ?= text#                             the field of a JSON line, or the column, that has the text
VALIDATION_FRACTION ?= 0.01#                    part of all sentences that is for validation
NUM_FILES ?= 8#                                 files for training, and so shards

TOKENIZER_TYPE ?= wordpiece#                    wordpiece, char (both on MeCab's words) or unigram (sentencepiece)
TOKENIZER_CORPUS ?= jawiki#                     the dataset that it is trained on
# How many of its sentences: sentencepiece holds all of its input in memory, about 2 kB per sentence.
TOKENIZER_INPUT_SENTENCES ?= $(if $(filter unigram,$(TOKENIZER_TYPE)),1000000,10000000)
VOCAB_SIZE ?= 32768#                            tokens in the vocabulary
ALPHABET ?= 6129#                               characters among them
MAX_SEQ_LENGTH ?= 512#                          tokens; a longer sequence is cut into several

MODEL ?= bert-tiny#                             configs/train-MODEL-cc100-ja.json, then configs/train-MODEL-jawiki.json
# Recipes, trained in order, each from the model of the one before: train-MODEL-DATASET.json, or FILE@DATASET.
TRAIN_PARAM_JSONS ?= $(ROOT)/configs/train-$(MODEL)-cc100-ja.json:$(ROOT)/configs/train-$(MODEL)-jawiki.json
TRAIN_SET ?=#                                   KEY=VALUE …: settings that replace those of all recipes
TRAIN_FROM ?=#                                  a checkpoint to go back to, with another TRAIN_SET
MODEL_LICENSE ?=#                               for the models' cards, such as cc-by-sa-4.0
GPUS ?= 1#                                      processes of torchrun
TORCHRUN ?=#                                    starts them on several machines: configs/slurm/train.sbatch
MODEL_DISK ?= 2G#                               free disk required before a model is trained

# The tasks that measure the last model: where JGLUE and JBLiMP come from, and where they are.
JGLUE_URL ?= https://raw.githubusercontent.com/yahoojapan/JGLUE/main/datasets
JBLIMP_URL ?= https://raw.githubusercontent.com/osekilab/JBLiMP/main/data
TASKS ?= $(DATA)/raw/tasks#                     a folder of TASK/train.jsonl or TASK/train-v1.3.json, and valid likewise
# Which of them it is fine-tuned on: those with training data.
EVAL_TASKS ?= $(foreach t,$(KNOWN_TASKS),$(if $(call split,$(t),train),$(t)))
BASELINES ?=#                                   Hugging Face folders for more rows of the table
SEEDS ?= 3#                                     fine-tunings per task
FINETUNE ?=#                                    more options for finetune
PSEUDO_LINES ?= 100#                            lines for the pseudo-perplexity; 0: none

$(if $(WORK),$(refuse_unfit_values))
ifeq ($(call unfit,$(DATA)),)
  override DATA := $(abspath $(DATA))
endif
$(if $(WORK),$(call refuse_unfit,DATA=,$(DATA)))
$(if $(and $(WORK),$(filter x x/,x$(DATA))),$(error DATA=$(DATA): name a folder in which everything is made))
include $(addprefix $(MACHINERY)/,environment.mk corpora.mk help.mk lock.mk development.mk)

ifneq ($(FLOW),)

include $(addprefix $(MACHINERY)/,stages.mk stamps.mk)

.PHONY: all demo-chain
all: models
demo-chain: $(DATA)/demo.txt

# --- raw/: the sources ------------------------------------------------------------------------------------------------

.PHONY: download-cc100-ja download-jawiki download-jglue download-jblimp
download-cc100-ja: $(DATA)/raw/ja.txt.xz
download-jawiki: $(DATA)/raw/jawiki/manifest.json

SETTINGS.raw-cc100-ja := CC100_JA_URL
SETTINGS.raw-jawiki := JAWIKI_URL JAWIKI_DATE
SETTINGS.raw-jglue := JGLUE_URL
SETTINGS.raw-jblimp := JBLIMP_URL

# Profile demo reads the embedded corpus, packed in the layouts of the real sources.
SAMPLE_SUM = $(shell cd $(SAMPLE) && find . -name '*.txt' -exec sha256sum {} + | LC_ALL=C sort | sha256sum)
SETTINGS.sample := SAMPLE_SUM
sampled = $(if $(filter $(DATA)/raw/sample/%,$(1)),$(DATA)/raw/sample/manifest.json)
# A file on this machine, or one in a folder, is fetched again when it is newer than its copy.
local = $(if $(call unfit,$(1:file://%=%))$(filter $(DATA)/raw/sample/%,$(1)),,\
  $(foreach file,$(wildcard $(1:file://%=%) $(addprefix $(1:file://%=%)/*.,bz2 gz xz zst json jsonl ndjson)),\
    $(if $(call unfit,$(file)),,$(wildcard $(file)))))
of_source = $(foreach of,sampled local,$(call $(of),$(1)))
streamed = $(if $(STREAM),$(call of_source,$(1)))
$(DATA)/raw/sample/manifest.json: $(DATA)/.stamps/sample | $(VENV)
	@mkdir -p $(DATA)/raw
	@pack-sample $(SAMPLE) $(@D)

$(DATA)/raw/ja.txt.xz: $(DATA)/.stamps/raw-cc100-ja $(call of_source,$(CC100_JA_URL)) | $(VENV)
	$(call say,download-cc100-ja: $(call hide,$(CC100_JA_URL)))
	@mkdir -p $(@D)
	@fetch-url --no-clobber $(call quote,$(CC100_JA_URL)) $@

$(DATA)/raw/jawiki/manifest.json: $(DATA)/.stamps/raw-jawiki $(call of_source,$(JAWIKI_URL)) | $(VENV)
	$(call say,download-jawiki: $(call hide,$(JAWIKI_URL)))
	@mkdir -p $(DATA)/raw
	@fetch-jawiki $(addprefix --date ,$(JAWIKI_DATE)) $(call quote,$(JAWIKI_URL)) $(@D)

JGLUE_FILES := $(foreach t,jsts jnli jsquad jcommonsenseqa,$(t)/train-v1.3.json $(t)/valid-v1.3.json)
download-jglue: $(JGLUE_FILES:%=$(DATA)/raw/tasks/%)
$(JGLUE_FILES:%=$(DATA)/raw/tasks/%): $(DATA)/raw/tasks/%: $(DATA)/.stamps/raw-jglue | $(VENV)
	@mkdir -p $(@D)
	@fetch-url --no-clobber $(call quote,$(JGLUE_URL)/$(*D)-v1.3/$(*F)) $@
download-jblimp: $(DATA)/raw/tasks/jblimp.jsonl
$(DATA)/raw/tasks/jblimp.jsonl: $(DATA)/.stamps/raw-jblimp | $(VENV)
	@mkdir -p $(@D)
	@fetch-url --no-clobber $(call quote,$(JBLIMP_URL)/validated/validated_minimal_pairs.jsonl) $@

# --- text/: sentences, one per line, normalized, filtered, without duplicates, shuffled, split ------------------------

# What the pipes read: the copy under raw/, or with STREAM=1 the source itself.
ifeq ($(STREAM),)
  RAW.cc100-ja := $(DATA)/raw/ja.txt.xz
  RAW.jawiki := $(DATA)/raw/jawiki
  read-cc100-ja = cat-text $(RAW.cc100-ja)
  read-jawiki = cat-text $(RAW.jawiki)
else
  read-cc100-ja = fetch-url $(call quote,$(CC100_JA_URL)) - | cat-text
  read-jawiki = fetch-jawiki $(addprefix --date ,$(JAWIKI_DATE)) $(call quote,$(JAWIKI_URL)) -
endif

# Half of the cores are for the heaviest program of a pipe; the other programs need the rest.
HALF := $(shell echo $$((($(JOBS) + 1) / 2)))

# Which datasets go through the pipes below, $(call piped,DATASETS), and which piece by piece.
include $(MACHINERY)/pieces.mk

# Windows are cut when they are packed: what is shuffled is the documents.
TEXT_UNIT = $(patsubst window,document,$(UNIT))

# The tail of the three pipes below. $(1): their source; $(2): how much of it shuffle-split takes, into how many files.
# The result gets its name only if all programs of the pipe, not just the last, have succeeded ($(FULL)).
define split-filter-shuffle
split-sentences --jobs $(HALF) --stats $(STATS)/split-sentences.json \
| filter-sentences --min-chars $(MIN_CHARS) --max-chars $(MAX_CHARS) \
    --stats $(STATS)/filter-sentences.json --dropped $(STATS)/dropped.tsv \
| shuffle-split --seed $(SEED) --unit $(TEXT_UNIT) --memory $(SORT_MEMORY) --jobs $(JOBS) \
    $(addprefix --source ,$(1)) $(2) \
    --counts $(STATS)/split-sentences.json --counts $(STATS)/filter-sentences.json --unfinished $(@D) $(FULL)
@finish-folder $(@D)
endef

# How much of a source is taken, into how many files.
AMOUNTS.cc100-ja = --shards $(CC100_NUM_FILES) $(call limit,--max-lines,$(CC100_MAX_SENTENCE_NUM)) \
  $(call limit,--train-lines,$(CC100_MAX_TRAIN_SENTENCE_NUM)) --valid-lines $(CC100_MAX_VALIDATION_SENTENCE_NUM)
AMOUNTS.jawiki = --shards $(JAWIKI_NUM_FILES) $(call limit,--max-lines,$(JAWIKI_MAX_SENTENCE_NUM)) \
  $(call limit,--train-lines,$(JAWIKI_MAX_TRAIN_SENTENCE_NUM)) --valid-lines $(JAWIKI_MAX_VALIDATION_SENTENCE_NUM)
AMOUNTS.own = --shards $(NUM_FILES) $(call limit,--max-lines,$(MAX_SENTENCE_NUM)) \
  --valid-fraction $(VALIDATION_FRACTION)

$(call piped,cc100-ja): $$(call source,cc100-ja,$(RAW.cc100-ja)) $(call streamed,$(CC100_JA_URL)) \
    $(DATA)/.stamps/text-cc100-ja | $(VENV)
	$(call text-folder,$(RAW.cc100-ja),$(CC100_MAX_SENTENCE_NUM))
	@$(read-cc100-ja) \
	| $(call split-filter-shuffle,$(RAW.cc100-ja),$(AMOUNTS.cc100-ja))

$(call piped,jawiki): $$(call source,jawiki,$(RAW.jawiki:=/manifest.json)) $(call streamed,$(JAWIKI_URL)) \
    $(DATA)/.stamps/text-jawiki | $(VENV)
	$(call text-folder,$(RAW.jawiki),$(JAWIKI_MAX_SENTENCE_NUM))
	@$(read-jawiki) \
	| extract-wiki $(call limit,--max-documents,$(JAWIKI_MAX_DOCUMENTS)) --stats $(STATS)/extract-wiki.json \
	| $(call split-filter-shuffle,$(RAW.jawiki),$(AMOUNTS.jawiki) --counts $(STATS)/extract-wiki.json)

$(call piped,$(OWN)): $(DATA)/text/%/manifest.json: $$(INPUTS.$$*) $(DATA)/.stamps/text-% | $(VENV)
	$(call text-folder,$(RAW.$*),$(MAX_SENTENCE_NUM))
	@cat-text $(if $(filter $*,$(FOLDERS)),--text-field=$(TEXT_FIELD) )$(RAW.$*) \
	| $(call split-filter-shuffle,$(RAW.$*),$(AMOUNTS.own))

# What comes before each pipe. $(1): what it reads; $(2): how many sentences at most.
define text-folder
$(call say,build-dataset-$(notdir $(@D)))
@rm -rf $(STATS) && mkdir -p $(DATA)/text $(STATS)
$(call disk,"text/$(notdir $(@D))") --factor 10 $(call limit,--lines,$(2)) $(DATA)/text $(1)
endef
STATS = $(DATA)/.stats/$(notdir $(@D))

# Many files go piece by piece, with the same bytes as the result: a rule per file, then one per range of hashes. A run
# that was stopped goes on with the pieces that are missing; a file that is new or has changed is mapped, and no other.
# One xz file is one stream: its map is not launched, and has several processes.
$(foreach d,$(MAPPED),$(MAPS.$(d))): $(MAPS)/%.records: $$(FOLDER.$$(*D))/$$(*F) $$(AFTER.$$(*D)) | $(VENV)
	$(if $(filter $(firstword $(MAPS.$(*D))),$@),$(call say,build-dataset-$(*D): $(words $(MAPS.$(*D))) files))
	@mkdir -p $(@D)
	$(if $(filter $(firstword $(MAPS.$(*D))),$@),$(call disk,"text/$(*D)") --factor $(FACTOR.$(*D)) $(LINES.$(*D)) \
	  $(DATA)/pieces $(RAW.$(*D)))
	@$(if $(filter cc100-ja,$(*D)),,$(launched))map-text --seed $(SEED) --unit $(TEXT_UNIT) --min-chars $(MIN_CHARS) \
	  --max-chars $(MAX_CHARS) $(MAP_OPTIONS.$(*D)) --memory $(SORT_MEMORY) --jobs $(MAP_JOBS.$(*D)) $< \
	  $(attempt) $(arrived)

# All maps of a corpus, and nothing else: what is left of a file that is gone, or of an attempt, is removed.
$(MAPPED:%=$(MAPS)/%/complete): $(MAPS)/%/complete: $$(MAPS.$$*) $(DATA)/.stamps/text-%
	@cd $(@D) && for map in * .[!.]*; do \
	    [ -e $(FOLDER.$*)/"$${map%.records}" ] || rm -f -- "$$map"; done
	@rm -rf $(DATA)/.stats/$*
	@$(if $(filter $*,$(OWN)),list-inputs --sizes $(DATA)/raw $*) >$(@D)/.sizes && mv $(@D)/.sizes $@

$(foreach d,$(MAPPED),$(RANGES.$(d))): $(DATA)/pieces/ranges/%.records: $(MAPS)/$$(*D)/complete | $(VENV)
	@mkdir -p $(@D)
	@$(launched)reduce-text --range $(subst -of-,/,$(*F)) --shards $(FILES.$(*D)) \
	  $(if $(filter $(*D),$(OWN)),--valid-fraction $(VALIDATION_FRACTION)) --memory $(SORT_MEMORY) \
	  $(<D) $(attempt) $(arrived)

# The last step copies the pieces to their places. It is not launched: two that fill one folder would not be safe.
$(MAPPED:%=$(DATA)/text/%/manifest.json): $(DATA)/text/%/manifest.json: $$(RANGES.$$*) $(DATA)/.stamps/text-% | $(VENV)
	@rm -f $(filter-out $(RANGES.$*),$(wildcard $(DATA)/pieces/ranges/$*/*))
	@mkdir -p $(DATA)/text
	@shuffle-split --seed $(SEED) --unit $(TEXT_UNIT) --jobs $(JOBS) $(AMOUNTS.$(if $(filter $*,$(OWN)),own,$*)) \
	  --maps $(MAPS)/$* --ranges $(DATA)/pieces/ranges/$* --source $(RAW.$*) $(@D)
	@rm -r $(DATA)/pieces/ranges/$* $(if $(filter $*,$(OWN)),,$(MAPS)/$*)

DATASETS := cc100-ja jawiki $(OWN)
.PHONY: $(DATASETS:%=build-dataset-%)
$(DATASETS:%=build-dataset-%): build-dataset-%: $(DATA)/text/%/manifest.json
build-dataset-% shards-% train-model-% $(DATA)/text/%/manifest.json:
	@echo "make: dataset $*: put it at $(DATA)/raw/$*.txt (or .txt.xz, .txt.gz, .txt.bz2, .txt.zst), or" \
	  "its files in $(DATA)/raw/$*/" >&2; exit 1

TEXT := SEED TEXT_UNIT MIN_CHARS MAX_CHARS
SETTINGS.text-cc100-ja := $(TEXT) $(if $(STREAM),CC100_JA_URL) \
  $(addprefix CC100_,MAX_SENTENCE_NUM MAX_TRAIN_SENTENCE_NUM MAX_VALIDATION_SENTENCE_NUM NUM_FILES)
SETTINGS.text-jawiki := $(TEXT) $(if $(STREAM),JAWIKI_URL JAWIKI_DATE) \
  $(addprefix JAWIKI_,MAX_DOCUMENTS MAX_SENTENCE_NUM MAX_TRAIN_SENTENCE_NUM MAX_VALIDATION_SENTENCE_NUM NUM_FILES)
SETTINGS.text := $(TEXT) MAX_SENTENCE_NUM VALIDATION_FRACTION NUM_FILES
SETTINGS.maps := $(TEXT) TEXT_FIELD

# --- tokenizer/ -------------------------------------------------------------------------------------------------------

.PHONY: tokenizer train-tokenizer
tokenizer train-tokenizer: $(DATA)/tokenizer/manifest.json

SETTINGS.tokenizer := TOKENIZER_TYPE TOKENIZER_CORPUS TOKENIZER_INPUT_SENTENCES VOCAB_SIZE ALPHABET MAX_SEQ_LENGTH

# The train files are shuffled already: their first lines are a random sample. If all of them are wanted, and there is a
# cluster, each file is counted by a rule of its own.
COUNTS := $(if $(LAUNCH),$(if $(call ended,TOKENIZER_INPUT_SENTENCES),,$(patsubst %,$(DATA)/pieces/counts/%.json,\
  $(call shares,$(FILES.$(TOKENIZER_CORPUS))))))
$(if $(COUNTS),$(eval .SECONDARY: $(COUNTS)))
$(COUNTS): $(DATA)/pieces/counts/%.json: $(DATA)/text/$(TOKENIZER_CORPUS)/manifest.json \
    $(DATA)/.stamps/tokenizer | $(VENV)
	@mkdir -p $(@D)
	@$(launched)count-words --file $(subst -of-,/,$*) --type $(TOKENIZER_TYPE) $(<D) $(attempt) $(arrived)

$(DATA)/tokenizer/manifest.json: $(DATA)/text/$(TOKENIZER_CORPUS)/manifest.json $(COUNTS) \
    $(DATA)/.stamps/tokenizer | $(VENV)
	$(call say,train-tokenizer: $(TOKENIZER_TYPE)$(comma) $(VOCAB_SIZE) pieces from text/$(TOKENIZER_CORPUS))
	$(call disk,"tokenizer") --need 100M $(DATA)
	@$(if $(COUNTS),rm -f $(filter-out $(COUNTS),$(wildcard $(addprefix $(DATA)/pieces/counts/,* .[!.]*))))
	@$(if $(COUNTS),,cat $(<D)/train-*.txt | )train-tokenizer --type $(TOKENIZER_TYPE) --vocab-size $(VOCAB_SIZE) \
	    --alphabet $(ALPHABET) --jobs $(JOBS) $(call limit,--max-lines,$(TOKENIZER_INPUT_SENTENCES)) \
	    --max-seq-length $(MAX_SEQ_LENGTH) $(if $(COUNTS),--counts $(DATA)/pieces/counts) \
	    --source $(<D) --unfinished $(@D) $(FULL)
	@finish-folder $(@D)

# --- shards/: token ids, memory-mapped --------------------------------------------------------------------------------

.PHONY: shards $(DATASETS:%=shards-%)
shards: $(sort $(foreach m,$(MODELS),shards-$(DATASET.$(m))))
$(DATASETS:%=shards-%): shards-%: $(DATA)/shards/%/manifest.json

PAIRS := $(filter-out 0,$(CROP_PAIRS))
$(if $(PAIRS),$(if $(filter-out line,$(UNIT)),$(error CROP_PAIRS=$(PAIRS): with UNIT=$(UNIT), set CROP_PAIRS=0)))
SETTINGS.shards := UNIT MAX_SEQ_LENGTH $(if $(PAIRS),CROP_PAIRS)
parts = valid $(shell seq -f train-%03g 0 $$(($(FILES.$(1)) - 1)))
$(foreach d,$(DATASETS),$(eval SHARDS.$(d) := $(patsubst %,$(DATA)/shards/$(d)/%.safetensors,$(call parts,$(d)))))

# One rule per shard, so `make -j N` packs N at a time. The disk is checked once per dataset, with its first shard.
$(foreach d,$(DATASETS),$(SHARDS.$(d))): $(DATA)/shards/%.safetensors: $(DATA)/text/$$(*D)/manifest.json \
    $(DATA)/tokenizer/manifest.json $(DATA)/.stamps/shards | $(VENV)
	$(if $(filter valid,$(*F)),$(call say,shards-$(*D)))
	$(if $(filter valid,$(*F)),$(call disk,"shards/$(*D)") --factor $(if $(PAIRS),1.2,0.8) $(@D) $(<D))
	@mkdir -p $(@D)
	@$(launched)pack-tokens --tokenizer $(DATA)/tokenizer --unit $(UNIT) --max-seq-length $(MAX_SEQ_LENGTH) \
	  $(if $(filter valid,$(*F)),,$(PAIRS:%=--crop-pairs %)) $(attempt) $(<D)/$(*F).txt $(arrived)

# Shards left from a division into more files hold sentences that other shards hold too: they are removed.
$(DATASETS:%=$(DATA)/shards/%/manifest.json): $(DATA)/shards/%/manifest.json: $$(SHARDS.$$*)
	@rm -f $(filter-out $(SHARDS.$*),$(wildcard $(addprefix $(@D)/,train-[0-9][0-9][0-9].safetensors \
	  .train-*.part .valid.*.part train-*.part valid.*.part)))
	@write-manifest --source $(DATA)/text/$* --source $(DATA)/tokenizer --set unit=$(UNIT) \
	  --set max_seq_length=$(MAX_SEQ_LENGTH) $(PAIRS:%=--set crop_pairs=%) $(@D) $(notdir $(SHARDS.$*))

# --- models/ ----------------------------------------------------------------------------------------------------------

.PHONY: models $(DATASETS:%=train-model-%)
models: $(MODELS:%=$(DATA)/models/%/manifest.json)
$(DATASETS:%=train-model-%): train-model-%: $$(call models_of,$$*)
	$(if $(call models_of,$*),,$(error $(call no_recipe,$*)))

# One process, or one per GPU of this machine, or what TORCHRUN starts.
STANDALONE := $(PYTHON) -m torch.distributed.run --standalone --nproc-per-node $(GPUS)
STARTER := $(or $(call options,$(TORCHRUN)),$(if $(filter-out 1,$(GPUS)),$(STANDALONE)))
TRAIN := $(if $(STARTER),$(STARTER) $(BIN)/)train-mlm

# train-mlm continues a run that was stopped, and leaves a finished model as it is (hence the touch).
$(patsubst %,$(DATA)/models/%/manifest.json,$(MODELS) $(OWN_MODELS)): $(DATA)/models/%/manifest.json: \
    $(DATA)/shards/$$(DATASET.$$*)/manifest.json $(DATA)/tokenizer/manifest.json $(DATA)/.stamps/model-% \
    $$(addsuffix /manifest.json,$$(addprefix $(DATA)/models/,$$(INIT.$$*))) $$(call base_files,$$*) | $(VENV)
	$(call say,train-model-$(DATASET.$*): models/$*)
	$(call disk,"models/$*") --need $(MODEL_DISK) $(DATA)/models
	@mkdir -p $(DATA)/models
	@$(RUN_PUSHING)$(TRAIN) $(RECIPE.$*) \
	  --train $(DATA)/shards/$(DATASET.$*) --valid $(DATA)/shards/$(DATASET.$*)/valid.safetensors \
	  --tokenizer $(DATA)/tokenizer --output $(@D) \
	  $(patsubst %,--init $(DATA)/models/%,$(INIT.$*)) $(call options,$(TRAIN_SET),--set) \
	  $(if $(filter $*,$(FROM_MODEL)),$(call options,$(TRAIN_FROM),--from)) $(call options,$(MODEL_LICENSE),--license)
	@touch $@

# A tool gives its result the final name only when it is whole. If a signal came just then, make would delete the
# target because it has changed; but it is finished work, and stays.
WORKS := $(DATA)/raw/ja.txt.xz $(DATA)/raw/jawiki/manifest.json $(DATA)/tokenizer/manifest.json \
  $(foreach d,$(DATASETS),$(DATA)/text/$(d)/manifest.json $(DATA)/shards/$(d)/manifest.json $(SHARDS.$(d))) \
  $(patsubst %,$(DATA)/models/%/manifest.json,$(MODELS) $(OWN_MODELS))
.PRECIOUS: $(WORKS)

# Values that a later step would refuse are refused before the first one.
$(filter-out $(DATA)/models/%,$(WORKS)) $(foreach d,$(MAPPED),$(MAPS.$(d))): | $(CHECKED)
$(CHECKED): $(DATA)/.stamps/steps | $(VENV)
	@check-settings --seed $(SEED) --min-chars $(MIN_CHARS) --max-chars $(MAX_CHARS) --memory $(SORT_MEMORY) \
	  --type $(TOKENIZER_TYPE) --vocab-size $(VOCAB_SIZE) --alphabet $(ALPHABET) --unit $(UNIT) \
	  --max-seq-length $(MAX_SEQ_LENGTH) --crop-pairs $(CROP_PAIRS) --valid-fraction $(VALIDATION_FRACTION) \
	  $(foreach v,$(AMOUNTS),--amount $(v)=$($(v))) --size MODEL_DISK=$(MODEL_DISK) \
	  $(call options,$(MODEL_LICENSE),--license) $(call options,$(TRAIN_SET),--set) \
	  $(foreach m,$(call stages_until,$(patsubst checked-%,%,$(filter checked-%,$(@F)))),$(RECIPE.$(m)))
	@: >$@
$(filter-out %/checked,$(CHECKED)): $(DATA)/.stamps/checked-%: \
    $$(addprefix $(DATA)/.stamps/model-,$$(call stages_until,$$*)) | $(DATA)/.stamps/checked

# What make would take for finished, but is not: a folder of that name, or a manifest without its last entry. Its tool
# runs again, and either makes it or says what is in the way.
UNSOUND := $(patsubst %/.,%,$(wildcard $(WORKS:=/.)))
UNSOUND += $(shell grep -Ls '^  "unlisted": ' /dev/null \
  $(filter-out $(UNSOUND),$(wildcard $(filter %/manifest.json,$(WORKS)))))
$(filter $(WORKS),$(UNSOUND)): FORCE

# --- what the models have learned -------------------------------------------------------------------------------------

include $(MACHINERY)/results.mk

.PHONY: eval curve report verify
eval: $(MODELS:%=$(DATA)/eval/%.json) $(DATA)/eval/tasks.md
	@cat $^
	$(if $(strip $(EVAL_TASKS)),,@echo "eval: $(TASKS) has no training data: make download-jglue, or TASKS=folder" >&2)

# Each stage and its snapshots (snapshot_tokens in a recipe), measured in the same way: what is learned, and when.
curve: $(if $(SNAPSHOTS),$(DATA)/eval/curve.md)
	@$(if $(SNAPSHOTS),cat $<,echo "curve: no model has snapshots; train with snapshot_tokens in the recipe" >&2; exit 1)

SETTINGS.eval-mlm := PSEUDO_LINES
$(MODELS:%=$(DATA)/eval/%.json): $(DATA)/eval/%.json: $(DATA)/models/%/manifest.json $(DATA)/.stamps/eval-mlm | $(VENV)
	@mkdir -p $(@D)
	@eval-mlm --json $(<D) $(DATA)/shards/$(DATASET.$*)/valid.safetensors \
	  --pseudo-perplexity $(PSEUDO_LINES) --text $(DATA)/text/$(DATASET.$*)/valid.txt >$@.part && mv $@.part $@

SETTINGS.eval-demo := MODELS
$(DATA)/demo.txt: $(MODELS:%=$(DATA)/eval/%.json) $(SAMPLE)/fill-mask.tsv $(SAMPLE)/minimal-pairs.tsv \
    $(DATA)/.stamps/eval-demo
	$(call say,compare-models: before training and after each stage$(comma) on sentences that are not in the sample)
	@compare-models --before --masked $(SAMPLE)/fill-mask.tsv --pairs $(SAMPLE)/minimal-pairs.tsv \
	  $(MODELS:%=$(DATA)/models/%) >$@.part
	@cat $@.part && mv $@.part $@

# All results so far, on one page; nothing is computed for it.
report: | $(VENV) $(EVAL_VENV)
	@write-report --data $(DATA) --fill-mask $(SAMPLE)/fill-mask.tsv --seed $(SEED) $(DATA)/report

verify: | $(VENV)
	@verify-manifest $(DATA)

include $(addprefix $(MACHINERY)/,mirror.mk cleaning.mk)

endif

# --- the demo: all of the above, small --------------------------------------------------------------------------------

.PHONY: demo clean-demo
demo: | $(VENV)
	+@$(MAKE) --no-print-directory -f $(ROOT)/Makefile PROFILE=demo DATA=$(DATA)/demo demo-chain
clean-demo:
	+@[ ! -d $(DATA)/demo ] || \
	  $(MAKE) --no-print-directory -f $(ROOT)/Makefile SUZURI_LOCK= PROFILE=demo DATA=$(DATA)/demo clean-data
