# The results matrix of `make eval`: a row for the last model and per baseline, a column per task.
#
# A row is a folder of results, eval/tasks/ROW/TASK.json, made by `finetune $(ROW.…) TASK`. Without any training
# `eval-mlm $(ROW.…)` measures minimal pairs (this project's and JBLiMP's) and similarities (of JSTS).

LAST := $(lastword $(MODELS))
ROW.$(LAST) := $(DATA)/models/$(LAST)
ROW.random-weights := --random-weights $(DATA)/models/$(LAST)
ROW.bag-of-words := bag-of-words
NAMES := $(notdir $(abspath $(BASELINES)))
$(foreach task,$(filter-out $(KNOWN_TASKS),$(EVAL_TASKS)),\
  $(error EVAL_TASKS: $(task): not one of $(KNOWN_TASKS)))
$(foreach folder,$(BASELINES),$(if $(wildcard $(folder)/config.json),,\
  $(error BASELINES: $(folder): not a model folder (it has no config.json))))
$(if $(filter-out $(words $(sort $(NAMES))),$(words $(NAMES))),\
  $(error BASELINES: two folders of one name; the table tells rows apart by it: $(BASELINES)))
$(foreach name,$(filter $(MODELS) $(OWN_MODELS) random-weights bag-of-words,$(NAMES)),\
  $(error BASELINES: $(name): a row of the table has this name already; rename the folder))
