/* Requests of many pages, calloc, and blocks that grow: here page faults, memset and memcpy decide.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

static void large(struct gb_state *state, const void *arg) {
  size_t size = *(const size_t *)arg;

  while (gb_running(state, 1)) {
    void *block = checked(malloc(size));

    touch_pages(block, size);
    free(block);
  }
  gb_set_items(state, gb_iterations(state));
}

struct zeroed {
  size_t size;
  bool touched;
};

static void zeroed(struct gb_state *state, const void *arg) {
  const struct zeroed *request = arg;

  while (gb_running(state, 1)) {
    void *block = checked(calloc(1, request->size));

    if (request->touched) touch_pages(block, request->size);
    free(block);
  }
  gb_set_items(state, gb_iterations(state));
}

struct growth {
  size_t first;
  size_t last;
  size_t step; /* 0: double each time */
};

/* One block from `first` to `last`; one item is one realloc. What is new is written to, as a
 * program that appends would. */
static void growth(struct gb_state *state, const void *arg) {
  const struct growth *growth = arg;
  uint64_t reallocs = 0;

  while (gb_running(state, 1)) {
    size_t size = growth->first;
    char *block = checked(malloc(size));

    touch_pages(block, size);
    while (size < growth->last) {
      size_t larger = growth->step == 0 ? 2 * size : size + growth->step;

      block = checked(realloc(block, larger));
      touch_pages(block + size, larger - size);
      size = larger;
      reallocs++;
    }
    free(block);
  }
  gb_set_items(state, reallocs);
}

void register_large(void) {
  static const size_t sizes[] = {128 * KIB, 256 * KIB, MIB, 4 * MIB, 32 * MIB};
  static const struct zeroed zeroes[] = {
      {64, false},        {64, true},        {4 * KIB, false},  {4 * KIB, true},
      {256 * KIB, false}, {256 * KIB, true}, {16 * MIB, false}, {16 * MIB, true},
  };
  static const struct growth doubling = {16, MIB, 0};
  static const struct growth creeping = {4 * KIB, 64 * MIB, 4 * KIB};
  char name[64];

  for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
    snprintf(name, sizeof(name), "large/%zuK", sizes[i] / KIB);
    gb_register(&(struct gb_benchmark){name, large, &sizes[i], 1, 0});
  }
  for (size_t i = 0; i < ARRAY_LEN(zeroes); i++) {
    snprintf(name, sizeof(name), "calloc/%zu/%s", zeroes[i].size,
             zeroes[i].touched ? "touched" : "untouched");
    gb_register(&(struct gb_benchmark){name, zeroed, &zeroes[i], 1, 0});
  }
  gb_register(&(struct gb_benchmark){"realloc/double/1M", growth, &doubling, 1, 0});
  gb_register(&(struct gb_benchmark){"realloc/creep/64M", growth, &creeping, 1, 0});
}
