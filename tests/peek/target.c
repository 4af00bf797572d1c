/* A program that knows nothing of being read: threads that allocate and free all the time.
 *
 * Line by line it does what it is told on standard input and answers with one line each:
 *   quiet   the threads stop where they are; "numbers: " and those of quire_stats that a reader can
 * count end     exits */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quire.h"

enum { THREADS = 4, HELD = 2000 };

/* Found only where quire is loaded. */
extern __typeof__(quire_stats) quire_stats __attribute__((weak));

static pthread_barrier_t stopped;
static bool quiet;
static uint64_t steps[THREADS];

static size_t random_size(uint32_t *random) {
  *random = *random * 1664525 + 1013904223;
  uint32_t r = *random >> 8;
  if (r % 64 == 0) return 65537 + r % 3000000; /* a folio */
  return r % 16 == 0 ? r % 60000 : r % 2000;
}

static void *churn(void *arg) {
  static char *held[THREADS][HELD];
  unsigned t = (unsigned)(uintptr_t)arg;
  uint32_t random = t + 1;
  while (!__atomic_load_n(&quiet, __ATOMIC_ACQUIRE)) {
    size_t size = random_size(&random);
    char **p = &held[t][(random >> 12) % HELD];
    if (random >> 30 == 0)
      *p = realloc(*p, size + 1);
    else {
      free(*p);
      *p = malloc(size + 1);
    }
    if (*p == NULL) abort();
    (*p)[0] = (*p)[size] = 1;
    __atomic_fetch_add(&steps[t], 1, __ATOMIC_RELAXED);
  }
  pthread_barrier_wait(&stopped);
  pause(); /* with a full cache, until the process ends */
  return NULL;
}

static void print_numbers(void) {
  struct quire_stats st;
  uint64_t sum = 0;
  for (int t = 0; t < THREADS; t++) sum += steps[t];
  if (quire_stats(&st) != 0) abort();
  dprintf(1, "numbers: %llu %llu %llu %llu %llu %llu %llu\n", (unsigned long long)sum,
          (unsigned long long)st.frames_opened, (unsigned long long)st.frames_used,
          (unsigned long long)st.frames_dirty, (unsigned long long)st.nslabs,
          (unsigned long long)st.nfolios, (unsigned long long)st.slab_free);
}

int main(void) {
  pthread_t thread;
  char line[64];
  ssize_t n;
  if (quire_stats == NULL) {
    dprintf(1, "not on quire\n");
    return 1;
  }
  pthread_barrier_init(&stopped, NULL, THREADS + 1);
  for (uintptr_t t = 0; t < THREADS; t++)
    if (pthread_create(&thread, NULL, churn, (void *)t) != 0) abort();
  dprintf(1, "started\n");
  /* No stdio: once quiet, nothing may allocate. */
  while ((n = read(0, line, sizeof line)) > 0) {
    if (strncmp(line, "quiet\n", (size_t)n) == 0) {
      __atomic_store_n(&quiet, true, __ATOMIC_RELEASE);
      pthread_barrier_wait(&stopped);
      print_numbers();
    } else if (strncmp(line, "end\n", (size_t)n) == 0) {
      break;
    }
  }
  return 0;
}
