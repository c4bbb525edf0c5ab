# vidgate: everything a developer runs. `make help` lists it.
# Each target works on a fresh machine that has Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
GPU := .venv-gpu
GPU_STAMP := $(GPU)/.installed
IMAGE ?=
SIM ?=
CACHE ?=
GPU_BENCH ?=
CALLS ?= 20000
SEEDS ?= 1-10000
SECONDS ?= 60
READERS ?= headers intake inspect inline configuration retry-after body multipart url
BENCH ?= overhead admission transport throughput inflight wakeups tracing media slow_clients

.PHONY: help install demo test test-gpu explore fuzz fuzz-atheris tenants stack promises month soak check lint types format lock bench bench-gpu routing mutants hostile kills footprint audit clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# The lock file pins every package with its hashes; the project itself is then added without resolving anything.
$(STAMP): requirements.lock pyproject.toml
	@echo "Installing into $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

install: $(STAMP) ## make .venv from the lock file

demo: $(STAMP) ## one picture to one finished, billed video on simulated vendors (IMAGE=photo.jpg for your own)
	@$(BIN)/vidgate demo $(if $(IMAGE),"$(IMAGE)")

test: $(STAMP) ## the whole suite
	@$(BIN)/python -m pytest -n auto --dist worksteal

# Everything but PyTorch comes by hash. Of PyTorch one version comes in several builds, each with a hash of its own: where
# pip is offered the CPU build it takes that, elsewhere the one for CUDA, which runs on a CPU too but is some GB.
$(GPU_STAMP): requirements.gpu.lock requirements.torch.txt pyproject.toml
	@echo "Installing PyTorch, diffusers and Ray into $(GPU) (once) ..."
	@test -x $(GPU)/bin/python || $(PYTHON) -m venv $(GPU)
	@$(GPU)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements.gpu.lock
	@$(GPU)/bin/python -m pip install -qq --disable-pip-version-check -r requirements.torch.txt
	@$(GPU)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(GPU_STAMP)

test-gpu: $(GPU_STAMP) ## the real diffusers pipelines with tiny random models on the CPU, and Ray replicas
	@$(GPU)/bin/python -m pytest --confcutdir tests/gpu tests/gpu

explore: $(STAMP) ## the property tests and state machines on examples that were never tried
	@VIDGATE_EXPLORE=1 $(BIN)/python -m pytest -q -n auto --dist worksteal tests/unit tests/stateful

fuzz: $(STAMP) ## Schemathesis over the whole description of the API, against a real gateway (CALLS=20000)
	@nice -n 10 $(BIN)/python -m tests.fuzz.description --calls $(CALLS)

# Each reader for so long; what is learnt is kept in var/fuzz, and the status is that of the first that finds something.
fuzz-atheris: ## coverage-guided fuzzing of what reads strangers' bytes (SECONDS=60 each, READERS="headers body")
	@$(VENV)-fuzz/bin/python -c "import atheris" 2>/dev/null || { $(PYTHON) -m venv $(VENV)-fuzz && $(VENV)-fuzz/bin/pip install -qq \
		--require-hashes -r requirements.runtime.lock -r requirements.fuzz.lock; }
	@mkdir -p var/fuzz; status=0; for name in $(READERS); do echo "$$name, $(SECONDS) s"; \
		nice -n 10 $(VENV)-fuzz/bin/python -m tests.fuzz $$name --seconds $(SECONDS) >var/fuzz/$$name.log 2>&1 \
		|| { status=1; grep -B 30 SUMMARY var/fuzz/$$name.log; }; grep ^stat:: var/fuzz/$$name.log; done; exit $$status

tenants: $(STAMP) ## two teams against each other: 10,000 calls (VIDGATE_FUZZ_CALLS), and nothing of one's told to the other
	@VIDGATE_FUZZ_CALLS=$${VIDGATE_FUZZ_CALLS:-10000} nice -n 10 $(BIN)/python -m pytest -q -s tests/api/test_two_teams.py -k neither

stack: $(STAMP) ## two replicas, PostgreSQL, Redis and simulated vendors on this machine behind one port
	@$(BIN)/python -m examples.stack

promises: $(STAMP) ## run the tests of the promises and write docs/PROMISES.md from what they show
	@$(BIN)/python -m pytest -q -n auto --dist worksteal $$($(BIN)/python -m tests.promises)

month: $(STAMP) ## a month of 10,000 faulty requests in virtual time that must close to the micro-dollar
	@VIDGATE_MONTH_JOBS=10000 $(BIN)/python -m pytest -q -o timeout=0 tests/e2e/test_month.py

# The outcomes are kept in var/soak.jsonl, so that a soak that was interrupted goes on; SEEDS=20001-30000 plays others.
soak: $(STAMP) ## 10,000 seeds of the simulation with every fault, on every core (SEEDS=A-B for others)
	@mkdir -p var
	@nice -n 10 $(BIN)/python -m tests.sim --seeds $(SEEDS) --jobs $$(nproc) --done var/soak.jsonl

