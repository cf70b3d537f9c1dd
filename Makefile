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

.PHONY: demo test setup build-cpp lint format test-cpp test-python test-asan test-tsan test-arm test-cross test-package clean

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

# stories260K, a real trained model, where the data of the tests is (MINDIR_LLM_SHARED_DATA): a bundle for each kind of
# weights and caches.
STORIES_CHECKPOINT := $(or $(MINDIR_LLM_SHARED_DATA),../shared/data)/models/stories260K/hf
STORIES_BUNDLES := $(addprefix build/stories260k/,float32 a16w8 a16w4 float32-kv8 a16w8-kv8)
build/stories260k/.ready: $(VENV)/.ready $(wildcard export/*.py models/*.py)
	rm -rf build/stories260k
	mkdir -p build/stories260k
	$(BIN)/mindir-llm export $(STORIES_CHECKPOINT) build/stories260k/float32 --dtype float32
	$(BIN)/mindir-llm export $(STORIES_CHECKPOINT) build/stories260k/a16w8 --quant a16w8
	$(BIN)/mindir-llm export $(STORIES_CHECKPOINT) build/stories260k/a16w4 --quant a16w4
	$(BIN)/mindir-llm export $(STORIES_CHECKPOINT) build/stories260k/float32-kv8 --dtype float32 --kv-dtype int8
	$(BIN)/mindir-llm export $(STORIES_CHECKPOINT) build/stories260k/a16w8-kv8 --quant a16w8 --kv-dtype int8
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
# Leak checking is off for Python, which never frees its own interned objects. AMX's registers are emulated: its kernels run
# where there is none, and the sanitizer sees what they load and store.
test-asan: setup build/test-bundles/.ready
	mkdir -p build
	$(CMAKE) -S . -B build/asan -DMLLM_BUILD_TESTS=ON -DMLLM_WERROR=OFF -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1" -DMLLM_SANITIZE=address,undefined -DMLLM_EMULATE_AMX=ON > build/asan-configure.log
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

# The C++ unit tests (tokenizers, kernels, sessions) and whole generations on emulated processors, built by Debian's
# cross compilers: 64-bit ARM with plain NEON, with its dot products and with its matrix products, ARMv7 with a fused
# multiply-add and without one (all but the first of a machine run only tests of what differs), and 64-bit RISC-V.
# Executables are static. The text must be that of this machine, also the whole story of stories260K where that is.
CROSS_TOOLS := g++-aarch64-linux-gnu g++-arm-linux-gnueabihf g++-riscv64-linux-gnu qemu-user
# What differs between the levels of ARM: products with quantized weights.
KERNEL_BUNDLES := $(abspath build/test-bundles/cpu-a16w8):$(abspath build/test-bundles/cpu-a16w4)
# An emulated processor takes fewer steps of sessions, and half of the prompts of attention.
CROSS_CTEST = MINDIR_LLM_TEST_EMULATED=1 $(BIN)/ctest -j $(JOBS) --output-on-failure --test-dir build/cross-$*/runtime/engine
FIRST_PROCESSOR_aarch64 := QEMU_CPU=cortex-a57 MINDIR_LLM_TEST_ISA=neon
FIRST_PROCESSOR_armv7 := QEMU_CPU=cortex-a7 MINDIR_LLM_TEST_ISA=vfpv4
FIRST_PROCESSOR_riscv64 := QEMU_CPU=rv64 MINDIR_LLM_TEST_ISA=generic
# Tests of vectors and of attention take every kernel set of a processor, and these processors bring no other one for them.
KERNEL_TESTS := -R '^(isa|matmul|fused|session|generator)_test$$'

cross-tools-%:
	@test -n "$$($(BIN)/python -m mindir_llm.tools.package.cross tools $*)" || \
	  (echo "make test-cross needs the Debian packages $(CROSS_TOOLS)" && false)

build-cross-%: setup cross-tools-%
	mkdir -p build
	$(CMAKE) -S . -B build/cross-$* -DMLLM_BUILD_TESTS=ON -DMLLM_WERROR=ON -DCMAKE_EXE_LINKER_FLAGS=-static -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/runtime/engine/cmake/toolchains/$*.cmake > build/cross-$*.log || (cat build/cross-$*.log && false)
	$(BIN)/cmake --build build/cross-$* -j $(JOBS)

test-cross-%: build-cross-% build/test-bundles/.ready $(if $(wildcard $(STORIES_CHECKPOINT)),build/stories260k/.ready)
	MINDIR_LLM_TEST_BUNDLES=$(TEST_BUNDLES) $(FIRST_PROCESSOR_$*) $(CROSS_CTEST)
	$(if $(filter aarch64,$*),MINDIR_LLM_TEST_BUNDLES=$(KERNEL_BUNDLES) QEMU_CPU=neoverse-n1 MINDIR_LLM_TEST_ISA=neondot $(CROSS_CTEST) $(KERNEL_TESTS))
	$(if $(filter aarch64,$*),MINDIR_LLM_TEST_BUNDLES=$(KERNEL_BUNDLES) QEMU_CPU=max MINDIR_LLM_TEST_ISA=neoni8mm $(CROSS_CTEST) $(KERNEL_TESTS))
	$(if $(filter armv7,$*),MINDIR_LLM_TEST_BUNDLES=$(KERNEL_BUNDLES) QEMU_CPU=cortex-a9 MINDIR_LLM_TEST_ISA=generic $(CROSS_CTEST) $(KERNEL_TESTS))
	$(BIN)/python -m mindir_llm.tools.package.cross compare $* build/cross-$*/runtime/engine/mindir-llm build/test-bundles/cpu-float32 build/test-bundles/cpu-a16w8 build/test-bundles/cpu-kv8
	$(if $(wildcard $(STORIES_CHECKPOINT)),$(BIN)/python -m mindir_llm.tools.package.cross --tokens 200 compare $* build/cross-$*/runtime/engine/mindir-llm $(STORIES_BUNDLES),@echo "no stories260K in MINDIR_LLM_SHARED_DATA: its story was not compared")

test-cross: test-cross-aarch64 test-cross-armv7 test-cross-riscv64

test-arm: test-cross-aarch64

# Packages of this machine, twice: the same bytes; an appliance in an empty root.
test-package: setup build/test-bundles/.ready
	rm -rf build/package-test
	$(BIN)/python -m mindir_llm.tools.package --target host --work build/package-test/first --output build/package-test/dist-first
	$(BIN)/python -m mindir_llm.tools.package --target host --work build/package-test/second --output build/package-test/dist-second
	diff -r build/package-test/dist-first build/package-test/dist-second
	$(BIN)/python -m mindir_llm.tools.package --target host --bundle build/test-bundles/cpu-a16w8 --work build/package-test/first --output build/package-test/dist-first
	$(BIN)/python -m mindir_llm.tools.package.empty_root build/package-test/dist-first/cpu-a16w8-linux-$$(uname -m).tar.gz

clean:
	rm -rf build $(VENV)
