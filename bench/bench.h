/*
 * What the micro-benchmarks share: a cheap generator, tables of request sizes, and the fences that
 * keep the compiler from seeing that a block is never used.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "gbench.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* xorshift64*: a few cycles, and the same sequence in every run. */
struct rng {
  uint64_t state;
};

static inline struct rng rng_seed(uint64_t seed) {
  return (struct rng){seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du};
}

static inline uint64_t rng_next(struct rng *rng) {
  uint64_t x = rng->state;

  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  rng->state = x;
  return x * 0x2545f4914f6cdd1du;
}

/* Uniform in [0, bound), without a division. */
static inline size_t rng_below(struct rng *rng, size_t bound) {
  return (size_t)(((rng_next(rng) >> 32) * bound) >> 32);
}

/* Drawn once, so that the timed loops pay one load for a size. */
enum { SIZE_TABLE_LEN = 8192 };

struct size_table {
  const char *name;
  uint32_t size[SIZE_TABLE_LEN];
};

/* Every power of two between 16 B and 1 KiB is as likely as every other. */
const struct size_table *sizes_log(void);
/* As sizes_log, but one request in 25 is of 1 to 8 KiB, and one in 100 of 8 to 64 KiB. */
const struct size_table *sizes_mixed(void);

/* The compiler must assume that the block is looked at, and that its bytes change. */
static inline void *opaque(void *block) {
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}

/* Writes to one byte of each 4 KiB of the block. */
static inline void touch_pages(void *block, size_t size) {
  volatile unsigned char *byte = block;

  for (size_t at = 0; at < size; at += 4096) byte[at] = 1;
}

/* Ends the program: a benchmark that runs out of memory has no result. */
void out_of_memory(void) __attribute__((noreturn, cold));

static inline void *checked(void *block) {
  if (__builtin_expect(block == NULL, 0)) out_of_memory();
  return opaque(block);
}

/* One per file of benchmarks. */
void register_pairs(void);
void register_live(void);
void register_batches(void);
void register_threads(void);
void register_large(void);

#endif
