/*
 * A heap of small objects of mixed classes, a share of which is freed at random: what the
 * benchmarks of compaction work on. Every object is filled with a pattern of its own, so that one
 * moved wrongly is seen.
 */
#ifndef BENCH_SPARSE_HEAP_H
#define BENCH_SPARSE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPARSE_SIZES = 18 };

extern const uint16_t sparse_size[SPARSE_SIZES]; /* multiples of 8 */

/* The tables are no part of the heap: no allocator serves them. */
struct sparse_heap {
  size_t count;
  uint64_t **object;   /* NULL once freed */
  uint8_t *size_class; /* index into sparse_size */
  uint32_t *order;     /* objects in random order: the first `freed` of them are gone */
  size_t freed;
  size_t live_bytes; /* as asked for */
};

/* Only the tables, for `bytes` of objects: as many of each size, interleaved at random. */
void sparse_prepare(struct sparse_heap *heap, size_t bytes, uint64_t seed);

/* Allocates and fills all objects. */
void sparse_fill(struct sparse_heap *heap);

/* Frees so many per cent of the objects, in random order. */
void sparse_free(struct sparse_heap *heap, unsigned percent);

/* Objects whose contents are not what was written; the first `skip` words of each are not looked
 * at. Says on standard error which is the first. */
size_t sparse_damaged(const struct sparse_heap *heap, size_t skip);

/* The live objects, by their index among them. */
static inline size_t sparse_live_count(const struct sparse_heap *heap) {
  return heap->count - heap->freed;
}

static inline uint64_t *sparse_live(const struct sparse_heap *heap, size_t index) {
  return heap->object[heap->order[heap->freed + index]];
}

static inline size_t sparse_words(const struct sparse_heap *heap, size_t index) {
  return sparse_size[heap->size_class[heap->order[heap->freed + index]]] / 8;
}

/* What a benchmark may do instead of waiting for an allocator to give memory back. */
enum sparse_call { CALL_NOTHING, CALL_COMPACT, CALL_TRIM };

/* Whether the name is one of: wait, compact, trim. */
bool sparse_call_named(const char *name, enum sparse_call *call);

/* False where the allocator has no such function. */
bool sparse_call_run(enum sparse_call call);

#endif
