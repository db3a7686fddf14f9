# The commands of this project, each working from a fresh clone: what a command needs is installed into .venv first, and
# stamps in there make the next call quick. `make test PYTHON=python3.13 VENV=.venv313` chooses another interpreter.
PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= $(shell nproc)
ARGS   ?=

BIN   := $(abspath $(VENV))/bin
BUILD := build/$(notdir $(VENV))
export PATH := $(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help train test check lint format build build-cuda docs examples test-cpp test-tsan test-slow test-peers test-played test-gpu \
  test-gpu-sanitizer bench wheel-cuda clean

help:  # list these commands
	@sed -nE 's/^([a-z-]+):.*# (.*)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 20

train: build  # train ResNet-50 on the digits that ship inside (ARGS="--help" shows what can be set)
	$(BIN)/python examples/train_resnet50.py $(ARGS)

test: build  # the quick tests (ARGS="-k engine" chooses some)
	$(BIN)/python -m pytest -q $(ARGS)

check: lint test-cpp build-cuda examples test test-played  # everything that CI asks for

lint: $(VENV)/.dev  # ruff, mypy, clang-format, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	git ls-files '*.cc' '*.h' ':!tests/golden' | xargs $(BIN)/clang-format --dry-run -Werror
	$(BIN)/lint-imports

format: $(VENV)/.dev  # let ruff and clang-format rewrite the files
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	git ls-files '*.cc' '*.h' ':!tests/golden' | xargs $(BIN)/clang-format -i

docs: build  # write what derives from the operator table: stubs (.pyi) and docs/reference
	$(BIN)/python -m minimx.ops stubs minimx
	$(BIN)/python -m minimx.ops reference docs/reference

examples: build  # every example in its tiny setting
	set -e; for script in examples/*.py; do echo "== $$script"; $(BIN)/python $$script --tiny; done

test-cpp: test-cpp-address,undefined test-cpp-thread  # the engine's own tests under ASAN+UBSAN and TSAN, the runtime's threads under TSAN

test-cpp-%: $(VENV)/.ready
	$(BIN)/cmake -S tests/cpp -B $(BUILD)-$* -G Ninja -DMINIMX_SANITIZE=$* > /dev/null
	$(BIN)/cmake --build $(BUILD)-$* -j $(JOBS)
	$(BIN)/ctest --test-dir $(BUILD)-$* --output-on-failure

test-tsan: $(VENV)/.ready  # threads of Python over a _core that is built with TSAN (some minutes; needs GCC's libtsan)
	$(BIN)/cmake -S . -B $(BUILD)-core-tsan -G Ninja -DCMAKE_BUILD_TYPE=None -DMINIMX_CUDA=off \
	  -DCMAKE_CXX_FLAGS="-O1 -g1 -fsanitize=thread" -DPython_EXECUTABLE=$(BIN)/python \
	  -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)" > /dev/null
	$(BIN)/cmake --build $(BUILD)-core-tsan -j $(JOBS)
	$(BIN)/python tests/tsan.py $(BUILD)-core-tsan/csrc

test-slow: build  # the long tests: thousands of workloads and interpreter exits
	$(BIN)/python -m pytest -q -m slow --timeout 1200 $(ARGS)

test-peers: build $(VENV)/.peers  # comparisons with PyTorch
	$(BIN)/python -m pytest -q -m peers --timeout 1200 $(ARGS)

# What is tested on a GPU as it is on the CPU: all that makes its arrays on the current device.
ON_DEVICE := table table_rules ndarray indexing rules_conv rules_gradients rules_index rules_random \
  rules_samples rules_view random autograd graph hybridize gluon_block gluon_hybridize gluon_loss gluon_nn \
  gluon_parameter gluon_trainer gluon_utils amp bert train_step initializer lr_scheduler metric optimizer models data \
  dataloader serialization engine engine_bulk groups deferred bulk_fusion replay grad_add profiler overlap threads
# What is also tested on played GPUs whose streams run late.
IN_OWN_TIME := ndarray autograd hybridize train_step gluon_trainer dataloader
SIDE_BY_SIDE = -n $(or $(GPU_WORKERS),8) -p no:benchmark --timeout 600

test-played: build  # what concerns devices on a GPU that the CPU plays (tests/played)
	$(BIN)/python -m pytest -q --device played tests/played $(wildcard $(ON_DEVICE:%=tests/test_%.py)) $(ARGS)
	$(BIN)/python -m pytest -q --device played --own-time $(IN_OWN_TIME:%=tests/test_%.py) $(ARGS)

test-gpu: build-cuda $(VENV)/.gpu  # the tests that need an NVIDIA GPU (fetches CUDA 13's libraries and CuPy)
	$(BIN)/python -m pytest -q -m gpu $(SIDE_BY_SIDE) tests/gpu $(ARGS)
	$(BIN)/python -m pytest -q --device gpu $(SIDE_BY_SIDE) $(wildcard $(ON_DEVICE:%=tests/test_%.py)) $(ARGS)

test-gpu-sanitizer: build-cuda $(VENV)/.gpu  # every kernel under compute-sanitizer's memcheck and racecheck
	set -e; for tool in memcheck racecheck; do $(BIN)/python tests/gpu/sanitize.py --tool $$tool; done

bench: build $(VENV)/.peers  # benchmarks against NumPy and PyTorch, with ratios
	set -e; for script in calls ops engine fuse train; do $(BIN)/python bench/$$script.py $(ARGS); done

# Compiles minimx/_core*.so in place. CMake emits the kernels anew when a row of the operator table has changed.
build: $(BUILD)/build.ninja  # compile the C++ part
	@$(BIN)/cmake --build $(BUILD) -j $(JOBS)

# The same with minimx/_cuda*.so, which takes no GPU and no CUDA toolkit. Later `make build`s keep it up to date.
build-cuda: $(BUILD)/build.ninja $(VENV)/.cuda  # compile the C++ part with CUDA (fetches a gigabyte for NVIDIA's headers)
	@$(BIN)/cmake -S . -B $(BUILD) -DMINIMX_CUDA=on > /dev/null
	@$(BIN)/cmake --build $(BUILD) -j $(JOBS)
	@$(BIN)/python -c "import minimx._cuda"

wheel-cuda: $(VENV)/.made  # a wheel with the CUDA part, for any x86-64 machine with AVX2, in dist/
	MINIMX_CUDA=on $(BIN)/pip wheel -q --no-deps -w dist -Ccmake.define.MINIMX_ARCH=x86-64-v3 .
	@ls dist/*.whl

$(BUILD)/build.ninja: $(VENV)/.ready
	$(BIN)/cmake -S . -B $(BUILD) -G Ninja -DMINIMX_INPLACE=ON -DPython_EXECUTABLE=$(BIN)/python \
	  -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)"
	@touch $@

# The checkout is linked into the environment, not copied. Changing pyproject.toml installs again.
$(VENV)/.ready: EXTRAS = build,vision,plot,test
$(VENV)/.dev: EXTRAS = dev
$(VENV)/.peers: EXTRAS = peers
$(VENV)/.cuda: EXTRAS = build-cuda
$(VENV)/.gpu: EXTRAS = cuda13,test-gpu
$(VENV)/.ready $(VENV)/.dev $(VENV)/.peers $(VENV)/.cuda $(VENV)/.gpu: $(VENV)/.made pyproject.toml
	$(BIN)/pip install -q -e ".[$(EXTRAS)]"
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	@touch $@

clean:  # remove the environment and everything built
	rm -rf $(VENV) build dist minimx/_core*.so minimx/_cuda*.so
