/*
 * A heap to look at while it works: so many MiB of small objects, some of them freed, of which
 * then random ones are replaced for as long as is asked.
 *
 * usage: look MIB
 *
 * Prints "ready"; then, for every number of milliseconds on standard input, how many objects it has
 * replaced in that time.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t state = 88172645463325252ull;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *make(void) {
  size_t size = 64 + next() % 960;
  void *p = malloc(size);
  if (p == NULL) exit(1);
  memset(p, 1, size);
  return p;
}

int main(int argc, char **argv) {
  size_t most = (argc > 1 ? strtoul(argv[1], NULL, 10) : 256) << 20, n = most / 544;
  char line[64];
  void **objects = malloc(n * sizeof *objects);
  if (objects == NULL) return 1;
  for (size_t i = 0; i < n; i++) objects[i] = make();
  for (size_t i = 0; i < n; i++)
    if (next() % 100 < 40) {
      free(objects[i]);
      objects[i] = NULL;
    }
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    uint64_t end = now_ns() + strtoul(line, NULL, 10) * 1000000, count = 0;
    do {
      for (unsigned i = 0; i < 256; i++, count++) {
        size_t at = next() % n;
        if (objects[at] == NULL) continue;
        free(objects[at]);
        objects[at] = make();
      }
    } while (now_ns() < end);
    printf("%llu\n", (unsigned long long)count);
    fflush(stdout);
  }
  return 0;
}
