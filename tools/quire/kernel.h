/* What the kernel says of a process: its memory by smaps, its control group, its background thread.
 */
#ifndef QUIRE_TOOLS_KERNEL_H
#define QUIRE_TOOLS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct kernel_memory {
  uint64_t pss, swap; /* bytes, of the whole process; swap as its share (SwapPss) */
  /* Of quire's mappings: arena, tables, the zone's view, the table of backings, and the library's
   * variables (unless it is linked statically). */
  uint64_t heap_pss, heap_rss, heap_swap;
  uint64_t heap_huge;     /* bytes mapped by whole hugepages */
  uint64_t heap_mappings; /* how many mappings that is */
  uint64_t mappings;      /* of the whole process */
};

/* [from, to) ranges that are quire's; beyond them what is called memfd:quire. False with errno. */
struct kernel_range {
  uint64_t from, to;
};
bool kernel_memory(pid_t pid, const struct kernel_range *ranges, unsigned nranges,
                   struct kernel_memory *out);

/* PSS alone (smaps_rollup), which is cheaper. False with errno. */
bool kernel_pss(pid_t pid, uint64_t *pss);

/* The thread that is called `tid` in the process's own pid namespace, by our name; 0: none. */
pid_t kernel_thread(pid_t pid, uint64_t tid);

/* Nanoseconds of processor time that a thread has used; 0 when it can't be told. */
uint64_t kernel_thread_cpu_ns(pid_t pid, pid_t tid);

/* A number in a file (the first word; "max" is UINT64_MAX). False when there is none. */
bool kernel_number(const char *path, uint64_t *out);

/* The directory of the process's control group (version 2); false where there is none. */
bool kernel_group(pid_t pid, char *out, size_t size);

/* How much memory its control group (of either version) has and may have; false where none counts
 * it. *limit: UINT64_MAX without one. */
bool kernel_group_memory(pid_t pid, uint64_t *used, uint64_t *limit);

#endif
