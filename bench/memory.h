/*
 * What a process costs, read by itself from /proc without allocating: a benchmark that watches its
 * heap must not change it.
 */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct memory {
  size_t pss;      /* bytes: the process's proportional set size */
  size_t unmapped; /* bytes that quire's shared file holds and no mapping shows */
};

/* Ends the program where the kernel does not tell: without memory there is no result. */
struct memory memory_now(void);

/* What the heap is charged with: both, without what the program held before it built a heap. */
size_t memory_held(const struct memory *now, const struct memory *base);

/* Lines of /proc/self/maps. */
size_t memory_mappings(void);

/* Quire's shared file: the memory it has, and how the arena maps it. */
struct shared_file {
  size_t mappings;
  size_t held, pmd; /* bytes; pmd: of these, what is mapped by whole page-middle entries */
};

struct shared_file memory_shared_file(void);

/* Memory that no allocator hands out, for the tables of a benchmark: zeroed and touched. */
void *memory_table(size_t bytes);

uint64_t now_ns(void);

#endif
