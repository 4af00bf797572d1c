/* See sparse_heap.h. */
#include "sparse_heap.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "memory.h"

const uint16_t sparse_size[SPARSE_SIZES] = {16,  24,  32,  48,  64,  80,  96,  128, 160,
                                            192, 240, 256, 320, 400, 512, 640, 800, 1024};

static uint64_t pattern(size_t object, size_t word) {
  uint64_t x = (object * 0x9e3779b97f4a7c15u) ^ (word * 0xd6e8feb86659fd93u);

  x ^= x >> 32;
  return x * 0xff51afd7ed558ccdu;
}

void sparse_prepare(struct sparse_heap *heap, size_t bytes, uint64_t seed) {
  struct rng rng = rng_seed(seed);
  size_t of_each = 0;

  for (int i = 0; i < SPARSE_SIZES; i++) of_each += sparse_size[i];
  of_each = bytes / of_each;
  memset(heap, 0, sizeof(*heap));
  heap->count = of_each * SPARSE_SIZES;
  heap->object = memory_table(heap->count * sizeof(*heap->object));
  heap->size_class = memory_table(heap->count);
  heap->order = memory_table(heap->count * sizeof(*heap->order));
  for (size_t i = 0; i < heap->count; i++) {
    heap->size_class[i] = (uint8_t)(i % SPARSE_SIZES);
    heap->order[i] = (uint32_t)i;
  }
  for (size_t i = heap->count - 1; i > 0; i--) {
    size_t j = rng_below(&rng, i + 1), k = rng_below(&rng, i + 1);
    uint8_t class = heap->size_class[i];
    uint32_t place = heap->order[i];

    heap->size_class[i] = heap->size_class[j];
    heap->size_class[j] = class;
    heap->order[i] = heap->order[k];
    heap->order[k] = place;
  }
}

void sparse_fill(struct sparse_heap *heap) {
  heap->freed = 0;
  heap->live_bytes = 0;
  for (size_t i = 0; i < heap->count; i++) {
    size_t size = sparse_size[heap->size_class[i]];
    uint64_t *object = checked(malloc(size));

    for (size_t word = 0; word < size / 8; word++) object[word] = pattern(i, word);
    heap->object[i] = object;
    heap->live_bytes += size;
  }
}

void sparse_free(struct sparse_heap *heap, unsigned percent) {
  size_t gone = heap->count * percent / 100;

  for (; heap->freed < gone; heap->freed++) {
    size_t i = heap->order[heap->freed];

    free(heap->object[i]);
    heap->object[i] = NULL;
    heap->live_bytes -= sparse_size[heap->size_class[i]];
  }
}

size_t sparse_damaged(const struct sparse_heap *heap, size_t skip) {
  size_t damaged = 0;

  for (size_t i = 0; i < heap->count; i++) {
    const uint64_t *object = heap->object[i];
    size_t words = sparse_size[heap->size_class[i]] / 8, word = skip;

    if (object == NULL) continue;
    while (word < words && object[word] == pattern(i, word)) word++;
    if (word >= words) continue;
    if (damaged++ == 0)
      fprintf(stderr, "bench: object %zu of %zu bytes at %p: word %zu is %016" PRIx64 "\n", i,
              words * 8, (const void *)object, word, object[word]);
  }
  return damaged;
}

bool sparse_call_named(const char *name, enum sparse_call *call) {
  if (strcmp(name, "wait") == 0)
    *call = CALL_NOTHING;
  else if (strcmp(name, "compact") == 0)
    *call = CALL_COMPACT;
  else if (strcmp(name, "trim") == 0)
    *call = CALL_TRIM;
  else
    return false;
  return true;
}

/* Looked up by name, since the program is built for all allocators and linked with none. */
bool sparse_call_run(enum sparse_call call) {
  if (call == CALL_COMPACT) {
    size_t (*compact)(void) = (size_t(*)(void))dlsym(RTLD_DEFAULT, "quire_compact");
    if (compact == NULL) return false;
    compact();
  } else if (call == CALL_TRIM) {
    malloc_trim(0);
  }
  return true;
}
