/* Tables of request sizes, and what all the benchmark programs do when there is no memory. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

void out_of_memory(void) {
  fputs("bench: out of memory\n", stderr);
  exit(3);
}

/* A size whose logarithm is uniform between those of the bounds. */
static uint32_t log_uniform(struct rng *rng, double low, double high) {
  double unit = (double)(rng_next(rng) >> 11) * 0x1p-53;

  return (uint32_t)(low * pow(high / low, unit));
}

static struct size_table log_table = {.name = "log"};
static struct size_table mixed_table = {.name = "mixed"};

static void fill_tables(void) {
  struct rng rng = rng_seed(1);

  for (int i = 0; i < SIZE_TABLE_LEN; i++) log_table.size[i] = log_uniform(&rng, 16, 1024);
  for (int i = 0; i < SIZE_TABLE_LEN; i++) {
    size_t die = rng_below(&rng, 100);

    if (die == 0)
      mixed_table.size[i] = log_uniform(&rng, 8192, 65536);
    else if (die < 5)
      mixed_table.size[i] = log_uniform(&rng, 1024, 8192);
    else
      mixed_table.size[i] = log_uniform(&rng, 16, 1024);
  }
}

const struct size_table *sizes_log(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, fill_tables);
  return &log_table;
}

const struct size_table *sizes_mixed(void) {
  sizes_log();
  return &mixed_table;
}
