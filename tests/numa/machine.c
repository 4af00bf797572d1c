/* For a machine that has two nodes of memory, with processor 0 near the first and processor 1 near
 * the second: where does the kernel say that things are? Preloaded with quire. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "quire.h"

#pragma weak quire_stats
#pragma weak quire_bring
#pragma weak quire_compact

enum { SIDES = 2, OBJECTS = 80000, PAGE = 4096, LARGE = 16 << 20, DEADLINE_S = 60, KEPT = 8 };

static uint32_t *objects[SIDES][OBJECTS];
static char *large;
static pthread_barrier_t together;
static int failures;

static void say(const char *name, bool ok, unsigned value) {
  failures += !ok;
  if (ok)
    printf("PASS %s\n", name);
  else
    printf("FAIL %s: %u\n", name, value);
}

static struct quire_stats stats(void) {
  struct quire_stats s = {0};
  (void)quire_stats(&s);
  return s;
}

static void run_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) perror("sched_setaffinity");
}

/* Tenths of a per cent of these pages that lie on the node. */
static unsigned share_of(void **pages, size_t n, int node) {
  enum { AT_ONCE = 512 };
  int status[AT_ONCE];
  size_t there = 0;
  for (size_t at = 0; at < n; at += AT_ONCE) {
    size_t here = n - at < AT_ONCE ? n - at : AT_ONCE;
    if (syscall(SYS_move_pages, 0, here, pages + at, NULL, status, 0) != 0) return 0;
    for (size_t i = 0; i < here; i++) there += status[i] == node;
  }
  return n == 0 ? 0 : (unsigned)(there * 1000 / n);
}

static size_t size_of(unsigned i) { return 64 + i * 7 % 900; }

static unsigned share_of_objects(int side) {
  static void *pages[SIDES][OBJECTS];
  size_t n = 0;
  for (unsigned i = 0; i < OBJECTS; i++)
    if (objects[side][i] != NULL)
      pages[side][n++] = (void *)((uintptr_t)objects[side][i] & ~(uintptr_t)(PAGE - 1));
  return share_of(pages[side], n, side);
}

static unsigned share_of_large(size_t size, int node) {
  static void *pages[LARGE / PAGE];
  size_t n = size / PAGE;
  for (size_t i = 0; i < n; i++)
    pages[i] = (void *)(((uintptr_t)large & ~(uintptr_t)(PAGE - 1)) + i * PAGE);
  return share_of(pages, n, node);
}

static uint32_t word_of(int side, unsigned i) { return (uint32_t)side << 31 ^ i * 2654435761u; }

static void make(int side) {
  for (unsigned i = 0; i < OBJECTS; i++) {
    objects[side][i] = malloc(size_of(i));
    for (size_t k = 0; k < size_of(i) / 4; k++) objects[side][i][k] = word_of(side, i);
  }
}

static bool intact(int side) {
  for (unsigned i = 0; i < OBJECTS; i++)
    for (size_t k = 0; objects[side][i] != NULL && k < size_of(i) / 4; k++)
      if (objects[side][i][k] != word_of(side, i)) return false;
  return true;
}

static void unmake(int side) {
  for (unsigned i = 0; i < OBJECTS; i++) {
    free(objects[side][i]);
    objects[side][i] = NULL;
  }
}

/* One in KEPT stays. */
static void thin_out(int side) {
  for (unsigned i = 0; i < OBJECTS; i++)
    if ((i * 2654435761u >> 16) % KEPT != 0) {
      free(objects[side][i]);
      objects[side][i] = NULL;
    }
}

static void *work(void *arg) {
  int side = arg != NULL;
  run_on(side);
  make(side);
  pthread_barrier_wait(&together);
  unsigned share = share_of_objects(side);
  say(side ? "objects of the second node" : "objects of the first node", share >= 900, share);
  pthread_barrier_wait(&together);
  unmake(1 - side);
  pthread_barrier_wait(&together);
  make(side);
  pthread_barrier_wait(&together);
  /* What a thread's cache holds of the other's is used first. */
  share = share_of_objects(side);
  say(side ? "the second's after it freed the first's" : "the first's after it freed the second's",
      share >= 850, share);
  thin_out(side);
  return NULL;
}

static void fill_large(void) {
  for (size_t i = 0; i < LARGE; i++) large[i] = (char)(i * 31 >> 7);
}

static bool large_is_intact(void) {
  for (size_t i = 0; i < LARGE; i++)
    if (large[i] != (char)(i * 31 >> 7)) return false;
  return true;
}

static void large_ones(void) {
  run_on(0);
  large = malloc(LARGE);
  fill_large();
  unsigned share = share_of_large(LARGE, 0);
  say("a large one of the first node", share >= 990, share);
  run_on(1);
  int err = quire_bring(large);
  say("is brought", err == 0, (unsigned)err);
  share = share_of_large(LARGE, 1);
  say("to the second", share >= 990, share);
  say("as it is", large_is_intact(), 0);
  run_on(0);
  large = realloc(large, LARGE + LARGE / 2);
  time_t until = time(NULL) + DEADLINE_S;
  while ((share = share_of_large(LARGE, 0)) < 990 && time(NULL) < until) sched_yield();
  say("and back, by itself, when it is reallocated there", share >= 990, share);
  say("nothing of it lost", large_is_intact(), 0);
  say("and all of that is counted", stats().brought >= 2 * LARGE / PAGE, (unsigned)stats().brought);
  free(large);
}

static void compacted(void) {
  (void)quire_compact();
  struct quire_stats s = stats();
  if (s.mesh_state == QUIRE_MESH_NO_KERNEL) /* as Debian 12's: all that can be had of it */
    say("too old a kernel: not meshed", s.meshed == 0, (unsigned)s.meshed);
  else
    say("meshed", s.mesh_state == QUIRE_MESH_OPEN && s.meshed > 100, s.mesh_state);
  for (int side = 0; side < SIDES; side++) {
    say(side ? "the second's are intact" : "the first's are intact", intact(side), 0);
    unsigned share = share_of_objects(side);
    say(side ? "and on the second node" : "and on the first node", share >= 850, share);
  }
}

int main(void) {
  pthread_t threads[SIDES];
  if (quire_stats == NULL) return 1;
  time_t until = time(NULL) + DEADLINE_S;
  char *p = malloc(64 << 20);
  memset(p, 1, 64 << 20);
  while (stats().numa_state == QUIRE_NUMA_UNKNOWN && time(NULL) < until) free(malloc(4 << 20));
  free(p);
  say("two nodes", stats().nodes == 2, (unsigned)stats().numa_state);
  pthread_barrier_init(&together, NULL, SIDES);
  for (int i = 0; i < SIDES; i++)
    pthread_create(&threads[i], NULL, work, i == 0 ? NULL : (void *)threads);
  for (int i = 0; i < SIDES; i++) pthread_join(threads[i], NULL);
  large_ones();
  compacted();
  struct quire_stats s = stats();
  printf("frames by node: %llu, %llu, %llu; brought %llu, refused %llu, meshed %llu\n",
         (unsigned long long)s.node_frames[0], (unsigned long long)s.node_frames[1],
         (unsigned long long)s.node_frames[2], (unsigned long long)s.brought,
         (unsigned long long)s.brought_not, (unsigned long long)s.meshed);
  return failures != 0;
}
