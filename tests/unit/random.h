/* A small generator for tests, so that a run can be repeated by its seed: SplitMix64 (Steele, Lea,
 * Flood, OOPSLA 2014). Not thread safe: each thread has its own. */
#ifndef QUIRE_TESTS_UNIT_RANDOM_H
#define QUIRE_TESTS_UNIT_RANDOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct random {
  uint64_t state;
};

static inline uint64_t random_next(struct random *r) {
  uint64_t z = r->state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static inline size_t random_below(struct random *r, size_t n) { return random_next(r) % n; }

/* Few large numbers and many small ones, as programs ask for: up to 2^max_log - 1. */
static inline size_t random_size(struct random *r, unsigned max_log) {
  return random_next(r) & (((uint64_t)1 << random_below(r, max_log + 1)) - 1);
}

/* QUIRE_SEED, or a fixed one: a failure in a test run must come again. Printed. */
static inline uint64_t test_seed(void) {
  const char *text = getenv("QUIRE_SEED");
  uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 20240229;
  printf("seed %llu (QUIRE_SEED repeats it)\n", (unsigned long long)seed);
  return seed;
}

/* Steps of a long test: QUIRE_STEPS, or what the test finds right, a tenth of it where checks are
 * slow. */
static inline uint64_t test_steps(uint64_t usual) {
  const char *text = getenv("QUIRE_STEPS");
  if (text != NULL) return strtoull(text, NULL, 0);
#ifdef QUIRE_DEBUG
  return usual / 10;
#else
  return usual;
#endif
}

#endif
