/* What the programs of tests/background.sh share: looking at one's own process from outside the
 * allocator. Waiting is polling for a condition, with a deadline that only a failure reaches. */
#ifndef QUIRE_TESTS_BACKGROUND_WATCH_H
#define QUIRE_TESTS_BACKGROUND_WATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_MS = 60000, POLL_MS = 5, OBJECTS = 40000, OBJECT_SIZE = 1000 };

static void *objects[OBJECTS];

static void grow(void) {
  for (int i = 0; i < OBJECTS; i++) {
    objects[i] = malloc(OBJECT_SIZE);
    if (objects[i] == NULL) abort();
    memset(objects[i], i, OBJECT_SIZE);
  }
}

static void shrink(void) {
  for (int i = 0; i < OBJECTS; i++) free(objects[i]);
}

/* Reads a whole small file; the length, or -1. Needs a free descriptor for a moment. */
static long slurp(const char *path, char *out, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  long n = 0, got;
  if (fd < 0) return -1;
  while ((got = read(fd, out + n, size - 1 - (size_t)n)) > 0) n += got;
  close(fd);
  out[n] = 0;
  return n;
}

static long number_after(const char *text, const char *key) {
  const char *at = text == NULL ? NULL : strstr(text, key);
  return at == NULL ? -1 : strtol(at + strlen(key), NULL, 10);
}

static long pss_kib(void) {
  static char text[8192];
  return slurp("/proc/self/smaps_rollup", text, sizeof text) < 0 ? -1
                                                                 : number_after(text, "\nPss:");
}

static int count_threads(void) {
  static char text[8192];
  return slurp("/proc/self/status", text, sizeof text) < 0 ? -1
                                                           : (int)number_after(text, "\nThreads:");
}

/* The background thread's id; 0 if there is none. opendir allocates, but no more than a moment. */
static int background_tid(void) {
  char path[64], name[32];
  int found = 0;
  DIR *dir = opendir("/proc/self/task");
  struct dirent *entry;
  while (dir != NULL && found == 0 && (entry = readdir(dir)) != NULL) {
    snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", entry->d_name);
    if (slurp(path, name, sizeof name) > 0 && strcmp(name, "quire\n") == 0)
      found = atoi(entry->d_name);
  }
  if (dir != NULL) closedir(dir);
  return found;
}

static long switches(int tid) {
  static char text[8192];
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
  if (slurp(path, text, sizeof text) < 0) return -1;
  return number_after(text, "\nvoluntary_ctxt_switches:");
}

static long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void pause_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

/* Idle, in the program's eyes, until the condition holds. */
#define WAIT_UNTIL(condition)                                                                      \
  ({                                                                                               \
    long deadline = now_ms() + DEADLINE_MS;                                                        \
    bool holds;                                                                                    \
    while (!(holds = (condition)) && now_ms() < deadline) pause_ms(POLL_MS);                       \
    holds;                                                                                         \
  })

#define EXPECT(condition)                                                                          \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                                       \
      printf("pss %ld KiB, %d threads\n", pss_kib(), count_threads());                             \
      fflush(stdout);                                                                              \
      _exit(1);                                                                                    \
    }                                                                                              \
  } while (0)

/* Switches of the thread stay the same over a pause of our own: it has nothing left to do, or waits
 * for longer than that. */
static bool is_quiet_for(int tid, long ms) {
  long before = switches(tid);
  pause_ms(ms);
  return before >= 0 && switches(tid) == before;
}

static bool is_quiet(int tid) { return is_quiet_for(tid, 300); }

#endif
