# quire. `make` builds the libraries; `make help` lists the rest.
#
# VARIANT=debug|asan|tsan builds into build/VARIANT; CC=clang works too. CROSS=aarch64-linux-gnu- cross-compiles
# into build/aarch64.

VERSION := 0.1.0
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
VARIANT ?= release
CROSS ?=

ifneq ($(CROSS),)
CC := $(CROSS)gcc
AR := $(CROSS)ar
B := build/$(firstword $(subst -, ,$(CROSS)))
else ifeq ($(VARIANT),release)
B := build
else
B := build/$(VARIANT)
endif

WARNINGS := -Wall -Wextra -Wundef -Wstrict-prototypes -Wmissing-prototypes
CFLAGS ?= -O2 -g
FLAGS := -std=gnu17 -D_GNU_SOURCE -I. -Iinclude -fPIC -fvisibility=hidden -fexceptions \
  -fno-builtin-malloc -fno-strict-aliasing -MMD -MP $(WARNINGS)
LDFLAGS_SO := -shared -Wl,-z,now -Wl,-z,relro -Wl,--no-undefined \
  -Wl,-soname,libquire.so.0 -Wl,--version-script=preload/libquire.map

ifeq ($(VARIANT),debug)
FLAGS += -O1 -DQUIRE_DEBUG
else ifeq ($(VARIANT),asan)
FLAGS += -O1 -DQUIRE_DEBUG -DQUIRE_NO_RSEQ -fsanitize=address,undefined -fno-sanitize-recover=undefined \
  -fno-omit-frame-pointer
LINK_SANITIZER := -fsanitize=address,undefined
else ifeq ($(VARIANT),tsan)
FLAGS += -O1 -DQUIRE_DEBUG -DQUIRE_NO_RSEQ -fsanitize=thread
LINK_SANITIZER := -fsanitize=thread
else ifneq ($(VARIANT),release)
$(error VARIANT=$(VARIANT): want release, debug, asan or tsan)
endif

# liburing drives the background thread's ring; where it is missing the loop is poll's alone.
URING := $(shell echo 'int main(void) { return 0; }' | $(CC) -include liburing.h -x c - -luring -o /dev/null 2>/dev/null && echo yes)
ifeq ($(URING),yes)
FLAGS += -DQUIRE_URING=1
LIBS += -luring
LINK_URING := -Wl,-Bstatic -luring -Wl,-Bdynamic
else
FLAGS += -DQUIRE_URING=0
endif

# hwloc is not linked: its header tells how to call what is loaded where there are several nodes of memory.
HWLOC := $(shell echo 'int main(void) { return 0; }' | $(CC) -include hwloc.h -x c -c - -o /dev/null 2>/dev/null && echo yes)
FLAGS += -DQUIRE_HWLOC=$(if $(filter yes,$(HWLOC)),1,0)

