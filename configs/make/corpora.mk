# Your own corpora: raw/NAME.txt, or raw/NAME.txt.xz, .gz, .bz2, .zst, or a folder of files raw/NAME/, each a dataset
# NAME.

RAW_FILES := $(wildcard $(addprefix $(DATA)/raw/*.txt,.bz2 .gz .xz .zst) $(DATA)/raw/*.txt)
RAW_FILES := $(filter-out $(DATA)/raw/ja.txt.xz,$(RAW_FILES))
own_name = $(patsubst %.txt,%,$(firstword $(filter %.txt,$(notdir $(1)) $(basename $(notdir $(1))))))
own_files = $(strip $(foreach file,$(FIT_FILES),$(if $(call same,$(1),$(call own_name,$(file))),$(file))) \
  $(if $(filter $(1),$(FOLDERS)),$(DATA)/raw/$(1)))

# list-inputs prints the files of the folders, SUM.NAME:=…, which changes with their names and sizes, CHANGED+=NAME/FILE
# for files whose size has changed since they were mapped, and REFUSED_FOLDERS+=NAME.
CHANGED :=
REFUSED_FOLDERS :=
UNFIT_FOLDERS :=
list_inputs = PYTHONUTF8=1 $(firstword $(wildcard $(PYTHON)) python3) $(BIN)/list-inputs $(DATA)/raw
LISTED := $(if $(filter-out $(patsubst %,$(DATA)/raw/%/.,jawiki sample tasks),$(wildcard $(DATA)/raw/*/.)),\
  $(shell $(list_inputs) --maps $(DATA)/pieces/maps 2>/dev/null))
INPUT_FILES := $(filter $(DATA)/raw/%,$(LISTED))
$(foreach assignment,$(filter-out $(DATA)/raw/%,$(LISTED)),$(eval $(assignment)))
FOLDERS := $(patsubst $(DATA)/raw/%/,%,$(sort $(dir $(INPUT_FILES))))

# These are not datasets: files with names that make cannot carry (a name with blanks comes as several words) or that
# are not UTF-8, names of the downloads, and names that two files have. They stop only those goals that would use them
# (stages.mk).
NOT_UTF8 := $(if $(RAW_FILES),$(shell printf '%s\n' $(call options,$(RAW_FILES)) | LC_ALL=C.UTF-8 grep -axv '.*'))
odd = $(filter $(NOT_UTF8),$(1))$(findstring $(comma),$(1))$(findstring @,$(1))$(call unfit,$(1))
fit = $(and $(filter $(DATA)/raw/%,$(1)),$(wildcard $(1)),$(if $(call odd,$(1)),,fit))
FIT_FILES := $(foreach file,$(RAW_FILES),$(if $(call fit,$(file)),$(file)))
UNFIT_FILES := $(filter-out $(FIT_FILES),$(RAW_FILES))
NAMES := $(sort $(foreach file,$(FIT_FILES),$(call own_name,$(file))) $(FOLDERS) $(REFUSED_FOLDERS))
TAKEN := $(filter ja jawiki cc100-ja %.part,$(NAMES))
TWICE := $(foreach name,$(NAMES),$(if $(word 2,$(call own_files,$(name))),$(name)))
REFUSED := $(sort $(TAKEN) $(TWICE) $(REFUSED_FOLDERS))
why_refused = $(if $(filter $(1),$(REFUSED_FOLDERS)),$(shell $(list_inputs) $(1) 2>&1 >/dev/null),$(call why,$(1)))
why = $(call own_files,$(1)): $(strip $(if $(filter $(1),$(TAKEN)),\
  the name $(1) is not for a corpus of your own$(comma) rename the file,both are the dataset $(1)$(comma) remove one))

OWN := $(filter-out $(REFUSED),$(NAMES))
OWN_FOLDERS := $(filter $(FOLDERS),$(OWN))
$(foreach name,$(OWN),$(eval RAW.$(name) := $(call own_files,$(name))) $(eval INPUTS.$(name) = $$(RAW.$(name))) \
  $(eval FILES.$(name) = $$(NUM_FILES)) $(eval SETTINGS.text-$(name) = $$(SETTINGS.text) SUM.$(name)))
$(foreach name,$(filter-out $(FOLDERS),$(OWN)),$(eval SUM.$(name) := $(shell stat -Lc %s $(RAW.$(name)))))
$(foreach name,$(OWN_FOLDERS),$(eval INPUTS.$(name) := $(filter $(DATA)/raw/$(name)/%,$(INPUT_FILES))) \
  $(eval SETTINGS.text-$(name) = $$(SETTINGS.text) TEXT_FIELD SUM.$(name)))
