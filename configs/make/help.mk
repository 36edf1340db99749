# The help texts.

define HELP
suzuri: raw Japanese text in, a Hugging Face masked language model out

  make demo                     the whole chain on the embedded sample: minutes on a CPU
  make all                      the whole chain with PROFILE=$(PROFILE) (profiles: $(PROFILES))

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
  make download-jblimp          raw/tasks/jblimp.jsonl: 331 minimal pairs, for eval
  make eval                     the models' loss and perplexity; the last one on all tasks, beside baselines
  make curve                    the tasks, for each model and its snapshots (snapshot_tokens in a recipe)
  make report                   report/index.html and report.md: all results on one page

a corpus of your own, raw/NAME.txt[.xz|.gz|.bz2|.zst] or a folder raw/NAME/ of .txt, .jsonl (.ndjson) and .parquet files
(found: $(or $(OWN),none)):
  make build-dataset-NAME shards-NAME train-model-NAME

  make verify                   every file checked against its manifest
  make test | bench | lint      the tests; speed compared with other programs (bench-text, bench-train); ruff
  make help-variables           all variables and their values
  make help-tiny-plm            what the variables and settings of tiny-plm are called here
  make docker-build docker-all  the image; the whole chain in it
  make test-container           the image, the demo and every service in it, tested with docker or podman
  make clean-text clean-tokenizer clean-shards clean-models clean-model-MODEL clean-eval clean-report clean-demo
  make clean                    all of these; raw/ stays
  make clean-raw                what was downloaded; your own raw/NAME.txt stays

DATA=$(DATA) JOBS=$(JOBS) SEED=$(SEED). All variables: make help-variables. Dry run: make -n all
endef
export HELP

.PHONY: help help-variables help-tiny-plm
help:
	@echo "$$HELP"

# The Makefile's variables, with their comments and their present values.
help-variables:
	@env $(foreach v,$(VARIABLES),$(v)=$(call quote,$(subst $(newline), ,$($(v))))) awk ' \
	  /^PROFILE/ { on = 1 } \
	  on && /^include.*MACHINERY/ { exit } \
	  on && /^# / { print substr($$0, 3) } \
	  on && /^$$/ { print } \
	  on && /^[A-Z0-9_]+ \?=/ { \
	    about = $$0; sub(/^[^#]*#* */, "", about); printf "  %-44s %s\n", $$1 "=" ENVIRON[$$1], about }' \
	  $(ROOT)/Makefile | sed 's/ *$$//' | cat -s
help-tiny-plm:
	@cat $(ROOT)/configs/tiny-plm.md
