// Threads that live longer than main. "exit": main returns while they allocate, so destructors and
// the end of the process run beside them. "leave": main ends by pthread_exit and the others go on;
// the last of them ends the process. Allocates in atexit handlers and thread-specific destructors
// as well.
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "expect.h"

enum { THREADS = 6 };

static atomic_uint running, ended;
static pthread_key_t key;
static int leave;

// Each destructor allocates and frees, and asks to be called once more.
static void destroy(void *value) {
  size_t left = *(size_t *)value;
  free(value);
  void *other = malloc(3000 * (left + 1));
  expect_fill(other, 3000, 1);
  free(other);
  if (left) {
    size_t *again = malloc(sizeof *again);
    *again = left - 1;
    pthread_setspecific(key, again);
  }
}

static void *work(void *seed) {
  size_t *value = malloc(sizeof *value);
  *value = 2;
  pthread_setspecific(key, value);
  atomic_fetch_add(&running, 1);
  for (unsigned i = 0; !leave || i < 20; i++) {
    if (!expect_churn(500, (uintptr_t)seed + i)) _exit(3);
  }
  if (atomic_fetch_add(&ended, 1) + 1 == THREADS) {
    puts("the last thread is done");
    exit(0);
  }
  return NULL;
}

static void at_exit(void) {
  char *line = malloc(100000);
  snprintf(line, 100000, "at exit, %s", leave ? "after main" : "from main");
  puts(line);
  free(line);
  if (!expect_churn(500, 9)) _exit(4);
}

int main(int argc, char **argv) {
  leave = argc > 1 && !strcmp(argv[1], "leave");
  pthread_key_create(&key, destroy);
  atexit(at_exit);
  for (size_t i = 0; i < THREADS; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, (void *)(i + 1))) return 2;
    pthread_detach(thread);
  }
  while (atomic_load(&running) < THREADS) sched_yield();
  if (leave) pthread_exit(NULL);
  return 0;
}
