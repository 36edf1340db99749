# The shell of all recipes, and the functions that recipes call.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += -r
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
export LC_ALL := C.UTF-8
# Recipes name the tools as one would type them.
export PATH := $(BIN):$(PATH)

comma := ,
quote = '$(subst ','\'',$(1))'
# $(call options,WORDS,--flag): every word quoted, each after the flag if there is one.
options = $(foreach word,$(1),$(2) $(call quote,$(word)))
# Without white space at the ends: GNU Make 4.3 sometimes leaves the last newline of what $(file <NAME) reads.
same = $(call equal,x$(strip $(1))x,x$(strip $(2))x)
equal = $(and $(findstring $(1),$(2)),$(findstring $(2),$(1)))
# A URL without user:password@, to be shown or kept.
hide = $(if $(and $(findstring ://,$(1)),$(findstring @,$(1))),$(shell \
  printf %s $(call quote,$(1)) | sed "s,//[^/]*@,//,"),$(1))
KNOWN_TASKS := jsts jnli jsick jsquad jcommonsenseqa ner
# $(call split,TASK,train|valid): the files of a task, JGLUE's or JSON lines; fetch-url's record, FILE.json, is not one.
split = $(wildcard $(addprefix $(TASKS)/$(1)/$(2),.jsonl -v*[0-9].json))
say = @echo $(call quote,== $(1)) >&2
disk = @check-disk --for $(1)
# $(call limit,--flag,AMOUNT): nothing for 0, which means "all there is".
limit = $(if $(filter-out 0,$(2)),$(1) $(2))

# $(launched)TOOL … $(attempt) $(arrived): a tool that makes $@, sent by $(LAUNCH) to a machine that sees DATA and ROOT
# by the same names; only files carry data. What comes of a machine that was given up, and writes on, has a name that no
# other attempt uses: a process id would not do, because it comes again in a container or after a restart.
launched = $(if $(LAUNCH),</dev/null $(call options,$(LAUNCH)) $(BIN)/)
attempt = $(if $(LAUNCH),$@.$(STARTED).part,$@)
arrived = $(if $(LAUNCH),&& mv $(attempt) $@)
STARTED := $(shell date +%s%N)

# The end of a pipe whose last program may stop reading when it has enough. The programs before it are then ended by
# SIGPIPE (status 141), which is not an error.
FULL := || for status in "$${PIPESTATUS[@]}"; do [ $$status = 0 ] || [ $$status = 141 ] || exit $$status; done

.PHONY: FORCE
FORCE:
