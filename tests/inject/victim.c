/* A program that takes no for an answer: it allocates, resizes and frees in threads and in forked
 * children, checks all contents, and expects of a refusal only that it is NULL and ENOMEM. Exits
 * with 0 and tells how often it was refused.
 *
 *   victim [rounds] [largest size, log2] [lock]      lock: mlockall(MCL_CURRENT | MCL_FUTURE) first
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD = 200, THREADS = 3 };

static unsigned rounds = 20000, largest = 22;
static unsigned long refused;

static void die(const char *what) {
  fprintf(stderr, "victim: %s\n", what);
  _exit(1);
}

static uint64_t next(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

static size_t some_size(uint64_t *r) {
  return 16 + (next(r) & (((uint64_t)1 << next(r) % (largest + 1)) - 1));
}

static void *expected(void *p) {
  if (p == NULL) {
    if (errno != ENOMEM) die("a refusal without ENOMEM");
    __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
  }
  return p;
}

static void fill(size_t *p, size_t size) {
  p[0] = size;
  for (size_t at = 16; at < size; at += at < 256 ? 1 : 1021)
    ((unsigned char *)p)[at] = (unsigned char)(size + at);
}

static void check(const size_t *p, size_t upto) {
  size_t size = p[0];
  for (size_t at = 16; at < size && at < upto; at += at < 256 ? 1 : 1021)
    if (((const unsigned char *)p)[at] != (unsigned char)(size + at)) die("contents changed");
}

static void churn(uint64_t seed, unsigned n) {
  size_t *held[HELD] = {NULL};
  uint64_t r = seed * 2654435761u + 1;
  while (n-- > 0) {
    size_t **at = &held[next(&r) % HELD], size = some_size(&r);
    errno = 0;
    if (*at == NULL) {
      *at = expected(next(&r) % 4 == 0 ? calloc(1, size) : malloc(size));
      if (*at != NULL) fill(*at, size);
    } else if (next(&r) % 4 == 0) {
      size_t old = (*at)[0];
      size_t *p = expected(realloc(*at, size));
      if (p != NULL) {
        check(p, size);
        fill(*at = p, size);
      } else {
        check(*at, old);
      }
    } else {
      check(*at, SIZE_MAX);
      free(*at);
      *at = NULL;
    }
  }
  for (int i = 0; i < HELD; i++) {
    if (held[i] != NULL) check(held[i], SIZE_MAX);
    free(held[i]);
  }
}

static void *thread(void *arg) {
  churn((uintptr_t)arg, rounds);
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t threads[THREADS];
  int n = 0, status;
  if (argc > 1) rounds = (unsigned)atoi(argv[1]);
  if (argc > 2) largest = (unsigned)atoi(argv[2]);
  if (argc > 3 && mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 77;
  while (n < THREADS && pthread_create(&threads[n], NULL, thread, (void *)(uintptr_t)(n + 1)) == 0)
    n++;
  for (int i = 0; i < 3; i++) {
    churn(100 + (uint64_t)i, rounds / 10);
    pid_t pid = fork();
    if (pid == 0) {
      churn(200 + (uint64_t)i, rounds / 10);
      _exit(0);
    }
    if (pid > 0 && (waitpid(pid, &status, 0) != pid || status != 0)) die("a child failed");
  }
  for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
  /* Now that all is free there must be room again for something small. */
  void *p = malloc(100);
  if (p == NULL && refused == 0) die("nothing left of what was freed");
  free(p);
  char line[64];
  int length = snprintf(line, sizeof line, "refused %lu, threads %d\n", refused, n);
  return write(1, line, (size_t)length) == length ? 0 : 1;
}