CORE := $(patsubst %.c,$(B)/%.o,$(wildcard arch/*.c page/*.c slab/*.c alloc/*.c))
PRELOAD := $(patsubst %.c,$(B)/%.o,$(wildcard preload/*.c))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/*_test.c))
UNIT_SUPPORT := $(patsubst %.c,$(B)/%.o,$(filter-out %_test.c,$(wildcard tests/unit/*.c)))
ABUSES := $(patsubst tests/abuse/%.c,$(B)/tests/abuse/%,$(wildcard tests/abuse/*.c))

# The `quire` command and the libraries that it alone needs. Where they are missing the rest is built.
COMMAND_LIBS := jansson ncursesw libmicrohttpd cairo zlib
ifeq ($(CROSS)$(shell pkg-config --exists $(COMMAND_LIBS) 2>/dev/null && echo yes),yes)
COMMAND := $(B)/quire
COMMAND_FLAGS := $(shell pkg-config --cflags $(COMMAND_LIBS)) -DQUIRE_LIBDIR='"$(LIBDIR)"'
COMMAND_LINK := $(shell pkg-config --libs $(COMMAND_LIBS)) -lm
endif
COMMAND_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard tools/quire/*.c))

.PHONY: all deps demo check check-long bench bench-programs bench-compaction compaction-programs install clean help tests format objects command-objects
all: $(B)/libquire.so $(B)/libquire.a $(B)/quire.3 $(COMMAND) $(if $(COMMAND),$(B)/quire.1)

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CFLAGS) -c $< -o $@

$(B)/libquire.so: $(CORE) $(PRELOAD) preload/libquire.map
	$(CC) $(CFLAGS) $(LINK_SANITIZER) $(LDFLAGS_SO) $(CORE) $(PRELOAD) $(LINK_URING) -o $@

# liburing's objects go into the archive, so that linking needs nothing but libquire.a.
$(B)/libquire.a: $(CORE) $(PRELOAD)
	@rm -f $@
	@mkdir -p $(B)/uring
ifeq ($(URING),yes)
	cd $(B)/uring && $(AR) x $$($(CC) -print-file-name=liburing.a)
	$(AR) rcs $@ $^ $(B)/uring/*
else
	$(AR) rcs $@ $^
endif

# The command's texts are its man page.
$(B)/quire.1: $(COMMAND)
	$(COMMAND) --man > $@

$(B)/quire.3: docs/quire.3.in $(B)/tools/options-text
	$(B)/tools/options-text man docs/quire.3.in > $@

$(B)/tools/options-text: tools/options-text.c $(B)/alloc/options.o $(B)/arch/sys.o
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CFLAGS) $(LINK_SANITIZER) $^ -o $@

$(B)/tools/quire/%.o: tools/quire/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(COMMAND_FLAGS) $(CFLAGS) -c $< -o $@

# The page for browsers goes into it as it is.
$(B)/tools/quire/embed.o: $(wildcard tools/quire/page/*)

# Of the allocator it has the table of options, the names of the numbers, and what these need.
$(B)/quire: $(COMMAND_OBJECTS) $(B)/alloc/options.o $(B)/alloc/fields.o $(B)/arch/sys.o
	$(CC) $(CFLAGS) $(LINK_SANITIZER) $^ $(COMMAND_LINK) -o $@

objects: $(CORE) $(PRELOAD)
command-objects: $(if $(COMMAND),$(COMMAND_OBJECTS))
tests: $(UNIT_TESTS) $(ABUSES)

$(B)/tests/%_test: $(B)/tests/unit/%_test.o $(UNIT_SUPPORT) $(CORE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LINK_SANITIZER) $^ -lcunit $(LIBS) -lpthread -o $@

# Abuses call malloc as any program does and are run under LD_PRELOAD.
$(B)/tests/abuse/%: tests/abuse/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -D_GNU_SOURCE -O0 -g -fno-builtin -w -Iinclude $< -lpthread -o $@

$(B)/bench/%.o: bench/%.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -D_GNU_SOURCE -O2 -g -fno-builtin -I. -Iinclude -MMD -MP $(WARNINGS) -c $< -o $@

$(B)/bench/gbench.o: bench/gbench.cc Makefile
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O2 -g -I. -MMD -MP -Wall -Wextra -c $< -o $@

# The benchmarks are not linked with quire: they get it, like its peers, by LD_PRELOAD.
BENCH := $(addprefix $(B)/bench/,micro heap measure tiny look)
MICRO := $(patsubst %,$(B)/bench/%.o,micro sizes pairs live batches threads large gbench)

$(B)/bench/micro: $(MICRO)
	$(CXX) $^ -lbenchmark -lpthread -lm -o $@

$(B)/bench/heap: $(B)/bench/heap.o $(B)/bench/sizes.o
	$(CC) $^ -lpthread -lm -o $@

$(B)/bench/measure: $(B)/bench/measure.o
	$(CC) -static $^ -o $@

$(B)/bench/tiny: $(B)/bench/tiny.o
	$(CC) $^ -o $@

$(B)/bench/look: $(B)/bench/look.o
	$(CC) $^ -o $@

# What only the benchmarks of compaction need.
SPARSE := $(patsubst %,$(B)/bench/%.o,sparse_heap memory sizes)
ON_SPARSE := $(addprefix $(B)/bench/,sparse stall chase postpeak pressure)
COMPACTION := $(ON_SPARSE) $(addprefix $(B)/bench/,redis_load matching bitmaps.so measure tiny micro)

$(ON_SPARSE): $(B)/bench/%: $(B)/bench/%.o $(SPARSE)
	$(CC) $^ -lpthread -lm -ldl -o $@

$(B)/bench/matching: $(B)/bench/matching.o $(SPARSE)
	$(CC) $^ -lpthread -lm -ldl -o $@

$(B)/bench/redis_load: $(B)/bench/redis_load.o
	$(CC) $^ -o $@

$(B)/bench/bitmaps.so: bench/bitmaps.c bench/bitmaps.h include/quire.h
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -D_GNU_SOURCE -O2 -g -fPIC -Iinclude $(WARNINGS) -shared $< -o $@

compaction-programs: $(COMPACTION)
bench-programs: $(BENCH)

# What people type.
deps:
	@tools/deps.sh

deps-%:
	@tools/deps.sh $*

demo: deps-demo
	@$(MAKE) --no-print-directory -s all
	@tools/demo.sh

check: deps-check
	@$(MAKE) --no-print-directory -s all tests
	@tests/check.sh

check-long: deps-check
	@$(MAKE) --no-print-directory -s all tests
	@QUIRE_LONG=1 tests/check.sh

bench: deps-bench
	@$(MAKE) --no-print-directory -s all bench-programs
	@bench/bench.sh

# BENCH_FLAGS=--quick for a rough look.
bench-compaction: deps-bench
	@$(MAKE) --no-print-directory -s all compaction-programs
	@/usr/bin/python3 bench/compaction.py $(BENCH_FLAGS)

install: all
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 755 $(B)/libquire.so $(DESTDIR)$(LIBDIR)/libquire.so.0
	ln -sf libquire.so.0 $(DESTDIR)$(LIBDIR)/libquire.so
	install -m 644 $(B)/libquire.a $(DESTDIR)$(LIBDIR)/libquire.a
ifneq ($(COMMAND),)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(COMMAND) $(DESTDIR)$(PREFIX)/bin/quire
	install -m 644 $(B)/quire.1 $(DESTDIR)$(PREFIX)/share/man/man1/quire.1
	install -m 644 tools/quire/quire.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/quire
endif
	install -m 644 include/quire.h $(DESTDIR)$(PREFIX)/include/quire.h
	install -m 644 $(B)/quire.3 $(DESTDIR)$(PREFIX)/share/man/man3/quire.3
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' tools/quire.pc.in \
	  > $(DESTDIR)$(LIBDIR)/pkgconfig/quire.pc

format:
	clang-format -i $(wildcard arch/*.[ch] page/*.[ch] slab/*.[ch] alloc/*.[ch] preload/*.[ch] include/*.h tools/quire/*.[ch])

clean:
	rm -rf build

help:
	@echo "make             build/libquire.so (for LD_PRELOAD), build/libquire.a and the quire command"
	@echo "make demo        redis on quire, glibc and jemalloc: throughput and memory side by side"
	@echo "make check       all tests; make check-long runs the programs whole"
	@echo "make bench       all benchmarks; writes docs/bench.md (about half an hour)"
	@echo "make bench-compaction  those of compaction; writes docs/compaction.md; BENCH_FLAGS=--quick"
	@echo "make install     PREFIX=$(PREFIX) DESTDIR="
	@echo "VARIANT=debug|asan|tsan builds into build/VARIANT"

-include $(shell find $(B) -name '*.d' 2>/dev/null)