check: lint types test ## what continuous integration wants to see

lint: $(STAMP) ## style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP) ## types
	@$(BIN)/mypy

format: $(STAMP) ## rewrite the layout of the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

# Each prints its tables and ends by itself; the status is that of the first that misses a target.
bench: $(STAMP) ## measured claims, printed as ratios (BENCH="overhead inflight" for some; all take half an hour)
	@status=0; for name in $(BENCH); do echo "bench/$$name.py"; \
		$(BIN)/python bench/$$name.py || status=$$(( status ? status : $$? )); done; exit $$status

# Both tables are printed; the status is that of the first that misses a target.
bench-gpu: $(GPU_STAMP) ## seconds per SVD-XT clip on a card, stock diffusers against ours (GPU_BENCH="--device cpu --tiny")
	@$(GPU)/bin/python bench/gpu_svd.py $(GPU_BENCH)

routing: $(STAMP) ## routing and poll schedules on simulated weeks (SIM=path/to/routing-sim, CACHE=file for bounds)
	@test -f "$(SIM)/world.py" || { echo "The routing simulator is not part of this repository. Give its folder, the one \
	with world.py, oracle.py and polls.py: make routing SIM=path/to/routing-sim"; exit 2; }
	@$(BIN)/python bench/routing.py --sim "$(SIM)" $(if $(CACHE),--cache "$(CACHE)"); status=$$?; \
		$(BIN)/python bench/polling.py --sim "$(SIM)" && exit $$status

hostile: $(STAMP) ## open every hostile file in the gateway's own workers and print what each costs
	@$(BIN)/python -m tests.corpus

mutants: $(STAMP) ## put known faults into the money code: the tests must catch every one
	@$(BIN)/python -m tests.mutants

footprint: $(STAMP) ## the smallest installation: packages, size, a demo on it, and its CycloneDX list (dist/vidgate.cdx.json)
	@$(BIN)/python bench/footprint.py

# It asks the advisory database behind the package index; where that cannot be asked, each package is listed as skipped.
audit: ## known vulnerabilities of every pinned package that is deployed
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && \
		$(VENV)-audit/bin/pip install -qq --require-hashes -r requirements.audit.lock; }
	@$(VENV)-audit/bin/pip-audit --disable-pip --require-hashes -r requirements.runtime.lock

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links

# Every step of the engine, killed there once and twice on both databases; 500 jobs of a dead replica; 200 random kills.
kills: $(STAMP) ## the whole crash figure: the failpoint matrix, a replica's 500 jobs, 200 random kills under load
	@VIDGATE_MATRIX=full $(BIN)/python -m pytest -q -n auto --dist worksteal tests/crash/test_failpoints.py
	@VIDGATE_REPLICA_JOBS=500 $(BIN)/python -m pytest -q -s tests/crash/test_two_replicas.py
	@$(BIN)/python -m tests.crash.kills

# What the gateway can use; what a GPU worker needs has a lock of its own, which knows neither PyTorch nor what only its
# build for CUDA brings along.
EXTRAS := --extra oidc --extra otel --extra parquet --extra postgres --extra redis
TORCH_BUILD := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cccl nvidia-cuda-crt \
	nvidia-cuda-cupti nvidia-cuda-nvcc nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft \
	nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink \
	nvidia-nvshmem-cu13 nvidia-nvtx nvidia-nvvm

# What PyTorch needs on any device: it is in the worker's lock. The build for CUDA has one beside it, for Dockerfile.gpu.
TORCH_SHARED := filelock fsspec jinja2 markupsafe mpmath networkx setuptools sympy typing-extensions

# The locks of the image and of the core hold the same versions as the whole one: they are resolved under it.
lock: ## resolve again and rewrite the lock files (needs uv on the PATH)
	@$(LOCK) $(EXTRAS) --group dev --group build pyproject.toml -o requirements.lock
	@$(LOCK) $(EXTRAS) -c requirements.lock pyproject.toml -o requirements.runtime.lock
	@$(LOCK) -c requirements.lock pyproject.toml -o requirements.core.lock
	@$(LOCK) --group build -c requirements.lock -o requirements.build.lock
	@$(LOCK) --extra local-gpu --extra ray --group gpu -c requirements.lock -c requirements.torch.txt \
		$(foreach name,$(TORCH_BUILD),--no-emit-package $(name)) pyproject.toml -o requirements.gpu.lock
	@$(subst --universal,--python-platform x86_64-manylinux_2_28,$(LOCK)) -c requirements.gpu.lock \
		$(foreach name,$(TORCH_SHARED),--no-emit-package $(name)) requirements.torch.txt -o requirements.cuda.lock
	@$(LOCK) --group audit -o requirements.audit.lock
	@$(LOCK) --group fuzz -o requirements.fuzz.lock

clean: ## forget what was built and what the demo left
	@rm -rf $(VENV) $(VENV)-audit $(VENV)-fuzz $(GPU) dist var .mypy_cache .ruff_cache .pytest_cache .hypothesis
