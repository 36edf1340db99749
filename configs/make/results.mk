# The results matrix of `make eval`: a row for the last model and per baseline, a column per task.
#
# A row is a folder of results, eval/tasks/ROW/TASK.json, made by `finetune $(ROW.…) TASK`. Without any training
# `eval-mlm $(ROW.…)` measures minimal pairs (this project's and JBLiMP's) and similarities (of JSTS).

LAST := $(lastword $(MODELS))
ROW.$(LAST) := $(DATA)/models/$(LAST)
ROW.random-weights := --random-weights $(DATA)/models/$(LAST)
ROW.bag-of-words := bag-of-words
$(foreach folder,$(BASELINES),$(eval ROW.$(notdir $(abspath $(folder))) := $(folder)))
ROWS := $(LAST) random-weights bag-of-words $(notdir $(abspath $(BASELINES)))
RESULTS := $(foreach row,$(ROWS),$(foreach task,$(EVAL_TASKS),$(DATA)/eval/tasks/$(row)/$(task).json))
ZERO_SHOT.minimal-pairs := --pairs $(SAMPLE)/minimal-pairs.tsv
ZERO_SHOT.jblimp := $(addprefix --pairs ,$(wildcard $(TASKS)/jblimp.jsonl))
ZERO_SHOT.similarity := $(addprefix --similarity ,$(lastword $(wildcard $(TASKS)/jsts/valid*.json*)))
ZERO_SHOT := $(foreach t,minimal-pairs jblimp similarity,$(if $(ZERO_SHOT.$(t)),$(t)))
MEASURES := $(foreach row,$(LAST) random-weights,$(ZERO_SHOT:%=$(DATA)/eval/tasks/$(row)/%.json))
SETTINGS.eval-tasks := TASKS SEEDS FINETUNE
$(foreach row,$(ROWS),$(eval SETTINGS.eval-row-$(row) := ROW.$(row)))
SETTINGS.eval-table := ROWS EVAL_TASKS ZERO_SHOT

$(MEASURES): $(DATA)/eval/tasks/%.json: $(DATA)/models/$(LAST)/manifest.json $$(lastword $$(ZERO_SHOT.$$(*F))) \
    $(DATA)/.stamps/eval-row-$$(*D) | $(VENV) $$(if $$(filter similarity,$$(*F)),$(EVAL_VENV))
	@mkdir -p $(@D)
	@eval-mlm --json $(ROW.$(*D)) $(ZERO_SHOT.$(*F)) >$@.part && mv $@.part $@

$(RESULTS): $(DATA)/eval/tasks/%.json: $$(addsuffix /manifest.json,$$(filter $(DATA)/models/%,$$(ROW.$$(*D)))) \
    $$(wildcard $(addprefix $(TASKS)/$$(*F)/,train.jsonl train-v*.json valid.jsonl valid-v*.json)) \
    $(DATA)/.stamps/eval-tasks $(DATA)/.stamps/eval-row-$$(*D) | $(VENV) $(EVAL_VENV)
	$(call say,finetune $(ROW.$(*D)) $(*F))
	@mkdir -p $(@D)
	@finetune $(ROW.$(*D)) $(*F) --tasks $(TASKS) --seeds $(SEEDS) $(call options,$(FINETUNE)) >$@.part && mv $@.part $@
# One after another, whatever -j: each takes all cores, or the GPU.
PREVIOUS :=
$(foreach result,$(RESULTS),$(eval $(result): | $(PREVIOUS)) $(eval PREVIOUS := $(result)))

$(DATA)/eval/tasks.md: $(MEASURES) $(RESULTS) $(DATA)/.stamps/eval-table
	@compare-results $(RESULTS) $(MEASURES) >$(@D)/tasks.tsv
	@compare-results --markdown $(RESULTS) $(MEASURES) >$@.part && mv $@.part $@
