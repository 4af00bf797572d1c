/* A block allocated and freed at once: the fast path and nothing else. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum { PAIR_BATCH = 1000 };

static void pair(struct gb_state *state, const void *arg) {
  size_t size = *(const size_t *)arg;

  while (gb_running(state, PAIR_BATCH))
    for (int i = 0; i < PAIR_BATCH; i++) free(checked(malloc(size)));
  gb_set_items(state, gb_iterations(state));
}

/* Several blocks at a time, so that one remembered block is not enough. */
enum { ALIGNED_AT_ONCE = 16 };

struct aligned_request {
  size_t alignment;
  size_t size;
};

static void aligned(struct gb_state *state, const void *arg) {
  const struct aligned_request *request = arg;
  void *blocks[ALIGNED_AT_ONCE];

  while (gb_running(state, ALIGNED_AT_ONCE)) {
    for (int i = 0; i < ALIGNED_AT_ONCE; i++) {
      if (posix_memalign(&blocks[i], request->alignment, request->size) != 0) out_of_memory();
      *(volatile char *)opaque(blocks[i]) = 1;
    }
    for (int i = 0; i < ALIGNED_AT_ONCE; i++) free(blocks[i]);
  }
  gb_set_items(state, gb_iterations(state));
}

void register_pairs(void) {
  static const size_t sizes[] = {8, 16, 32, 64, 128, 256, 512, 1024, 4096, 32768};
  static const struct aligned_request requests[] = {
      {64, 64}, {64, 200}, {4096, 4096}, {4096, 10000}, {65536, 65536}};
  char name[64];

  for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
    snprintf(name, sizeof(name), "pair/%zu", sizes[i]);
    gb_register(&(struct gb_benchmark){name, pair, &sizes[i], 1, 0});
  }
  for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
    snprintf(name, sizeof(name), "aligned/%zu/%zu", requests[i].alignment, requests[i].size);
    gb_register(&(struct gb_benchmark){name, aligned, &requests[i], 1, 0});
  }
}