$(foreach folder,$(BASELINES),$(eval ROW.$(notdir $(abspath $(folder))) := $(folder)))
ROWS := $(LAST) random-weights bag-of-words $(NAMES)
RESULTS := $(foreach row,$(ROWS),$(foreach task,$(EVAL_TASKS),$(DATA)/eval/tasks/$(row)/$(task).json))
newest = $(if $(word 2,$(1)),$(shell printf '%s\n' $(1) | sort -V | tail -n 1),$(1))
ZERO_SHOT.minimal-pairs := --pairs $(SAMPLE)/minimal-pairs.tsv
ZERO_SHOT.jblimp := $(addprefix --pairs ,$(wildcard $(TASKS)/jblimp.jsonl))
ZERO_SHOT.similarity := $(addprefix --similarity ,$(call newest,$(call split,jsts,valid)))
ZERO_SHOT := $(foreach t,minimal-pairs jblimp similarity,$(if $(ZERO_SHOT.$(t)),$(t)))
MEASURES := $(foreach row,$(LAST) random-weights,$(ZERO_SHOT:%=$(DATA)/eval/tasks/$(row)/%.json))
# For `make curve`, a row per snapshot, MODEL@TOKENS, and after a model's own snapshots the model, if it is finished.
SNAPSHOTS := $(sort $(wildcard $(DATA)/models/*/snapshots/*[0-9]))
# Those of a run that is not finished are in MODEL.part, and stay the same when it gets its name.
snapshot_row = $(subst .part@,@,$(subst /snapshots/,@,$(1:$(DATA)/models/%=%)))
UNFINISHED := $(foreach folder,$(SNAPSHOTS),$(if $(findstring .part/,$(folder)),$(folder)))
$(foreach folder,$(UNFINISHED) $(filter-out $(UNFINISHED),$(SNAPSHOTS)),\
  $(eval ROW.$(call snapshot_row,$(folder)) := $(folder)))
EARLY := $(sort $(foreach folder,$(SNAPSHOTS),$(call snapshot_row,$(folder))))
FINISHED := $(foreach m,$(MODELS) $(OWN_MODELS),$(if $(wildcard $(DATA)/models/$(m)/manifest.json),$(m)))
$(foreach m,$(FINISHED),$(eval ROW.$(m) := $(DATA)/models/$(m)))
CURVE := $(foreach m,$(MODELS) $(OWN_MODELS),$(filter $(m)@%,$(EARLY)) $(filter $(m),$(FINISHED)))
CURVE += $(filter-out $(patsubst %,%@%,$(MODELS) $(OWN_MODELS)),$(EARLY))
CURVE_RESULTS := $(foreach row,$(CURVE),$(EVAL_TASKS:%=$(DATA)/eval/tasks/$(row)/%.json))
CURVE_MEASURES := $(foreach row,$(CURVE),$(ZERO_SHOT:%=$(DATA)/eval/tasks/$(row)/%.json))
# The files that are new when the model of a row is: $(call made,--random-weights models/NAME).
ours = $(filter $(SNAPSHOTS) $(patsubst %,$(DATA)/models/%,$(MODELS) $(OWN_MODELS)),$(1))
made = $(foreach folder,$(call ours,$(1)),\
  $(folder)/$(if $(filter $(SNAPSHOTS),$(folder)),config,manifest).json) \
  $(foreach folder,$(filter $(BASELINES),$(1)),$(wildcard $(folder)/config.json $(folder)/*.safetensors))
$(foreach t,$(ZERO_SHOT),$(eval SETTINGS.eval-zero-shot-$(t) := ZERO_SHOT.$(t)))
SETTINGS.eval-tasks := TASKS SEEDS FINETUNE
$(foreach row,$(sort $(ROWS) $(CURVE)),$(eval SETTINGS.eval-row-$(row) := ROW.$(row)))
$(foreach row,$(EARLY),$(eval NAMED.$(row) := $(subst .part/,/,$(ROW.$(row)))) \
  $(eval SETTINGS.eval-row-$(row) := NAMED.$(row)))
SETTINGS.eval-table := ROWS EVAL_TASKS ZERO_SHOT
SETTINGS.eval-curve := CURVE EVAL_TASKS ZERO_SHOT

$(sort $(MEASURES) $(CURVE_MEASURES)): $(DATA)/eval/tasks/%.json: $$(call made,$$(ROW.$$(*D))) \
    $$(lastword $$(ZERO_SHOT.$$(*F))) $(DATA)/.stamps/eval-row-$$(*D) $(DATA)/.stamps/eval-zero-shot-$$(*F) \
    | $(VENV) $$(if $$(filter similarity,$$(*F)),$(EVAL_VENV))
	@mkdir -p $(@D)
	@eval-mlm --json $(ROW.$(*D)) $(ZERO_SHOT.$(*F)) >$@.part && mv $@.part $@

$(sort $(RESULTS) $(CURVE_RESULTS)): $(DATA)/eval/tasks/%.json: $$(call made,$$(ROW.$$(*D))) \
    $$(foreach s,train valid,$$(call split,$$(*F),$$(s))) \
    $(DATA)/.stamps/eval-tasks $(DATA)/.stamps/eval-row-$$(*D) | $(VENV) $(EVAL_VENV)
	$(call say,finetune $(ROW.$(*D)) $(*F))
	@mkdir -p $(@D)
	@finetune $(ROW.$(*D)) $(*F) --tasks $(TASKS) --seeds $(SEEDS) $(call options,$(FINETUNE)) >$@.part && mv $@.part $@
# One after another, whatever -j: each takes all cores, or the GPU. `make curve` alone needs no other row than its own.
IN_TURN := $(if $(filter curve,$(GOALS)),$(CURVE_RESULTS),$(RESULTS))
PREVIOUS :=
$(foreach result,$(IN_TURN) $(filter-out $(IN_TURN),$(RESULTS) $(CURVE_RESULTS)),\
  $(eval $(result): | $(PREVIOUS)) $(eval PREVIOUS := $(result)))

TABLE.tasks := $(RESULTS) $(MEASURES)
TABLE.curve := $(CURVE_RESULTS) $(CURVE_MEASURES)
$(DATA)/eval/tasks.md: $(TABLE.tasks) $(DATA)/.stamps/eval-table
$(DATA)/eval/curve.md: $(TABLE.curve) $(DATA)/.stamps/eval-curve
$(DATA)/eval/tasks.md $(DATA)/eval/curve.md: $(DATA)/eval/%.md:
	@compare-results $(TABLE.$*) >$(@:.md=.tsv).part && mv $(@:.md=.tsv).part $(@:.md=.tsv)
	@compare-results --markdown $(TABLE.$*) >$@.part && mv $@.part $@
