# `make demo` and `make test` do all the set-up themselves: a virtual environment in .venv with the engine built into it.
# Needs Python 3.10-3.13 with venv (MindSpore's own range for export), and a C++20 compiler. CMake and Ninja come from PyPI.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CMAKE := $(BIN)/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja
ENGINE_SOURCES := $(shell find runtime/engine CMakeLists.txt -name '*.cpp' -o -name '*.h' -o -name 'CMakeLists.txt')
PYTHON_SOURCES := runtime tokenizer models export tools tests
JOBS ?= $(shell nproc)

DEMO_CHECKPOINT := tools/demo_model/checkpoint
DEMO_BUNDLE := build/demo-bundle
EXPORT := $(BIN)/mindir-llm export $(DEMO_CHECKPOINT)
TEST_BUNDLES := $(abspath build/test-bundles/cpu-float32):$(abspath build/test-bundles/cpu-a16w8):$(abspath build/test-bundles/ascend-a16w8):$(abspath build/test-bundles/cpu-a16w4):$(abspath build/test-bundles/cpu-kv8)

.PHONY: demo test setup build-cpp lint format test-cpp test-python test-asan test-tsan test-arm arm-tools clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml $(ENGINE_SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet cmake ninja 'scikit-build-core>=0.10'
	CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

# The main job, end to end, on the small model that the repository carries.
demo: setup
	rm -rf $(DEMO_BUNDLE)
	$(BIN)/mindir-llm export $(DEMO_CHECKPOINT) $(DEMO_BUNDLE) --quant a16w8
	$(BIN)/mindir-llm verify $(DEMO_BUNDLE) --checkpoint $(DEMO_CHECKPOINT)
	$(BIN)/mindir-llm run $(DEMO_BUNDLE) -p "Once upon a time" --max-tokens 300 --temperature 0 --echo

test: lint test-cpp test-python

lint: setup
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check --quiet $(PYTHON_SOURCES) || (echo "run: make format" && false)
	$(BIN)/mypy runtime tokenizer models export tools
	find runtime/engine -name '*.h' -o -name '*.cpp' | xargs $(BIN)/clang-format --dry-run -Werror

format: setup
	$(BIN)/ruff check --fix $(PYTHON_SOURCES)
	$(BIN)/ruff format $(PYTHON_SOURCES)
	find runtime/engine -name '*.h' -o -name '*.cpp' | xargs $(BIN)/clang-format -i

# Small bundles for the session tests: both op sets, several slots, chunks that do not divide prompts.
build/test-bundles/.ready: $(VENV)/.ready $(wildcard $(DEMO_CHECKPOINT)/*) $(wildcard export/*.py models/*.py)
	rm -rf build/test-bundles
	mkdir -p build/test-bundles
	$(EXPORT) build/test-bundles/cpu-float32 --dtype float32 --max-seq-len 96 --prefill-chunk 7
	$(EXPORT) build/test-bundles/cpu-a16w8 --quant a16w8 --batch 3 --max-seq-len 96 --prefill-chunk 8
	$(EXPORT) build/test-bundles/ascend-a16w8 --target ascend --quant a16w8 --batch 2 --max-seq-len 96 --prefill-chunk 8
	$(EXPORT) build/test-bundles/cpu-a16w4 --quant a16w4 --batch 2 --max-seq-len 96 --prefill-chunk 8
	$(EXPORT) build/test-bundles/cpu-kv8 --dtype float32 --kv-dtype int8 --batch 3 --max-seq-len 96 --prefill-chunk 8
	touch $@

# The libraries, the executable and the C++ tests.
build-cpp: setup
	mkdir -p build
	$(CMAKE) -S . -B build/cpp -DMLLM_BUILD_TESTS=ON -DMLLM_WERROR=ON > build/cpp-configure.log || (cat build/cpp-configure.log && false)
	$(BIN)/cmake --build build/cpp -j $(JOBS)

test-cpp: build-cpp build/test-bundles/.ready
	MINDIR_LLM_TEST_BUNDLES=$(TEST_BUNDLES) $(BIN)/ctest --test-dir build/cpp/runtime/engine --output-on-failure

test-python: build-cpp
	$(BIN)/python -m pytest

# The C++ unit tests and the Python tests that drive the engine, with AddressSanitizer and UndefinedBehaviorSanitizer.
# (GCC warns of things that are not so in instrumented code: warnings are errors in test-cpp only.)
# Leak checking is off for Python, which never frees its own interned objects.
test-asan: setup build/test-bundles/.ready
	mkdir -p build
	$(CMAKE) -S . -B build/asan -DMLLM_BUILD_TESTS=ON -DMLLM_WERROR=OFF -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1" -DMLLM_SANITIZE=address,undefined > build/asan-configure.log
	$(BIN)/cmake --build build/asan -j $(JOBS)
	MINDIR_LLM_TEST_BUNDLES=$(TEST_BUNDLES) $(BIN)/ctest --test-dir build/asan/runtime/engine --output-on-failure
	MINDIR_LLM_LIBRARY=$(abspath build/asan/runtime/engine/libmindir_llm.so) MINDIR_LLM_BUILD=$(abspath build/asan) \
	  LD_PRELOAD="$$($(or $(CXX),c++) -print-file-name=libasan.so) $$($(or $(CXX),c++) -print-file-name=libstdc++.so.6)" \
	  ASAN_OPTIONS=detect_leaks=0 $(BIN)/python -m pytest tests/engine tests/runtime

test-tsan: setup build/test-bundles/.ready
	mkdir -p build
	$(CMAKE) -S . -B build/tsan -DMLLM_BUILD_TESTS=ON -DMLLM_WERROR=OFF -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1" -DMLLM_SANITIZE=thread > build/tsan-configure.log
	$(BIN)/cmake --build build/tsan -j $(JOBS) --target thread_pool_test session_test generator_test
	MINDIR_LLM_TEST_BUNDLES=$(TEST_BUNDLES) $(BIN)/ctest --test-dir build/tsan/runtime/engine --output-on-failure -R '^(thread_pool|session|generator)_test$$'

# The C++ unit tests on emulated 64-bit ARM processors: one with plain NEON, one with its dot products, one with its
# matrix products. The later ones run only tests of what differs between them.
ARM_CXX ?= aarch64-linux-gnu-g++
ARM_CC ?= aarch64-linux-gnu-gcc
ARM_QEMU ?= qemu-aarch64
ARM_LIBRARIES ?= /usr/aarch64-linux-gnu
ARM_CTEST = MINDIR_LLM_TEST_BUNDLES=$(TEST_BUNDLES) $(BIN)/ctest --test-dir build/aarch64/runtime/engine --output-on-failure

arm-tools:
	@command -v $(ARM_CXX) > /dev/null && command -v $(ARM_QEMU) > /dev/null || \
	  (echo "make test-arm needs the Debian packages g++-aarch64-linux-gnu and qemu-user" && false)

test-arm: arm-tools setup build/test-bundles/.ready
	mkdir -p build
	$(CMAKE) -S . -B build/aarch64 -DMLLM_BUILD_TESTS=ON -DMLLM_WERROR=ON -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=$(ARM_CC) -DCMAKE_CXX_COMPILER=$(ARM_CXX) "-DCMAKE_CROSSCOMPILING_EMULATOR=$(ARM_QEMU);-L;$(ARM_LIBRARIES)" > build/aarch64-configure.log || (cat build/aarch64-configure.log && false)
	$(BIN)/cmake --build build/aarch64 -j $(JOBS)
	QEMU_CPU=cortex-a57 MINDIR_LLM_TEST_ISA=neon $(ARM_CTEST)
	QEMU_CPU=neoverse-n1 MINDIR_LLM_TEST_ISA=neondot $(ARM_CTEST) -R '^(isa|matmul|fused|session)_test$$'
	QEMU_CPU=max MINDIR_LLM_TEST_ISA=neoni8mm $(ARM_CTEST) -R '^(isa|matmul|fused|session)_test$$'

clean:
	rm -rf build $(VENV)
