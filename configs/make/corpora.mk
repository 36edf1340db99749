# Your own corpora: raw/NAME.txt, or raw/NAME.txt.xz, .gz, .bz2, .zst, each a dataset NAME.

OWN_FILES := $(wildcard $(addprefix $(DATA)/raw/*.txt,.bz2 .gz .xz .zst) $(DATA)/raw/*.txt)
OWN_FILES := $(filter-out %/ja.txt.xz,$(OWN_FILES))
own_name = $(firstword $(subst .txt, ,$(notdir $(1))))
OWN := $(sort $(foreach file,$(OWN_FILES),$(call own_name,$(file))))
$(foreach file,$(OWN_FILES),$(eval RAW.$(call own_name,$(file)) := $(file)))
$(foreach name,$(OWN),$(eval FILES.$(name) = $$(NUM_FILES)) $(eval SETTINGS.text-$(name) = $$(SETTINGS.text)))
