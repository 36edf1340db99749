# Cleaning: what the tools made is removed, and nothing else. Only clean-raw removes anything from raw/.

.PHONY: clean clean-raw clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report
clean: clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report clean-demo
# $(call forget,NAME): nor are the checksums of its manifests kept.
forget = @[ ! -e $(DATA)/.manifests.sha256 ] || sed -i '\|^.\{64\}  $(1)/|d' $(DATA)/.manifests.sha256
# $(call remove,PATHS): those of them (globs) that a tool made. A finished folder has a manifest, an unfinished one ends
# in .part.
remove = @for path in $(1); do \
    if [ -e "$$path/manifest.json" ] || { [ -e "$$path" ] && [ "$${path%.part}" != "$$path" ]; }; then \
      echo "rm -rf $$path" && rm -rf "$$path" || exit; \
    elif [ -e "$$path" ]; then echo "make: $$path stays: no tool of suzuri made it (it has no manifest.json)" >&2; fi; \
  done
DOWNLOADS = ja.txt.xz tasks/jblimp.jsonl $(JGLUE_FILES:%=tasks/%)
clean-raw:
	rm -rf $(foreach file,$(DOWNLOADS),$(if $(wildcard $(DATA)/raw/$(file).json),\
	    $(DATA)/raw/$(file))) \
	  $(foreach file,$(DOWNLOADS),$(addprefix $(DATA)/raw/$(file).,json part part.json)) \
	  $(DATA)/.stamps/raw* $(DATA)/.stamps/sample
	$(call remove,$(addprefix $(DATA)/raw/,jawiki jawiki.part jawiki.old.part sample))
	$(call forget,raw)
	@rmdir $(addprefix $(DATA)/raw/tasks/,jsts jnli jsquad jcommonsenseqa .) $(DATA)/raw 2>/dev/null || true
clean-text clean-shards clean-models: clean-%:
	$(call remove,$(DATA)/$*/*)
	@rmdir $(DATA)/$* 2>/dev/null || true
	rm -rf $(addprefix $(DATA)/.stamps/,$** pushed/$* $(if $(filter models,$*),model-*)) \
	  $(if $(filter text,$*),$(DATA)/.stats $(DATA)/pieces $(DATA)/.stamps/maps)
	$(call forget,$*)
clean-tokenizer clean-report: clean-%:
	$(call remove,$(DATA)/$* $(addprefix $(DATA)/$*,.part .old.part))
	rm -rf $(addprefix $(DATA)/.stamps/,$** pushed/$*) $(if $(filter tokenizer,$*),$(DATA)/pieces/counts)
	$(call forget,$*)
clean-eval:
	rm -rf $(DATA)/eval $(DATA)/.stamps/eval* $(DATA)/.stamps/pushed/eval
	$(call forget,eval)
clean-model-%:
	@[ -e $(DATA)/models/$* ] || [ -e $(DATA)/models/$*.part ] \
	  || { echo "make: no model $* in $(DATA)/models; there are: $$(ls $(DATA)/models 2>/dev/null | tr '\n' ' ')" >&2; \
	       exit 1; }
	$(call remove,$(DATA)/models/$* $(addprefix $(DATA)/models/$*,.part .old.part .checkpoint.part))
	rm -rf $(DATA)/.stamps/model-$*
	$(call forget,models/$*)
