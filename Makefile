# suzuri: raw Japanese text in, a Hugging Face masked language model out.
#
# This file knows the order of the stages and reads in the order in which the data flows; `make help` lists
# the commands. A variable's value comes from the command line, else the environment, else
# configs/$(PROFILE).mk, else from here.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += -r
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
export LC_ALL := C.UTF-8

ROOT := $(patsubst %/,%,$(dir $(realpath $(lastword $(MAKEFILE_LIST)))))
BIN := $(ROOT)/bin

# --- how much, of what, where ---------------------------------------------------------------------------------

PROFILE ?= tiny
ifeq ($(wildcard $(ROOT)/configs/$(PROFILE).mk),)
  $(error PROFILE=$(PROFILE): no configs/$(PROFILE).mk; there are $(notdir $(basename $(wildcard $(ROOT)/configs/*.mk))))
endif
include $(ROOT)/configs/$(PROFILE).mk

DATA ?= $(ROOT)/data
ifneq ($(words $(DATA)),1)
  $(error DATA=$(DATA): make cannot work with a path that has blanks in it)
endif
override DATA := $(abspath $(DATA))

JOBS ?= $(shell nproc)
# Of the cores, for the heaviest program of a pipe: the others have work, too.
HALF := $(shell echo $$((($(JOBS) + 1) / 2)))
SEED ?= 0
UNIT ?= line
MIN_CHARS ?= 10
MAX_CHARS ?= 1000
SORT_MEMORY ?= 1G

# 0 is "all there is". *_MAX_SENTENCE_NUM counts sentences read, the others distinct sentences written.
CC100_JA_URL ?= https://data.statmt.org/cc-100/ja.txt.xz
CC100_MAX_SENTENCE_NUM ?= 128000000
CC100_MAX_TRAIN_SENTENCE_NUM ?= 124000000
CC100_MAX_VALIDATION_SENTENCE_NUM ?= 1000000
CC100_NUM_FILES ?= 32

JAWIKI_URL ?= https://dumps.wikimedia.org/other/cirrus_search_index/
JAWIKI_DATE ?=
JAWIKI_MAX_DOCUMENTS ?= 0
JAWIKI_MAX_SENTENCE_NUM ?= 0
JAWIKI_MAX_TRAIN_SENTENCE_NUM ?= 38400000
JAWIKI_MAX_VALIDATION_SENTENCE_NUM ?= 1200000
JAWIKI_NUM_FILES ?= 32

# A corpus of your own, raw/NAME.txt[.xz|.gz|.bz2|.zst]; VALIDATION_FRACTION of it is kept for validation.
MAX_SENTENCE_NUM ?= 0
VALIDATION_FRACTION ?= 0.01
NUM_FILES ?= 8

TOKENIZER_TYPE ?= wordpiece
TOKENIZER_CORPUS ?= jawiki
# sentencepiece holds all of its input, some 2 kB a sentence.
TOKENIZER_INPUT_SENTENCES ?= $(if $(filter unigram,$(TOKENIZER_TYPE)),1000000,10000000)
VOCAB_SIZE ?= 32768
ALPHABET ?= 6129
MAX_SEQ_LENGTH ?= 512

# Recipes, trained in order, each from the model of the one before: train-MODEL-DATASET.json, or FILE@DATASET.
MODEL ?= bert-tiny
TRAIN_PARAM_JSONS ?= $(ROOT)/configs/train-$(MODEL)-cc100-ja.json:$(ROOT)/configs/train-$(MODEL)-jawiki.json
TRAIN_SET ?=
GPUS ?= 1
MODEL_DISK ?= 2G

# What the last model is fine-tuned on: TASKS/TASK/train.jsonl or train-v1.3.json, and valid. EVAL_TASKS: those of
# which both are there. BASELINES: other Hugging Face folders for the table, beside random weights and bag of words.
JGLUE_URL ?= https://raw.githubusercontent.com/yahoojapan/JGLUE/main/datasets
TASKS ?= $(DATA)/raw/tasks
EVAL_TASKS ?= $(foreach t,jsts jnli jsick jsquad jcommonsenseqa ner,$(if $(wildcard $(TASKS)/$(t)/train*.json*),$(t)))
BASELINES ?=
SEEDS ?= 3
FINETUNE ?=
PSEUDO_LINES ?= 100

# The embedded corpus, which profile demo reads.
SAMPLE ?= $(ROOT)/data/sample

# 1: read the sources as a stream that ends when there is enough, without a copy under raw/.
STREAM ?=

define HELP
suzuri: raw Japanese text in, a Hugging Face masked language model out

  make demo                     the whole chain on the embedded sample: minutes on a CPU
  make all                      the whole chain with PROFILE=$(PROFILE) (profiles: $(sort $(notdir $(basename $(wildcard $(ROOT)/configs/*.mk)))))

step by step, in the order of the flow:
  make download-cc100-ja        raw/ja.txt.xz
  make download-jawiki          raw/jawiki/, the newest complete Cirrus dump
  make build-dataset-cc100-ja   text/cc100-ja/: sentences, filtered, shuffled, split
  make build-dataset-jawiki     text/jawiki/
  make train-tokenizer          tokenizer/ (also: tokenizer), TOKENIZER_TYPE=wordpiece|char|unigram
  make shards                   shards/: token ids, memory-mapped
  make train-model-cc100-ja     models/, stage 1, from scratch
  make train-model-jawiki       models/, stage 2, from stage 1
  make download-jglue           raw/tasks/: JGLUE's tasks, for eval
  make eval                     the models' loss and perplexity; the last one fine-tuned, beside baselines
  make report                   report/index.html and report.md: all that is there, on one page

a corpus of your own, raw/NAME.txt[.xz|.gz|.bz2|.zst] (there: $(or $(OWN),none)):
  make build-dataset-NAME shards-NAME train-model-NAME

  make verify                   recheck every file against its manifest
  make test | bench | lint      the tests; our speed beside others'; ruff   (bench-text, bench-train)
  make docker-build docker-all  the image; the whole chain in it
  make clean-text clean-tokenizer clean-shards clean-models clean-model-NAME clean-eval clean-report clean-demo
  make clean                    all of these; clean-raw alone removes what was downloaded, not your own raw/NAME.txt

DATA=$(DATA) JOBS=$(JOBS) SEED=$(SEED); README.md has every variable. Dry run: make -n all
endef

# --- the pieces of a recipe -------------------------------------------------------------------------------------

comma := ,
quote = '$(subst ','\'',$(1))'
same = $(and $(findstring x$(1)x,x$(2)x),$(findstring x$(2)x,x$(1)x))
say = @echo "== $(1)" >&2
disk = @$(BIN)/check-disk --for $(1)
# $(call limit,--flag,AMOUNT): nothing for 0, "all there is".
limit = $(if $(filter-out 0,$(2)),$(1) $(2))

# A reader that has enough leaves; those before it in the pipe then end by SIGPIPE (141), and that is no error.
FULL := || for status in "$${PIPESTATUS[@]}"; do [ $$status = 0 ] || [ $$status = 141 ] || exit $$status; done

.PHONY: FORCE
FORCE:

# --- the environment --------------------------------------------------------------------------------------------

# The marker is a copy of the requirements that were installed; another text, or none, makes .venv anew.
ifdef SUZURI_PYTHON
  VENV :=
  PYTHON := $(SUZURI_PYTHON)
else
  VENV := $(ROOT)/.venv/installed.txt
  PYTHON := $(ROOT)/.venv/bin/python
endif
PIP_ARGS ?=
pip = $(ROOT)/.venv/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 $(PIP_ARGS)
unless_installed = $(if $(call same,$(file <$(ROOT)/.venv/$(1)),$(file <$(ROOT)/configs/$(2))),,FORCE)

$(ROOT)/.venv/installed.txt: $(call unless_installed,installed.txt,requirements.txt)
	@python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "make: python3 3.11 or newer with venv is needed (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(call say,installing Python packages into $(ROOT)/.venv: once$(comma) some minutes)
	@rm -f $@ && python3 -m venv --clear $(ROOT)/.venv
	@$(pip) -r $(ROOT)/configs/requirements.txt
	@cp $(ROOT)/configs/requirements.txt $@.part && mv $@.part $@

$(ROOT)/.venv/installed-%.txt: $(ROOT)/.venv/installed.txt FORCE
	@cmp -s $(ROOT)/configs/requirements-$*.txt $@ \
	  || { echo "== installing the packages of configs/requirements-$*.txt into $(ROOT)/.venv" >&2; \
	       $(pip) -r $(ROOT)/configs/requirements-$*.txt && cp $(ROOT)/configs/requirements-$*.txt $@.part && mv $@.part $@; }

# The tests try what needs the packages for evaluation, too.
$(ROOT)/.venv/installed-dev.txt: $(ROOT)/.venv/installed-eval.txt

# --- one run at a time ------------------------------------------------------------------------------------------

# Goals that work in DATA run in a second make, under the lock of DATA. -n, -q and -t only look: no lock.
UNLOCKED := help demo clean-demo test bench bench-text bench-train lint docker-build docker-all
GOALS := $(filter-out $(UNLOCKED) $(ROOT)/.venv%,$(MAKECMDGOALS))
LOOKING := $(foreach letter,n q t,$(findstring $(letter),$(filter-out --%,$(firstword -$(MAKEFLAGS)))))

ifneq ($(and $(GOALS),$(if $(SUZURI_LOCK)$(strip $(LOOKING)),,yes)),)

# Without a -j of the user's the work for one goal is parallel, the goals follow one another: `make clean-text shards`.
INNER := $(MAKE) --no-print-directory -f $(ROOT)/Makefile SUZURI_LOCK=held
.PHONY: $(GOALS) locked
$(GOALS): locked ; @:
locked: | $(VENV)
	+@mkdir -p $(DATA); flags=$${MAKEFLAGS-}; set -- $(GOALS); \
	  case " $${flags%% -- *}" in \
	    *" -j"*|*--jobserver*) set -- $(INNER) "$$@" ;; \
	    *) if [ $$# = 1 ]; then set -- $(INNER) -j$(JOBS) "$$@"; \
	       else set -- bash -ec 'for goal; do $(INNER) -j$(JOBS) "$$goal"; done' make "$$@"; fi ;; \
	  esac; exec $(BIN)/hold-lock $(DATA)/.lock -- "$$@"

else

.PHONY: all
all: models

# --- settings ---------------------------------------------------------------------------------------------------

# .stamps/NAME holds the values of the variables in SETTINGS.NAME and is rewritten only when they change; what
# depends on them depends on it. Nothing is written while make reads this file: `make -n X=…` is harmless. The
# first stamp of a source is dated 1970: a file that you put under raw/ yourself is newer, and is taken as it is.
settings = $(foreach v,$(SETTINGS.$(1)),$(v)=$($(v)))

.SECONDEXPANSION:
$(DATA)/.stamps/%: $$(if $$(call same,$$(file <$$@),$$(call settings,$$*)),,FORCE)
	@mkdir -p $(@D) && printf '%s\n' $(call quote,$(call settings,$*)) >$@.part
	@$(if $(filter raw-%,$*),$(if $(wildcard $@),,touch -d @0 $@.part &&)) mv $@.part $@

# --- raw/: the sources ------------------------------------------------------------------------------------------

.PHONY: download-cc100-ja download-jawiki
download-cc100-ja: $(DATA)/raw/ja.txt.xz
download-jawiki: $(DATA)/raw/jawiki/manifest.json

SETTINGS.raw-cc100-ja := CC100_JA_URL
SETTINGS.raw-jawiki := JAWIKI_URL JAWIKI_DATE

# The embedded corpus in the layouts of the real sources (profile demo reads it from there).
SAMPLE_FILES := $(wildcard $(SAMPLE)/*/*.txt)
SETTINGS.sample := SAMPLE_FILES
$(DATA)/raw/sample/manifest.json: $(SAMPLE_FILES) $(DATA)/.stamps/sample | $(VENV)
	@mkdir -p $(DATA)/raw
	@$(BIN)/pack-sample $(SAMPLE) $(@D)
sampled = $(if $(filter $(DATA)/raw/sample/%,$(1)),$(DATA)/raw/sample/manifest.json)

$(DATA)/raw/ja.txt.xz: $(DATA)/.stamps/raw-cc100-ja $(call sampled,$(CC100_JA_URL)) | $(VENV)
	$(call say,download-cc100-ja: $(CC100_JA_URL))
	@mkdir -p $(@D)
	@$(BIN)/fetch-url $(call quote,$(CC100_JA_URL)) $@

$(DATA)/raw/jawiki/manifest.json: $(DATA)/.stamps/raw-jawiki $(call sampled,$(JAWIKI_URL)) | $(VENV)
	$(call say,download-jawiki: $(JAWIKI_URL))
	@mkdir -p $(DATA)/raw
	@$(BIN)/fetch-jawiki $(if $(JAWIKI_DATE),--date $(JAWIKI_DATE)) $(call quote,$(JAWIKI_URL)) $(@D)

# --- text/: one sentence a line, cleaned, filtered, without duplicates, shuffled, split -------------------------

# A dataset NAME is told by these variables:
#   RAW.NAME      its file or folder under raw/ (none: it is read as a stream)
#   READ.NAME     the command that writes its text
#   AMOUNTS.NAME  how much of it shuffle-split takes
#   FILES.NAME    how many train files
#   LINES.NAME    how many sentences it has at most; 0: any number

RAW.cc100-ja := $(if $(STREAM),,$(DATA)/raw/ja.txt.xz)
READ.cc100-ja = $(BIN)/$(if $(STREAM),fetch-url $(call quote,$(CC100_JA_URL)) - | $(BIN)/cat-text,cat-text $(RAW.cc100-ja))
AMOUNTS.cc100-ja = $(call limit,--max-lines,$(CC100_MAX_SENTENCE_NUM)) \
  $(call limit,--train-lines,$(CC100_MAX_TRAIN_SENTENCE_NUM)) --valid-lines $(CC100_MAX_VALIDATION_SENTENCE_NUM)
LINES.cc100-ja := $(CC100_MAX_SENTENCE_NUM)
FILES.cc100-ja := $(CC100_NUM_FILES)

RAW.jawiki := $(if $(STREAM),,$(DATA)/raw/jawiki)
READ.jawiki = $(BIN)/$(if $(STREAM),fetch-jawiki $(if $(JAWIKI_DATE),--date $(JAWIKI_DATE)) $(call quote,$(JAWIKI_URL)) -,cat-text $(RAW.jawiki)) \
  | $(BIN)/extract-wiki $(call limit,--max-documents,$(JAWIKI_MAX_DOCUMENTS)) $(call stats,extract-wiki)
AMOUNTS.jawiki = $(call limit,--max-lines,$(JAWIKI_MAX_SENTENCE_NUM)) \
  $(call limit,--train-lines,$(JAWIKI_MAX_TRAIN_SENTENCE_NUM)) --valid-lines $(JAWIKI_MAX_VALIDATION_SENTENCE_NUM)
LINES.jawiki := $(JAWIKI_MAX_SENTENCE_NUM)
FILES.jawiki := $(JAWIKI_NUM_FILES)

# Corpora of your own, named by their files under raw/.
OWN_FILES := $(filter-out %/ja.txt.xz,$(wildcard $(addprefix $(DATA)/raw/*.txt,$(sort .xz .gz .bz2 .zst)) $(DATA)/raw/*.txt))
own_name = $(firstword $(subst .txt, ,$(notdir $(1))))
OWN := $(sort $(foreach file,$(OWN_FILES),$(call own_name,$(file))))
$(foreach file,$(OWN_FILES),$(eval RAW.$(call own_name,$(file)) := $(file)))
$(foreach name,$(OWN),$(eval READ.$(name) = $$(BIN)/cat-text $$(RAW.$(name))) $(eval FILES.$(name) := $(NUM_FILES)) \
  $(eval LINES.$(name) := $(MAX_SENTENCE_NUM)) \
  $(eval AMOUNTS.$(name) = $$(call limit,--max-lines,$$(MAX_SENTENCE_NUM)) --valid-fraction $$(VALIDATION_FRACTION)))

DATASETS := cc100-ja jawiki $(OWN)
TEXT := SEED UNIT MIN_CHARS MAX_CHARS
SETTINGS.text-cc100-ja := $(TEXT) $(if $(STREAM),CC100_JA_URL) \
  $(addprefix CC100_,MAX_SENTENCE_NUM MAX_TRAIN_SENTENCE_NUM MAX_VALIDATION_SENTENCE_NUM NUM_FILES)
SETTINGS.text-jawiki := $(TEXT) $(if $(STREAM),JAWIKI_URL JAWIKI_DATE) \
  $(addprefix JAWIKI_,MAX_DOCUMENTS MAX_SENTENCE_NUM MAX_TRAIN_SENTENCE_NUM MAX_VALIDATION_SENTENCE_NUM NUM_FILES)
$(foreach name,$(OWN),$(eval SETTINGS.text-$(name) := $(TEXT) MAX_SENTENCE_NUM VALIDATION_FRACTION NUM_FILES))

.PHONY: $(DATASETS:%=build-dataset-%)
$(DATASETS:%=build-dataset-%): build-dataset-%: $(DATA)/text/%/manifest.json
build-dataset-%:
	@echo "make: dataset $*: put it at $(DATA)/raw/$*.txt (or .txt.xz, .txt.gz, .txt.bz2, .txt.zst)" >&2; exit 1

stats = --stats $(DATA)/.stats/$(*F)/$(1).json

# The pipe works in NAME.part, renamed when all of its programs, not only the last, have ended well.
raw_target = $(if $(filter jawiki,$(1)),$(RAW.$(1):=/manifest.json),$(RAW.$(1)))
$(DATASETS:%=$(DATA)/text/%/manifest.json): $(DATA)/text/%/manifest.json: $$(call raw_target,$$*) $(DATA)/.stamps/text-% | $(VENV)
	$(call say,build-dataset-$*)
	@rm -rf $(DATA)/text/$*.part $(DATA)/.stats/$* && mkdir -p $(DATA)/text $(DATA)/.stats/$*
	$(call disk,"text/$*") --factor 10 $(call limit,--lines,$(LINES.$*)) $(DATA)/text $(RAW.$*)
	@$(READ.$*) \
	| $(BIN)/split-sentences --jobs $(HALF) $(call stats,split-sentences) \
	| $(BIN)/filter-sentences --min-chars $(MIN_CHARS) --max-chars $(MAX_CHARS) $(call stats,filter-sentences) \
	    --dropped $(DATA)/.stats/$*/dropped.tsv \
	| $(BIN)/shuffle-split --seed $(SEED) --unit $(UNIT) --shards $(FILES.$*) $(AMOUNTS.$*) --memory $(SORT_MEMORY) \
	    --jobs $(JOBS) $(addprefix --source ,$(RAW.$*)) $(if $(findstring extract-wiki,$(READ.$*)),--counts $(DATA)/.stats/$*/extract-wiki.json) \
	    --counts $(DATA)/.stats/$*/split-sentences.json --counts $(DATA)/.stats/$*/filter-sentences.json \
	    $(DATA)/text/$*.part $(FULL)
	@rm -rf $(@D) && mv $(DATA)/text/$*.part $(@D)

# --- tokenizer/ -------------------------------------------------------------------------------------------------

.PHONY: tokenizer train-tokenizer
tokenizer train-tokenizer: $(DATA)/tokenizer/manifest.json

SETTINGS.tokenizer := TOKENIZER_TYPE TOKENIZER_CORPUS TOKENIZER_INPUT_SENTENCES VOCAB_SIZE ALPHABET MAX_SEQ_LENGTH

# The train files are shuffled already: their first lines are a random sample.
$(DATA)/tokenizer/manifest.json: $(DATA)/text/$(TOKENIZER_CORPUS)/manifest.json $(DATA)/.stamps/tokenizer | $(VENV)
	$(call say,train-tokenizer: $(TOKENIZER_TYPE)$(comma) $(VOCAB_SIZE) pieces from text/$(TOKENIZER_CORPUS))
	$(call disk,"tokenizer") --need 100M $(DATA)
	@cat $(<D)/train-*.txt \
	| $(BIN)/train-tokenizer --type $(TOKENIZER_TYPE) --vocab-size $(VOCAB_SIZE) --alphabet $(ALPHABET) --jobs $(JOBS) \
	    $(call limit,--max-lines,$(TOKENIZER_INPUT_SENTENCES)) --max-seq-length $(MAX_SEQ_LENGTH) --source $(<D) $(@D) $(FULL)

# --- shards/: token ids, memory-mapped --------------------------------------------------------------------------

STAGES := $(subst :, ,$(TRAIN_PARAM_JSONS))

SETTINGS.shards := UNIT MAX_SEQ_LENGTH
parts = valid $(shell seq -f train-%03g 0 $$(($(FILES.$(1)) - 1)))
$(foreach name,$(DATASETS),$(eval SHARDS.$(name) := $(patsubst %,$(DATA)/shards/$(name)/%.safetensors,$(call parts,$(name)))))

.PHONY: $(DATASETS:%=shards-%)
$(DATASETS:%=shards-%): shards-%: $(DATA)/shards/%/manifest.json

# One rule a shard: `make -j N` is the parallelism. The disk is checked once a dataset, with its first shard.
$(foreach name,$(DATASETS),$(SHARDS.$(name))): $(DATA)/shards/%.safetensors: $(DATA)/text/$$(*D)/manifest.json \
    $(DATA)/tokenizer/manifest.json $(DATA)/.stamps/shards | $(VENV)
	$(if $(filter valid,$(*F)),$(call say,shards-$(*D)))
	$(if $(filter valid,$(*F)),$(call disk,"shards/$(*D)") --factor 0.8 $(@D) $(<D))
	@mkdir -p $(@D)
	@$(BIN)/pack-tokens --tokenizer $(DATA)/tokenizer --unit $(UNIT) --max-seq-length $(MAX_SEQ_LENGTH) $@ <$(<D)/$(*F).txt

# Shards of a division into more files, from before, would be trained on twice: they go.
$(DATASETS:%=$(DATA)/shards/%/manifest.json): $(DATA)/shards/%/manifest.json: $$(SHARDS.$$*)
	@rm -f $(filter-out $(SHARDS.$*),$(wildcard $(@D)/*.safetensors))
	@$(BIN)/write-manifest --source $(DATA)/text/$* --source $(DATA)/tokenizer --set unit=$(UNIT) \
	  --set max_seq_length=$(MAX_SEQ_LENGTH) $(@D)

# --- models/ ----------------------------------------------------------------------------------------------------

# A stage is RECIPE.json, with its dataset as the end of its name or after an @; its model is named like it.
stage_file = $(firstword $(subst @, ,$(1)))
stage_stem = $(patsubst train-%,%,$(basename $(notdir $(call stage_file,$(1)))))
stage_data = $(strip $(or $(word 2,$(subst @, ,$(1))),$(foreach d,$(DATASETS),$(if $(filter %-$(d),$(call stage_stem,$(1))),$(d)))))
stage_name = $(if $(findstring @,$(1)),$(patsubst %-own,%,$(call stage_stem,$(1)))-$(call stage_data,$(1)),$(call stage_stem,$(1)))
# $(call stage,STAGE,MODEL BEFORE): defines RECIPE, DATASET, INIT and RECIPE_SUM of a model, named M.
define stage
M := $(call stage_name,$(1))
RECIPE.$(call stage_name,$(1)) := $(call stage_file,$(1))
DATASET.$(call stage_name,$(1)) := $(call stage_data,$(1))
INIT.$(call stage_name,$(1)) := $(2)
RECIPE_SUM.$(call stage_name,$(1)) := $(shell f=$(call stage_file,$(1)); cat $$f $$(dirname $$f)/$$(sed -n 's/.*"model_config_file": *"\([^"]*\)".*/\1/p' $$f 2>/dev/null) 2>/dev/null | cksum)
SETTINGS.model-$(call stage_name,$(1)) := RECIPE_SUM.$(call stage_name,$(1)) DATASET.$(call stage_name,$(1)) INIT.$(call stage_name,$(1)) TRAIN_SET
endef
$(foreach s,$(STAGES),$(if $(call stage_data,$(s)),,$(error TRAIN_PARAM_JSONS: whose recipe is $(s)? Name it …-DATASET.json or write $(s)@DATASET, with a DATASET of: $(DATASETS))))
PREVIOUS :=
$(foreach s,$(STAGES),$(eval $(call stage,$(s),$(PREVIOUS))) $(eval MODELS += $(M)) $(eval PREVIOUS := $(M)))

# A corpus of your own that TRAIN_PARAM_JSONS does not name has a model of its own, from scratch.
own_recipe = $(firstword $(wildcard $(ROOT)/configs/train-$(MODEL)-$(1).json) $(ROOT)/configs/train-$(MODEL)-own.json@$(1))
OWN_MODELS :=
$(foreach name,$(filter-out $(foreach m,$(MODELS),$(DATASET.$(m))),$(OWN)),$(eval $(call stage,$(call own_recipe,$(name)),)) $(eval OWN_MODELS += $(M)))

.PHONY: shards models
shards: $(sort $(foreach m,$(MODELS),shards-$(DATASET.$(m))))
models: $(MODELS:%=$(DATA)/models/%/manifest.json)
train_models = $(foreach m,$(MODELS) $(OWN_MODELS),$(if $(filter $(1),$(DATASET.$(m))),$(DATA)/models/$(m)/manifest.json))
.PHONY: $(DATASETS:%=train-model-%)
$(DATASETS:%=train-model-%): train-model-%: $$(call train_models,$$*)
	$(if $(call train_models,$*),,$(error train-model-$*: no recipe of TRAIN_PARAM_JSONS is for $*))

TRAIN := $(if $(filter-out 1,$(GPUS)),$(PYTHON) -m torch.distributed.run --standalone --nproc-per-node $(GPUS) )$(BIN)/train-mlm

# train-mlm goes on where a run was stopped; what it has finished it leaves as it is (hence the touch).
$(patsubst %,$(DATA)/models/%/manifest.json,$(MODELS) $(OWN_MODELS)): $(DATA)/models/%/manifest.json: \
    $(DATA)/shards/$$(DATASET.$$*)/manifest.json $(DATA)/tokenizer/manifest.json $(DATA)/.stamps/model-% \
    $$(addsuffix /manifest.json,$$(addprefix $(DATA)/models/,$$(INIT.$$*))) | $(VENV)
	$(call say,train-model-$(DATASET.$*): models/$*)
	$(call disk,"models/$*") --need $(MODEL_DISK) $(DATA)/models
	@mkdir -p $(DATA)/models
	@$(TRAIN) $(RECIPE.$*) --train $(DATA)/shards/$(DATASET.$*) --valid $(DATA)/shards/$(DATASET.$*)/valid.safetensors \
	  --tokenizer $(DATA)/tokenizer --output $(@D) $(patsubst %,--init $(DATA)/models/%,$(INIT.$*)) $(addprefix --set ,$(TRAIN_SET))
	@touch $@

# Every tool gives its result the final name when it is whole: what make would delete because a signal came just
# then (its habit with a target that changed) is finished work.
.PRECIOUS: $(DATA)/raw/ja.txt.xz $(DATA)/raw/jawiki/manifest.json $(DATA)/tokenizer/manifest.json \
  $(foreach name,$(DATASETS),$(DATA)/text/$(name)/manifest.json $(DATA)/shards/$(name)/manifest.json $(SHARDS.$(name))) \
  $(patsubst %,$(DATA)/models/%/manifest.json,$(MODELS) $(OWN_MODELS))

# --- looking at the result --------------------------------------------------------------------------------------

.PHONY: eval demo-chain verify download-jglue
eval: $(MODELS:%=$(DATA)/eval/%.json) $(if $(strip $(EVAL_TASKS)),$(DATA)/eval/tasks.md)
	@cat $^
	$(if $(strip $(EVAL_TASKS)),,@echo "eval: no task with a training split in $(TASKS): make download-jglue, or TASKS=folder" >&2)

SETTINGS.eval-mlm := PSEUDO_LINES
$(MODELS:%=$(DATA)/eval/%.json): $(DATA)/eval/%.json: $(DATA)/models/%/manifest.json $(DATA)/.stamps/eval-mlm | $(VENV)
	@mkdir -p $(@D)
	@$(BIN)/eval-mlm --json $(<D) $(DATA)/shards/$(DATASET.$*)/valid.safetensors \
	  --pseudo-perplexity $(PSEUDO_LINES) --text $(DATA)/text/$(DATASET.$*)/valid.txt >$@.part && mv $@.part $@

JGLUE_FILES := $(foreach t,jsts jnli jsquad jcommonsenseqa,$(t)/train-v1.3.json $(t)/valid-v1.3.json)
download-jglue: $(JGLUE_FILES:%=$(DATA)/raw/tasks/%)
$(JGLUE_FILES:%=$(DATA)/raw/tasks/%): $(DATA)/raw/tasks/%: | $(VENV)
	@mkdir -p $(@D)
	@$(BIN)/fetch-url $(call quote,$(JGLUE_URL)/$(*D)-v1.3/$(*F)) $@

# A row of the table is a folder of results, eval/tasks/ROW/TASK.json, made by `finetune $(ROW.…)`.
LAST := $(lastword $(MODELS))
ROW.$(LAST) := $(DATA)/models/$(LAST)
ROW.random-weights := --random-weights $(DATA)/models/$(LAST)
ROW.bag-of-words := bag-of-words
$(foreach folder,$(BASELINES),$(eval ROW.$(notdir $(abspath $(folder))) := $(folder)))
ROWS := $(LAST) random-weights bag-of-words $(notdir $(abspath $(BASELINES)))
RESULTS := $(foreach row,$(ROWS),$(foreach task,$(EVAL_TASKS),$(DATA)/eval/tasks/$(row)/$(task).json))
SETTINGS.eval-tasks := TASKS SEEDS FINETUNE
$(foreach row,$(ROWS),$(eval SETTINGS.eval-row-$(row) := ROW.$(row)))
SETTINGS.eval-table := ROWS EVAL_TASKS
EVAL_ENV := $(if $(VENV),$(if $(call unless_installed,installed-eval.txt,requirements-eval.txt),$(ROOT)/.venv/installed-eval.txt))

$(RESULTS): $(DATA)/eval/tasks/%.json: $$(addsuffix /manifest.json,$$(filter $(DATA)/models/%,$$(ROW.$$(*D)))) \
    $$(wildcard $(TASKS)/$$(*F)/*.json*) $(DATA)/.stamps/eval-tasks $(DATA)/.stamps/eval-row-$$(*D) | $(VENV) $(EVAL_ENV)
	$(call say,finetune $(ROW.$(*D)) $(*F))
	@mkdir -p $(@D)
	@$(BIN)/finetune $(ROW.$(*D)) $(*F) --tasks $(TASKS) --seeds $(SEEDS) $(FINETUNE) >$@.part && mv $@.part $@
# One after another, whatever -j: each takes all cores, or the GPU.
PREVIOUS :=
$(foreach result,$(RESULTS),$(eval $(result): | $(PREVIOUS)) $(eval PREVIOUS := $(result)))

$(DATA)/eval/tasks.md: $(RESULTS) $(DATA)/.stamps/eval-table
	@$(BIN)/compare-results $(RESULTS) >$(@D)/tasks.tsv
	@$(BIN)/compare-results --markdown $(RESULTS) >$@.part && mv $@.part $@

demo-chain: $(DATA)/demo.txt
$(DATA)/demo.txt: $(MODELS:%=$(DATA)/eval/%.json) $(SAMPLE)/fill-mask.tsv $(SAMPLE)/minimal-pairs.tsv
	$(call say,compare-models: before training and after each stage$(comma) on sentences that are not in the sample)
	@$(BIN)/compare-models --before --masked $(SAMPLE)/fill-mask.tsv --pairs $(SAMPLE)/minimal-pairs.tsv \
	  $(MODELS:%=$(DATA)/models/%) >$@.part
	@cat $@.part && mv $@.part $@

# Of what is there, on one page; nothing is made for it.
.PHONY: report
report: | $(VENV) $(EVAL_ENV)
	@$(BIN)/write-report --data $(DATA) --fill-mask $(SAMPLE)/fill-mask.tsv --seed $(SEED) $(DATA)/report

verify: | $(VENV)
	@$(BIN)/verify-manifest $(DATA)

# --- cleaning: never raw/, save by clean-raw ----------------------------------------------------------------------

.PHONY: clean clean-raw clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report
clean: clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report
clean-raw:
	rm -rf $(addprefix $(DATA)/raw/,ja.txt.xz ja.txt.xz.* jawiki jawiki.part sample $(JGLUE_FILES:%=tasks/%*)) $(DATA)/.stamps/raw* $(DATA)/.stamps/sample
	@rmdir $(DATA)/raw/tasks $(DATA)/raw 2>/dev/null || true
clean-text clean-shards clean-eval clean-report: clean-%:
	rm -rf $(DATA)/$* $(DATA)/.stamps/$** $(if $(filter text,$*),$(DATA)/.stats)
clean-tokenizer:
	rm -rf $(DATA)/tokenizer $(DATA)/tokenizer.part $(DATA)/.stamps/tokenizer
clean-models:
	rm -rf $(DATA)/models $(DATA)/.stamps/model-*
clean-model-%:
	@[ -e $(DATA)/models/$* ] || [ -e $(DATA)/models/$*.part ] \
	  || { echo "make: there is no model $* in $(DATA)/models; there are: $$(ls $(DATA)/models 2>/dev/null | tr '\n' ' ')" >&2; exit 1; }
	rm -rf $(DATA)/models/$* $(DATA)/models/$*.part $(DATA)/.stamps/model-$*

endif

# --- the demo: all of the above, small ----------------------------------------------------------------------------

.PHONY: demo clean-demo
demo: | $(VENV)
	+@$(MAKE) --no-print-directory -f $(ROOT)/Makefile PROFILE=demo DATA=$(DATA)/demo demo-chain
clean-demo:
	rm -rf $(DATA)/demo

# --- tests, benchmarks, images ------------------------------------------------------------------------------------

.PHONY: help test bench bench-text bench-train lint docker-build docker-all
export HELP
help:
	@echo "$$HELP"

clean_env = cd $(ROOT) && env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u PROFILE -u DATA
test: $(ROOT)/.venv/installed-dev.txt
	@$(clean_env) $(PYTHON) -m pytest -q -n $(JOBS) --dist loadfile tests $(PYTEST_ARGS)
lint: $(ROOT)/.venv/installed-dev.txt
	@cd $(ROOT) && .venv/bin/ruff check --config configs/ruff.toml . && .venv/bin/ruff format --check --config configs/ruff.toml .

# The peers have an environment of their own.
$(ROOT)/.venv-bench/installed.txt: FORCE | $(ROOT)/.venv/installed.txt
	@cmp -s $(ROOT)/configs/requirements-bench.txt $@ \
	  || { echo "== installing the benchmarks' peers into $(@D)" >&2; python3 -m venv --clear $(@D); \
	       $(pip:$(ROOT)/.venv/%=$(@D)/%) -r $(ROOT)/configs/requirements-bench.txt; \
	       cp $(ROOT)/configs/requirements-bench.txt $@.part && mv $@.part $@; }

bench: bench-text bench-train
bench-text bench-train: bench-%: $(ROOT)/.venv-bench/installed.txt
	@$(clean_env) SUZURI_DATA=$${SUZURI_DATA:-$(ROOT)/../shared/data} $(<D)/bin/python tests/bench/bench_$*.py \
	  --out $(ROOT)/data/bench $(BENCH_ARGS)

docker-build:
	docker build -t suzuri $(ROOT)
docker-all: docker-build
	docker compose -f $(ROOT)/configs/compose.yaml run --rm all
