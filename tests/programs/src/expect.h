// What the test programs share: one line per case, and a status that says whether all held.
#ifndef TESTS_PROGRAMS_EXPECT_H
#define TESTS_PROGRAMS_EXPECT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int expect_failures;

__attribute__((unused)) static void expect(const char *name, int holds) {
  if (holds) {
    printf("PASS %s\n", name);
  } else {
    printf("FAIL %s: %s\n", name, "does not hold");
    expect_failures++;
  }
  fflush(stdout);
}

// A small generator, so that every run of a program does the same.
__attribute__((unused)) static uint32_t expect_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 33);
}

// Fills and checks a block with bytes that depend on its seed: a block that somebody else wrote to,
// or that overlaps another, shows.
__attribute__((unused)) static void expect_fill(void *block, size_t size, unsigned seed) {
  unsigned char *bytes = (unsigned char *)block;
  for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(seed + i * 7);
}

__attribute__((unused)) static int expect_filled(const void *block, size_t size, unsigned seed) {
  const unsigned char *bytes = (const unsigned char *)block;
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] != (unsigned char)(seed + i * 7)) return 0;
  }
  return 1;
}

// Some thousand blocks of mixed sizes that come and go, each checked before it goes. Returns 1 when
// all bytes were as they were left.
__attribute__((unused)) static int expect_churn(unsigned rounds, uint64_t seed) {
  enum { SLOTS = 512 };
  struct {
    void *block;
    size_t size;
    unsigned seed;
  } slots[SLOTS];
  memset(slots, 0, sizeof slots);
  int good = 1;
  for (unsigned i = 0; i < rounds && good; i++) {
    uint32_t n = expect_random(&seed);
    unsigned slot = n % SLOTS;
    if (slots[slot].block) {
      good = expect_filled(slots[slot].block, slots[slot].size, slots[slot].seed);
      if (n >> 9 & 1) {
        free(slots[slot].block);
        slots[slot].block = NULL;
        continue;
      }
    }
    uint32_t kind = expect_random(&seed) % 100;
    size_t size = 1 + expect_random(&seed) % (kind < 80 ? 256 : kind < 98 ? 8192 : 300000);
    void *block = realloc(slots[slot].block, size);
    size_t kept = size < slots[slot].size ? size : slots[slot].size;
    if (!block || (slots[slot].block && !expect_filled(block, kept, slots[slot].seed))) {
      good = 0;
      break;
    }
    slots[slot].block = block;
    slots[slot].size = size;
    slots[slot].seed = n;
    expect_fill(block, size, n);
  }
  for (unsigned i = 0; i < SLOTS; i++) free(slots[i].block);
  return good;
}

#endif
