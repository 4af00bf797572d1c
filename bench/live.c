/*
 * A set of live blocks of random sizes, in which each step frees a random one and puts a new one in
 * its place. It is what a long-running program looks like to its allocator: the larger the set, the
 * more of the time is misses in the processor's caches, which the placement of blocks decides.
 *
 * The number of steps is fixed, so that every allocator sees the very same requests and the set is
 * built only once in a run.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum { STEP_BATCH = 1000 };

struct live_set {
  const struct size_table *sizes;
  size_t objects;
};

static void *new_object(const struct live_set *set, struct rng *rng) {
  void *block = checked(malloc(set->sizes->size[rng_next(rng) >> 51]));

  /* The smallest request is of 16 bytes. */
  ((volatile uint64_t *)block)[0] = 1;
  ((volatile uint64_t *)block)[1] = 2;
  return block;
}

static void live(struct gb_state *state, const void *arg) {
  const struct live_set *set = arg;
  struct rng rng = rng_seed((uint64_t)gb_thread(state) + 1);
  void **objects = checked(malloc(set->objects * sizeof(*objects)));

  _Static_assert(SIZE_TABLE_LEN == 1 << (64 - 51), "the shift above draws from the whole table");
  for (size_t i = 0; i < set->objects; i++) objects[i] = new_object(set, &rng);

  while (gb_running(state, STEP_BATCH)) {
    for (int i = 0; i < STEP_BATCH; i++) {
      void **slot = &objects[rng_below(&rng, set->objects)];

      free(*slot);
      *slot = new_object(set, &rng);
    }
  }
  gb_set_items(state, gb_iterations(state));

  for (size_t i = 0; i < set->objects; i++) free(objects[i]);
  free(objects);
}

void register_live(void) {
  static const size_t counts[] = {1000, 10000, 100000, 1000000};
  static struct live_set sets[2][ARRAY_LEN(counts)];
  const struct size_table *const tables[] = {sizes_log(), sizes_mixed()};
  char name[64];

  for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
      uint64_t steps = counts[i] > 10000 ? 1500000 : 4000000;

      sets[t][i] = (struct live_set){tables[t], counts[i]};
      snprintf(name, sizeof(name), "live/%s/%zu", tables[t]->name, counts[i]);
      gb_register(&(struct gb_benchmark){name, live, &sets[t][i], 1, steps});
    }
  }
  gb_register(&(struct gb_benchmark){"live2/log/10000", live, &sets[0][1], 2, 3000000});
  gb_register(&(struct gb_benchmark){"live2/mixed/100000", live, &sets[1][2], 2, 1000000});
}
