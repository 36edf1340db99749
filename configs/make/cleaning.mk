# Cleaning. Only clean-raw removes anything from raw/, and only what was downloaded.

.PHONY: clean clean-raw clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report
clean: clean-text clean-tokenizer clean-shards clean-models clean-eval clean-report clean-demo
clean-raw:
	rm -rf $(addprefix $(DATA)/raw/,ja.txt.xz ja.txt.xz.* jawiki jawiki.part sample $(JGLUE_FILES:%=tasks/%*)) \
	  $(DATA)/.stamps/raw* $(DATA)/.stamps/sample
	@rmdir $(DATA)/raw/tasks $(DATA)/raw 2>/dev/null || true
clean-text clean-shards clean-eval clean-report: clean-%:
	rm -rf $(DATA)/$* $(DATA)/.stamps/$** $(if $(filter text,$*),$(DATA)/.stats)
clean-tokenizer:
	rm -rf $(DATA)/tokenizer $(DATA)/tokenizer.part $(DATA)/.stamps/tokenizer
clean-models:
	rm -rf $(DATA)/models $(DATA)/.stamps/model-*
clean-model-%:
	@[ -e $(DATA)/models/$* ] || [ -e $(DATA)/models/$*.part ] \
	  || { echo "make: no model $* in $(DATA)/models; there are: $$(ls $(DATA)/models 2>/dev/null | tr '\n' ' ')" >&2; \
	       exit 1; }
	rm -rf $(DATA)/models/$* $(DATA)/models/$*.part $(DATA)/.stamps/model-$*
