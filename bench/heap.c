/*
 * Builds a heap of 1 GiB of mixed sizes, all of it written to, and prints as JSON what was asked
 * for and by how much the process grew for it (PSS), both in bytes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "quire.h"

/* There when the program runs on quire, and only then. */
#pragma weak quire_stats

static const size_t HEAP_BYTES = (size_t)1 << 30;

/* In bytes; 0 where the kernel does not tell. */
static size_t proportional_set_size(void) {
  static char line[4096];
  FILE *file = fopen("/proc/self/smaps_rollup", "r");
  size_t kib = 0;

  if (file == NULL) return 0;
  while (fgets(line, sizeof(line), file) != NULL)
    if (sscanf(line, "Pss: %zu kB", &kib) == 1) break;
  fclose(file);
  return kib * 1024;
}

int main(void) {
  const struct size_table *sizes = sizes_mixed();
  struct rng rng = rng_seed(42);
  void **last = NULL;
  size_t live = 0, blocks = 0;
  size_t before = proportional_set_size();

  /* Each block holds the one before it: the heap stays reachable without an array beside it. */
  for (; live < HEAP_BYTES; blocks++) {
    size_t size = sizes->size[rng_next(&rng) >> 51];
    void **block = checked(malloc(size));

    memset(block, 1, size);
    *block = last;
    last = opaque(block);
    live += size;
  }
  size_t held = proportional_set_size() - before;
  printf("{\"live\": %zu, \"blocks\": %zu, \"pss\": %zu", live, blocks, held);
  struct quire_stats stats;
  if (quire_stats != NULL && quire_stats(&stats) == 0)
    printf(", \"metadata\": %" PRIu64 ", \"quire_live\": %" PRIu64, stats.metadata, stats.live);
  puts("}");
  return 0;
}
