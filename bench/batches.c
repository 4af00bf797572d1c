/* Many blocks allocated, then all freed, in the order they came or in the opposite one. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

struct batch {
  size_t count;
  bool last_first;
  size_t size; /* 0: random, sizes_log() */
};

static void *batch_block(const struct batch *batch, size_t index) {
  size_t size = batch->size;

  if (size == 0) size = sizes_log()->size[index % SIZE_TABLE_LEN];
  void *block = checked(malloc(size));
  *(volatile char *)block = 1;
  return block;
}

static void batches(struct gb_state *state, const void *arg) {
  const struct batch *batch = arg;
  size_t count = batch->count;
  void **blocks = checked(malloc(count * sizeof(*blocks)));

  while (gb_running(state, count)) {
    for (size_t i = 0; i < count; i++) blocks[i] = batch_block(batch, i);
    if (batch->last_first) {
      for (size_t i = count; i > 0; i--) free(blocks[i - 1]);
    } else {
      for (size_t i = 0; i < count; i++) free(blocks[i]);
    }
  }
  gb_set_items(state, gb_iterations(state));
  free(blocks);
}

void register_batches(void) {
  static const struct batch kinds[] = {
      {1000, true, 64},  {1000, false, 64},  {1000, true, 0},  {1000, false, 0},
      {10000, true, 64}, {10000, false, 64}, {10000, true, 0}, {10000, false, 0},
  };
  char name[64];

  for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
    snprintf(name, sizeof(name), "batch/%s/%zu/%s", kinds[i].size == 0 ? "log" : "64",
             kinds[i].count, kinds[i].last_first ? "lifo" : "fifo");
    gb_register(&(struct gb_benchmark){name, batches, &kinds[i], 1, 0});
  }
}
