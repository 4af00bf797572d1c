/* The one table of options: the parser of QUIRE_CONF="name:value,...", the man page's list and
 * quire.h's documentation are made from it.
 *
 * OPTION_SIZE(name, default, min, max, text)     bytes; suffixes K, M, G, T
 * OPTION_NUMBER(name, default, min, max, text)
 * OPTION_CHOICE(name, default, "a|b|...", text)  stored as the index of the choice */
#ifndef QUIRE_ALLOC_OPTIONS_H
#define QUIRE_ALLOC_OPTIONS_H

#include "arch/compiler.h"

#define QUIRE_OPTIONS(OPTION_SIZE, OPTION_NUMBER, OPTION_CHOICE)                                   \
  OPTION_CHOICE(huge, 0, "auto|always|never|hugetlb",                                              \
                "Backing of the heap. auto: small pages while the heap is small, then hugepages; " \
                "hugetlb: the system's reserved pool, hugepages where it is empty.")               \
  OPTION_SIZE(huge_threshold, 16 << 20, 0, (size_t)1 << 40,                                        \
              "Heap size from which huge:auto asks for hugepages.")                                \
  OPTION_NUMBER(decay_ms, 500, 0, 3600000,                                                         \
                "Milliseconds for which freed memory beyond demand stays with the program.")       \
  OPTION_CHOICE(background, 0, "auto|off",                                                         \
                "A thread that gives memory back while the program is idle; auto starts it once "  \
                "the heap has passed background_threshold.")                                       \
  OPTION_SIZE(background_threshold, 64 << 20, 0, (size_t)1 << 40,                                  \
              "Heap size from which background:auto starts the thread.")                           \
  OPTION_CHOICE(compact, 1, "off|auto|aggressive",                                                 \
                "Gives memory of a sparse heap back while the program runs, once that pays; "      \
                "aggressive: for smaller gains and with more of a processor.")                     \
  OPTION_NUMBER(                                                                                   \
      compact_cpu, 30, 1, 100,                                                                     \
      "Most per cent of one processor that compact:auto takes; a quarter of it while all "         \
      "processors are in demand.")                                                                 \
  OPTION_NUMBER(compact_maps, 50, 1, 90,                                                           \
                "Most per cent of vm.max_map_count that compaction may use.")                      \
  OPTION_NUMBER(compact_stall, 200, 10, 100000,                                                    \
                "Microseconds for which a step of compaction may make a thread wait that touches " \
                "the memory it moves: what moves at once is kept short enough for that.")          \
  OPTION_CHOICE(compact_force, 0, "off|on",                                                        \
                "on: mesh also on kernels whose UFFDIO_MOVE has known defects (before 6.12).")     \
  OPTION_NUMBER(watch_fd, 0, 0, 1 << 20,                                                           \
                "A descriptor of /dev/userfaultfd that the process was given, for meshing where "  \
                "it has not the right itself; 0: what LISTEN_FDNAMES calls userfaultfd.")          \
  OPTION_CHOICE(numa, 0, "auto|off",                                                               \
                "auto: where the machine has several nodes of memory, threads get memory of the "  \
                "node that they run on; what that is hwloc is asked, if it is installed.")         \
  OPTION_SIZE(cache_thread, 2 << 20, 0, 1 << 30, "Most bytes that one thread's cache may hold.")   \
  OPTION_SIZE(cache_total, 64 << 20, 0, (size_t)1 << 40,                                           \
              "Most bytes that all threads' caches together may hold.")                            \
  OPTION_SIZE(reserve, 0, 0, (size_t)1 << 43,                                                      \
              "Address space to reserve; 0 for 16 times the machine's memory.")                    \
  OPTION_CHOICE(check, 0, "off|on",                                                                \
                "on: detect misuse at the call itself, fill freed memory, guard large blocks.")    \
  OPTION_CHOICE(stats, 0, "off|on", "on: print statistics to standard error at exit.")

#define OPTION_FIELD_NUMBER(name, ...) size_t name;

struct quire_options {
  QUIRE_OPTIONS(OPTION_FIELD_NUMBER, OPTION_FIELD_NUMBER, OPTION_FIELD_NUMBER)
};

enum { CHOICE_BACKGROUND_AUTO = 0, CHOICE_BACKGROUND_OFF = 1 };
enum { CHOICE_NUMA_AUTO = 0, CHOICE_NUMA_OFF = 1 };
enum { CHOICE_COMPACT_OFF = 0, CHOICE_COMPACT_AUTO = 1, CHOICE_COMPACT_AGGRESSIVE = 2 };

extern struct quire_options options; /* written once at start-up */

/* Parses a whole QUIRE_CONF string over the defaults. Each wrong entry gets one line through
 * `complain` and keeps its default. NULL or "" is no entry. */
void options_parse(const char *conf, void (*complain)(const char *line));

/* One option as the table has it: for the man page, quire.h and tests. False past the end. */
struct option_text {
  const char *name, *kind, *choices, *text;
  size_t value, min, max; /* value: the default */
};
bool option_text(unsigned index, struct option_text *out);

/* Its present value as text ("16777216", "auto"). */
const char *option_value(unsigned index, char *buffer, size_t size);

#endif
