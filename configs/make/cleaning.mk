# Cleaning. Only clean-raw removes anything from raw/, and only what was downloaded.

.PHONY: clean clean-raw clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report
clean: clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report clean-demo
# $(call forget,NAME): nor are the checksums of its manifests kept.
forget = @[ ! -e $(DATA)/.manifests.sha256 ] || sed -i '\|^.\{64\}  $(1)/|d' $(DATA)/.manifests.sha256
DOWNLOADS = ja.txt.xz tasks/jblimp.jsonl $(JGLUE_FILES:%=tasks/%)
clean-raw:
	rm -rf $(foreach file,$(DOWNLOADS),$(if $(wildcard $(DATA)/raw/$(file).json),\
	    $(DATA)/raw/$(file))) \
	  $(foreach file,$(DOWNLOADS),$(addprefix $(DATA)/raw/$(file).,json part part.json)) \
	  $(addprefix $(DATA)/raw/,jawiki jawiki.part jawiki.old.part sample) \
	  $(DATA)/.stamps/raw* $(DATA)/.stamps/sample
	$(call forget,raw)
	@rmdir $(addprefix $(DATA)/raw/tasks/,jsts jnli jsquad jcommonsenseqa .) $(DATA)/raw 2>/dev/null || true
clean-text clean-shards clean-eval clean-report: clean-%:
	rm -rf $(DATA)/$* $(addprefix $(DATA)/.stamps/,$** pushed/$*) \
	  $(if $(filter text,$*),$(DATA)/.stats $(DATA)/pieces $(DATA)/.stamps/maps) \
	  $(if $(filter report,$*),$(DATA)/report.part $(DATA)/report.old.part)
	$(call forget,$*)
clean-tokenizer:
	rm -rf $(DATA)/tokenizer $(DATA)/tokenizer.part $(DATA)/tokenizer.old.part \
	  $(DATA)/pieces/counts $(addprefix $(DATA)/.stamps/,tokenizer pushed/tokenizer)
	$(call forget,tokenizer)
clean-models:
	rm -rf $(DATA)/models $(addprefix $(DATA)/.stamps/,model-* pushed/models)
	$(call forget,models)
clean-model-%:
	@[ -e $(DATA)/models/$* ] || [ -e $(DATA)/models/$*.part ] \
	  || { echo "make: no model $* in $(DATA)/models; there are: $$(ls $(DATA)/models 2>/dev/null | tr '\n' ' ')" >&2; \
	       exit 1; }
	rm -rf $(DATA)/models/$* $(addprefix $(DATA)/models/$*.,part old.part checkpoint.part) $(DATA)/.stamps/model-$*
	$(call forget,models/$*)
