/* A program that knows nothing of being looked at, and makes a heap of what it is told.
 *
 *   target still         threads fill a heap, stop, and it prints what quire_stats says: name value
 *   target busy          threads allocate and free for ever
 *   target sparse        a heap of which nine tenths were freed at random, and some large blocks
 *   target fork          forks all the time: children allocate, execute `target child`, and exit
 *
 * Prints "ready" once it is so. */
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "quire.h"

enum { THREADS = 3, HELD = 3000, STEPS = 200000, SPARSE = 400000, LARGE = 4, LARGE_SIZE = 3 << 20 };
enum { CHILDREN = 4, CHILD_HELD = 500, SHORT_LIFE = 2000, LONG_LIFE = 2000000 };

/* Found only where quire is loaded. */
extern __typeof__(quire_stats) quire_stats __attribute__((weak));
extern __typeof__(quire_stats_format) quire_stats_format __attribute__((weak));
extern __typeof__(quire_walk) quire_walk __attribute__((weak));

static pthread_barrier_t stopped;
static unsigned long steps_wanted;

static _Noreturn void fail(const char *what) {
  perror(what);
  abort();
}

static size_t random_size(uint32_t *random) {
  *random = *random * 1664525 + 1013904223;
  uint32_t r = *random >> 8;
  if (r % 256 == 0) return 65537 + r % 3000000; /* a folio */
  return r % 16 == 0 ? r % 60000 : r % 1500;
}

static void *churn(void *arg) {
  static char *held[THREADS][HELD];
  unsigned t = (unsigned)(uintptr_t)arg;
  uint32_t random = t + 1;
  for (unsigned long step = 0; steps_wanted == 0 || step < steps_wanted; step++) {
    size_t size = random_size(&random);
    char **p = &held[t][(random >> 12) % HELD];
    if (random >> 30 == 0) {
      *p = realloc(*p, size + 1);
    } else {
      free(*p);
      *p = malloc(size + 1);
    }
    if (*p == NULL) fail("malloc");
    (*p)[0] = (*p)[size] = 1;
  }
  pthread_barrier_wait(&stopped);
  pause(); /* with a full cache, until the process ends */
  return NULL;
}

static void start_threads(void) {
  pthread_t thread;
  pthread_barrier_init(&stopped, NULL, THREADS + 1);
  for (uintptr_t t = 0; t < THREADS; t++)
    if (pthread_create(&thread, NULL, churn, (void *)t) != 0) abort();
}

/* dprintf would allocate, and nothing may be allocated between the numbers and their reading. */
static __attribute__((format(printf, 1, 2))) void say(const char *format, ...) {
  static char text[16384];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (write(1, text, (size_t)n) != n) abort();
}

struct walked {
  unsigned long runs[5], frames[5], slots, free_slots, resident;
};

static int count(const struct quire_walk_item *item, void *arg) {
  struct walked *w = arg;
  w->runs[item->type]++;
  w->frames[item->type] += item->frames;
  w->slots += item->slots;
  w->free_slots += item->free_slots;
  w->resident += item->resident;
  return 0;
}

static void print_numbers(void) {
  struct quire_stats stats;
  struct walked w = {0};
  static char text[8192];
  if (quire_stats == NULL || quire_stats(&stats) != 0 || quire_walk(count, &w) != 0) abort();
  (void)quire_stats_format(&stats, QUIRE_JSON, text, sizeof text);
  for (char *c = text; *c != 0; c++)
    if (strchr("{}\":,", *c) != NULL) *c = ' ';
  say("%s\n", text);
  say("walk_slabs %lu\nwalk_folios %lu\nwalk_slab_frames %lu\nwalk_folio_frames %lu\n",
      w.runs[QUIRE_WALK_SLAB], w.runs[QUIRE_WALK_FOLIO], w.frames[QUIRE_WALK_SLAB],
      w.frames[QUIRE_WALK_FOLIO]);
  say("walk_slots %lu\nwalk_free_slots %lu\nwalk_resident %lu\n", w.slots, w.free_slots,
      w.resident);
}

static void still(void) {
  steps_wanted = STEPS;
  start_threads();
  pthread_barrier_wait(&stopped);
  print_numbers();
}

static void sparse(void) {
  static char *held[SPARSE];
  uint32_t random = 7;
  for (int i = 0; i < SPARSE; i++) {
    random = random * 1664525 + 1013904223;
    size_t size = 32 + (random >> 10) % 400;
    held[i] = malloc(size);
    if (held[i] == NULL) abort();
    memset(held[i], (int)i, size);
  }
  for (int i = 0; i < SPARSE; i++) {
    random = random * 1664525 + 1013904223;
    if ((random >> 16) % 10 != 0) free(held[i]), held[i] = NULL;
  }
  char *large[LARGE];
  for (int i = 0; i < LARGE; i++) large[i] = memset(malloc(LARGE_SIZE), i, LARGE_SIZE);
  for (int i = 0; i < LARGE; i++) free(large[i]);
}

static void child(int steps) {
  static char *held[CHILD_HELD];
  uint32_t random = (uint32_t)getpid();
  for (int i = 0; i < steps; i++) {
    size_t size = random_size(&random);
    char **p = &held[(random >> 12) % CHILD_HELD];
    free(*p);
    *p = malloc(size + 1);
    if (*p == NULL) fail("malloc");
    (*p)[size] = 1;
  }
}

/* Half of them live on with the parent's heap, half execute a program of their own. */
static _Noreturn void live_as_child(const char *self, bool lasting) {
  child(lasting ? LONG_LIFE : SHORT_LIFE);
  if (getpid() / 2 % 2 == 0) execl(self, self, "child", lasting ? "long" : "short", (char *)NULL);
  _exit(0);
}

/* Most children are over before anybody can look at them; one at a time lasts a little longer. */
static void keep_forking(const char *self) {
  pid_t lasting = 0;
  unsigned alive = 0;
  say("ready\n");
  for (;;) {
    bool lasts = lasting == 0;
    pid_t pid = fork();
    if (pid == 0) live_as_child(self, lasts);
    if (pid < 0) fail("fork");
    if (lasts) lasting = pid;
    for (alive++; alive >= CHILDREN; alive--)
      if (waitpid(-1, NULL, 0) == lasting) lasting = 0;
  }
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (strcmp(what, "child") == 0) {
    child(argc > 2 && strcmp(argv[2], "long") == 0 ? LONG_LIFE : SHORT_LIFE);
    return 0;
  }
  if (strcmp(what, "fork") == 0) {
    steps_wanted = 0;
    start_threads();
    keep_forking(argv[0]);
  }
  if (strcmp(what, "still") == 0) still();
  if (strcmp(what, "sparse") == 0) sparse();
  if (strcmp(what, "busy") == 0) start_threads();
  say("ready\n");
  for (;;) pause();
}
