/*
 * Blocks that are freed by another thread than the one that allocated them, and threads that come
 * and go.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

/*
 * A ring for one producer and one consumer. Positions only grow. Each side publishes its position
 * once in CHUNK objects and looks at the other's only when it has used up what it last saw, so that
 * the two exchange a few cache lines per chunk and the ring costs next to nothing beside the
 * allocator.
 */
enum { CHUNK = 64, LINE = 128 };

struct ring {
  _Alignas(LINE) _Atomic uint64_t filled;
  _Alignas(LINE) _Atomic uint64_t drained;
  _Alignas(LINE) uint64_t capacity; /* a power of two, at least CHUNK */
  const struct size_table *sizes;   /* NULL: all of 64 bytes */
  void **slot;
};

/* Waits until the position has reached `least`; returns it. Yields in case both sides share a core.
 */
static uint64_t wait_for(_Atomic uint64_t *position, uint64_t least) {
  for (int spins = 0;; spins++) {
    uint64_t seen = atomic_load_explicit(position, memory_order_acquire);

    if (seen >= least) return seen;
    if (spins > 2000) sched_yield();
  }
}

static uint64_t produce(struct gb_state *state, struct ring *ring) {
  struct rng rng = rng_seed(7);
  uint64_t filled = 0, drained = 0;

  while (gb_running(state, CHUNK)) {
    if (filled + CHUNK > drained + ring->capacity)
      drained = wait_for(&ring->drained, filled + CHUNK - ring->capacity);
    for (int i = 0; i < CHUNK; i++, filled++) {
      size_t size = ring->sizes != NULL ? ring->sizes->size[rng_next(&rng) >> 51] : 64;
      void *block = checked(malloc(size));

      *(volatile char *)block = 1;
      ring->slot[filled & (ring->capacity - 1)] = block;
    }
    atomic_store_explicit(&ring->filled, filled, memory_order_release);
  }
  return filled;
}

static void consume(struct gb_state *state, struct ring *ring) {
  uint64_t filled = 0, drained = 0;

  while (gb_running(state, CHUNK)) {
    if (drained + CHUNK > filled) filled = wait_for(&ring->filled, drained + CHUNK);
    for (int i = 0; i < CHUNK; i++, drained++) free(ring->slot[drained & (ring->capacity - 1)]);
    atomic_store_explicit(&ring->drained, drained, memory_order_release);
  }
}

/*
 * The library calls this in two threads at once, with the same number of iterations. The ring is
 * made anew between two such calls: gb_running()'s barrier at the end parts the last use from the
 * reset.
 */
static void handover(struct gb_state *state, const void *arg) {
  struct ring *ring = (struct ring *)(uintptr_t)arg;

  if (gb_thread(state) == 0) {
    gb_set_items(state, produce(state, ring));
    atomic_store(&ring->filled, 0);
    atomic_store(&ring->drained, 0);
  } else {
    consume(state, ring);
  }
}

static struct ring *ring_new(const struct size_table *sizes, uint64_t capacity) {
  struct ring *ring = aligned_alloc(LINE, sizeof(*ring));

  checked(ring);
  *ring = (struct ring){.capacity = capacity, .sizes = sizes};
  ring->slot = checked(calloc(capacity, sizeof(*ring->slot)));
  return ring;
}

struct worker {
  size_t blocks;
};

static void *short_life(void *arg) {
  const struct worker *worker = arg;
  const struct size_table *sizes = sizes_log();
  void *blocks[512];

  for (size_t i = 0; i < worker->blocks; i++) {
    blocks[i] = checked(malloc(sizes->size[i]));
    *(volatile char *)blocks[i] = 1;
  }
  for (size_t i = 0; i < worker->blocks; i++) free(blocks[i]);
  return NULL;
}

/* A thread is started, allocates some blocks, frees them, ends and is waited for. */
static void churn(struct gb_state *state, const void *arg) {
  struct worker worker = *(const struct worker *)arg;

  while (gb_running(state, 1)) {
    pthread_t thread;

    if (pthread_create(&thread, NULL, short_life, &worker) != 0) out_of_memory();
    pthread_join(thread, NULL);
  }
  gb_set_items(state, gb_iterations(state));
}

void register_threads(void) {
  static const struct worker workers[] = {{1}, {300}};
  char name[64];

  gb_register(&(struct gb_benchmark){"handover/64/1024", handover, ring_new(NULL, 1024), 2, 0});
  gb_register(&(struct gb_benchmark){"handover/64/16384", handover, ring_new(NULL, 16384), 2, 0});
  gb_register(
      &(struct gb_benchmark){"handover/log/1024", handover, ring_new(sizes_log(), 1024), 2, 0});
  gb_register(
      &(struct gb_benchmark){"handover/log/16384", handover, ring_new(sizes_log(), 16384), 2, 0});
  for (size_t i = 0; i < ARRAY_LEN(workers); i++) {
    snprintf(name, sizeof(name), "churn/%zu", workers[i].blocks);
    gb_register(&(struct gb_benchmark){name, churn, &workers[i], 1, 0});
  }
}
