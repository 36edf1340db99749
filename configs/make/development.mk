# Tests, benchmarks and images.

.PHONY: test test-slow test-faults bench bench-text bench-train bench-scale lint docker-build docker-all \
  test-container test-cluster

clean_env = cd $(ROOT) && env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u PROFILE -u DATA
# A process more than cores: tests wait for other processes much of the time.
pytest = $(PYTHON) -m pytest -q -n $$(($(JOBS) + 1)) --dist loadfile --no-loadscope-reorder tests
test: $(ROOT)/.venv/installed-dev.txt
	@$(clean_env) $(pytest) $(PYTEST_ARGS)
# What takes longest, which make test leaves out.
test-slow: $(ROOT)/.venv/installed-dev.txt
	@$(clean_env) SUZURI_SLOW=1 $(pytest) -m slow $(PYTEST_ARGS)
# Every fault, with a table at the end; make test injects those that are fast.
test-faults: $(ROOT)/.venv/installed-dev.txt
	@$(clean_env) FAULTS=all $(PYTHON) -m pytest -q -n $(JOBS) --dist worksteal tests/faults $(PYTEST_ARGS)
# On a Slurm of two nodes, both on this machine, and on two torchruns; it needs root and packages (tests/cluster.py).
test-cluster: $(ROOT)/.venv/installed-dev.txt
	@$(clean_env) $(PYTHON) -m pytest -q -rs --durations=0 tests/cluster.py $(PYTEST_ARGS)
lint: $(ROOT)/.venv/installed-dev.txt
	@cd $(ROOT) && .venv/bin/ruff check --config configs/ruff.toml .
	@cd $(ROOT) && .venv/bin/ruff format --check --config configs/ruff.toml .

# The programs that the benchmarks compare with are in an environment of their own.
$(ROOT)/.venv-bench/installed.txt: FORCE | $(ROOT)/.venv/installed.txt
	@cmp -s $(ROOT)/configs/requirements-bench.txt $@ \
	  || { echo "== installing the packages of configs/requirements-bench.txt into $(@D)" >&2; \
	       python3 -m venv --clear $(@D); \
	       $(pip:$(ROOT)/.venv/%=$(@D)/%) -r $(ROOT)/configs/requirements-bench.txt; \
	       cp $(ROOT)/configs/requirements-bench.txt $@.part && mv $@.part $@; }

bench: bench-text bench-train
bench-text bench-train: bench-%: $(ROOT)/.venv-bench/installed.txt
	@$(clean_env) SUZURI_DATA=$${SUZURI_DATA:-$(ROOT)/../shared/data} $(<D)/bin/python tests/bench/bench_$*.py \
	  --out $(ROOT)/data/bench $(BENCH_ARGS)

# The laws by which the cost of a corpus of many files grows.
bench-scale: | $(VENV)
	@$(clean_env) $(PYTHON) tests/bench/scale.py $${SUZURI_DATA:-$(ROOT)/../shared/data}/cc100/ja.txt.xz \
	  --work $(ROOT)/data --json $(ROOT)/data/bench/scale.json $(BENCH_ARGS)

docker-build:
	docker build -t suzuri --build-arg PIP_ARGS=$(call quote,$(PIP_ARGS)) $(ROOT)
# In the container a variable has the value that it has here, if it was given; DATA is the folder /suzuri/data there.
docker-all: docker-build
	@$(foreach v,$(filter-out DATA SAMPLE,$(GIVEN)),$(v)=$(call quote,$($(v)))) \
	  $(if $(filter DATA,$(GIVEN)),DATA_PATH=$(call quote,$(DATA))) \
	  docker compose -f $(ROOT)/configs/compose.yaml run --rm all
# The same for real, with docker or podman: the image, the demo and each service in it, without a network.
test-container:
	@$(clean_env) python3 tests/container
