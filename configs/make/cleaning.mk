# Cleaning: what the tools made is removed, and nothing else. Only clean-raw removes anything from raw/.

.PHONY: clean clean-raw clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report
clean: clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report clean-demo
# $(call forget,NAME): nor are the checksums of its manifests kept.
forget = @[ ! -e $(DATA)/.manifests.sha256 ] || sed -i '\|^.\{64\}  $(1)/|d' $(DATA)/.manifests.sha256
DOWNLOADS = ja.txt.xz tasks/jblimp.jsonl $(JGLUE_FILES:%=tasks/%)
clean-raw:
	@remove-made $(addprefix $(DATA)/raw/,$(DOWNLOADS) jawiki sample)
	rm -rf $(DATA)/.stamps/raw* $(DATA)/.stamps/sample
	$(call forget,raw)
	@rmdir $(addprefix $(DATA)/raw/tasks/,jsts jnli jsquad jcommonsenseqa .) $(DATA)/raw 2>/dev/null || true
# Shards get their names one by one, in a folder that has its own already.
SHARD_FILES = $(foreach name,train-[0-9][0-9][0-9] valid,$(addprefix $(DATA)/shards/*/,\
  $(name).safetensors $(name).safetensors.*part .$(name).safetensors.*part))
clean-text clean-shards clean-models: clean-%:
	$(if $(filter shards,$*),@rm -f $(SHARD_FILES))
	@remove-made $(DATA)/$*/*
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
EVALUATED = *.json *.json.part tasks.md tasks.md.part tasks.tsv curve.md curve.md.part curve.tsv tasks/*/*.json \
  tasks/*/*.json.part
clean-eval:
	rm -f $(addprefix $(DATA)/eval/,$(EVALUATED)) $(DATA)/demo.txt
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
