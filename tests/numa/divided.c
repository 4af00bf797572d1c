/* A program on a machine that is said to have nodes of memory 0 and 1, near processors 0 and 1.
 * What is really there is one node: the kernel knows no other, and says so when it is asked.
 *
 *   divided STATE [policy]   numa_state that is expected in the end; policy: the program sets one
 *
 * Prints why it can't run and ends with 77, or ends with 1 when something is wrong. */
#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "quire.h"

#pragma weak quire_stats
#pragma weak quire_bring
#pragma weak quire_compact

enum { SIDES = 2, OBJECTS = 30000, LARGE = 8 << 20, ROUNDS = 4, DEADLINE_S = 20 };

struct object {
  uint32_t *p;
  size_t size;
  uint32_t pattern;
};

/* What a side has made, for the other to check and free. */
static struct object objects[SIDES][OBJECTS];
static uint32_t *large[SIDES];
static pthread_barrier_t together;
static bool divided;

static void wrong(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static struct quire_stats stats(void) {
  struct quire_stats s;
  if (quire_stats(&s) != 0) wrong("no statistics");
  return s;
}

static void run_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) == 0) return;
  printf("it may not run on processor %d\n", cpu);
  exit(77);
}

static void fill(uint32_t *p, size_t size, uint32_t pattern) {
  for (size_t i = 0; i < size / sizeof *p; i++) p[i] = pattern + (uint32_t)i;
}

static void check(const uint32_t *p, size_t size, uint32_t pattern) {
  for (size_t i = 0; i < size / sizeof *p; i++)
    if (p[i] != pattern + (uint32_t)i) wrong("contents have changed");
}

static void make(int side, int round) {
  for (unsigned i = 0; i < OBJECTS; i++) {
    struct object *o = &objects[side][i];
    o->size = i % 100 == 0 ? 20000 : 16 + i * 7 % 1000;
    o->pattern = (uint32_t)round << 24 ^ i * 2654435761u;
    o->p = malloc(o->size);
    if (o->p == NULL) wrong("no memory");
    fill(o->p, o->size, o->pattern);
  }
  large[side] = malloc(LARGE);
  if (large[side] == NULL) wrong("no memory");
  fill(large[side], LARGE, (uint32_t)(side + round));
}

/* The most of the other's objects, so that what is left is sparse. */
static void use(int side, int round) {
  int other = 1 - side;
  for (unsigned i = 0; i < OBJECTS; i++) {
    struct object *o = &objects[other][i];
    check(o->p, o->size, o->pattern);
    if (round == ROUNDS - 1 && i % 8 == 0) continue;
    free(o->p);
    o->p = NULL;
  }
  int err = quire_bring(large[other]);
  /* Node 1 is not there; where the call isn't permitted that is what it says. */
  if (divided && side == 1 && err != ENODEV && err != EPERM && err != ENOSYS) {
    fprintf(stderr, "quire_bring: %s\n", strerror(err));
    exit(1);
  }
  if ((!divided || side == 0) && err != 0 && err != EPERM && err != ENOSYS) wrong("not brought");
  check(large[other], LARGE, (uint32_t)(other + round));
  /* Noted for the background thread. */
  large[other] = realloc(large[other], 3 * LARGE);
  if (large[other] == NULL) wrong("no memory");
  check(large[other], LARGE, (uint32_t)(other + round));
  free(large[other]);
}

static void *work(void *arg) {
  int side = arg != NULL;
  run_on(side);
  for (int round = 0; round < ROUNDS; round++) {
    make(side, round);
    pthread_barrier_wait(&together);
    use(side, round);
    pthread_barrier_wait(&together);
  }
  return NULL;
}

static void check_what_is_left(void) {
  for (int side = 0; side < SIDES; side++)
    for (unsigned i = 0; i < OBJECTS; i++)
      if (objects[side][i].p != NULL)
        check(objects[side][i].p, objects[side][i].size, objects[side][i].pattern);
}

static void child(void) {
  check_what_is_left();
  for (int i = 0; i < 100000; i++) free(malloc((size_t)i % 3000));
  void *p = malloc(100 << 20);
  if (p == NULL) _exit(1);
  free(p);
  (void)quire_compact();
  check_what_is_left();
  _exit(0);
}

static void fork_one(void) {
  int status = -1;
  pid_t pid = fork();
  if (pid == 0) child();
  waitpid(pid, &status, 0);
  if (status != 0) wrong("the child failed");
}

/* Waits for the background thread to have looked. */
static uint64_t state_in_the_end(void) {
  time_t until = time(NULL) + DEADLINE_S;
  char *p = malloc(64 << 20);
  memset(p, 1, 64 << 20);
  while (stats().numa_state == QUIRE_NUMA_UNKNOWN && time(NULL) < until) free(malloc(4 << 20));
  free(p);
  return stats().numa_state;
}

static bool library_is_there(void) {
  char line[512];
  bool found = false;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
    found = found || strstr(line, "libhwloc") != NULL;
  if (maps != NULL) fclose(maps);
  return found;
}

static void interleave(void) {
  unsigned long node0 = 1;
  if (syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &node0, 65) == 0) return;
  printf("set_mempolicy: %s\n", strerror(errno));
  exit(77);
}

int main(int argc, char **argv) {
  pthread_t threads[SIDES];
  uint64_t want = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
  if (quire_stats == NULL) wrong("quire is not loaded");
  if (argc > 2) interleave();
  uint64_t state = state_in_the_end();
  if (state != want) {
    fprintf(stderr, "numa_state is %llu, not %llu\n", (unsigned long long)state,
            (unsigned long long)want);
    return 1;
  }
  if (library_is_there()) wrong("hwloc stays in the program");
  divided = state == QUIRE_NUMA_KNOWN;
  if ((stats().nodes == 2) != divided) wrong("another number of nodes");
  pthread_barrier_init(&together, NULL, SIDES);
  for (int i = 0; i < SIDES; i++)
    pthread_create(&threads[i], NULL, work, i == 0 ? NULL : (void *)threads);
  for (int i = 0; i < SIDES; i++) pthread_join(threads[i], NULL);
  fork_one();
  (void)quire_compact();
  check_what_is_left();
  fork_one();
  struct quire_stats s = stats();
  uint64_t sum = 0;
  for (unsigned i = 0; i <= QUIRE_NODES_MAX; i++) sum += s.node_frames[i];
  if (sum != s.frames_used) wrong("frames of the nodes don't add up");
  if ((s.node_frames[1] != 0 && s.node_frames[2] != 0) != divided) wrong("frames of other nodes");
  if (divided && s.brought_not == 0) wrong("no refusal was counted");
  if (!divided && s.brought + s.brought_not != 0) wrong("something was brought");
  printf("frames by node: %llu, %llu, %llu; brought %llu, refused %llu\n",
         (unsigned long long)s.node_frames[0], (unsigned long long)s.node_frames[1],
         (unsigned long long)s.node_frames[2], (unsigned long long)s.brought,
         (unsigned long long)s.brought_not);
  return 0;
}
