# Cleaning: what the tools made is removed, and nothing else. Only clean-raw removes anything from raw/.

.PHONY: clean clean-raw clean-data clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report
clean: clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report clean-demo
# $(call forget,NAME): nor are the checksums of its manifests kept.
forget = @[ ! -e $(DATA)/.manifests.sha256 ] || sed -i '\|^.\{64\}  $(1)/|d' $(DATA)/.manifests.sha256
DOWNLOADS = ja.txt.xz tasks/jblimp.jsonl $(JGLUE_FILES:%=tasks/%)
clean-raw:
	@remove-made $(addprefix $(DATA)/raw/,$(DOWNLOADS) jawiki sample)
	rm -rf $(DATA)/.stamps/raw* $(DATA)/.stamps/sample
	$(call forget,raw)
	@rmdir $(addprefix $(DATA)/raw/tasks/,jsts jnli jsquad jcommonsenseqa .) $(DATA)/raw 2>/dev/null || true
# Shards get their names one by one, in a folder that has its own already, and its manifest last.
SHARD := [.]?(train-[0-9]{3}|valid)[.]safetensors([.].*part)?
remove_unfinished = @for folder in $(DATA)/shards/*/; do \
    [ ! -r "$$folder" ] || ls -A "$$folder" | grep -qvxE '$(SHARD)' \
      || { find "$$folder" -type f -delete; rmdir "$$folder" 2>/dev/null || true; }; done
clean-text clean-shards clean-models: clean-%:
	$(if $(filter shards,$*),$(remove_unfinished))
	@remove-made $(addprefix $(DATA)/$*/,* .*.part)
	@rmdir $(DATA)/$* 2>/dev/null || true
	rm -rf $(addprefix $(DATA)/.stamps/,$** pushed/$* $(if $(filter models,$*),model-*)) \
	  $(if $(filter text,$*),$(DATA)/.stats $(addprefix $(DATA)/pieces/,maps ranges) $(DATA)/.stamps/maps)
	@rmdir $(DATA)/pieces 2>/dev/null || true
	$(call forget,$*)
clean-tokenizer clean-report: clean-%:
	@remove-made $(DATA)/$*
	rm -rf $(addprefix $(DATA)/.stamps/,$** pushed/$*) $(if $(filter tokenizer,$*),$(DATA)/pieces/counts)
	@rmdir $(DATA)/pieces 2>/dev/null || true
	$(call forget,$*)
TABLES = $(foreach table,tasks.md tasks.tsv curve.md curve.tsv,$(table) $(table).part)
clean-eval:
	@{ grep -lsZ '^{"loss": ' $(DATA)/eval/*.json $(DATA)/eval/*.json.part || true; } | xargs -0 rm -f
	rm -f $(addprefix $(DATA)/eval/,$(TABLES) tasks/*/*.json tasks/*/*.json.part) $(DATA)/demo.txt $(DATA)/demo.txt.part
	@rmdir $(DATA)/eval/tasks/* $(DATA)/eval/tasks $(DATA)/eval 2>/dev/null || true
	rm -rf $(DATA)/.stamps/eval* $(DATA)/.stamps/pushed/eval
	$(call forget,eval)
clean-model-%:
	@[ -e $(DATA)/models/$* ] || [ -e $(DATA)/models/$*.part ] \
	  || { echo "make: no model $* in $(DATA)/models; there are: $$(ls $(DATA)/models 2>/dev/null | tr '\n' ' ')" >&2; \
	       exit 1; }
	@remove-made $(DATA)/models/$*
	rm -rf $(DATA)/.stamps/model-$*
	$(call forget,models/$*)
# All that is made in DATA, and DATA itself if it holds nothing else: for the demo.
clean-data: clean clean-raw
	rm -rf $(addprefix $(DATA)/,.stamps .manifests.sha256 .lock)
	@rmdir $(DATA) 2>/dev/null || echo "make: $(DATA) stays: it holds other files" >&2
