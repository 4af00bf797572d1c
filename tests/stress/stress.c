/* Threads that allocate, resize, hand to each other and free objects whose contents are checked;
 * that come and go; and a process that forks all the while, whose children check what they
 * inherited and allocate on their own.
 *
 *   stress SECONDS THREADS [SEED]
 *
 * Exits with 0 if every byte was where it should be. Plain malloc's family: the allocator is what
 * was loaded. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OWN = 300, SHARED = 512, LIFE = 10000, DEEP = 4096 };

/* Every object begins with what is needed to check the rest of it. */
struct object {
  uint64_t size, seed, check;
};

static void *shared[SHARED]; /* exchanged atomically: whoever takes an object out owns it */
static uint32_t stop;
static uint64_t operations, threads_begun;

static uint64_t next(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static void die(const char *what, const struct object *o) {
  fprintf(stderr, "stress: %s: object at %p\n", what, (const void *)o);
  _exit(1);
}

static uint64_t mix(uint64_t size, uint64_t seed) {
  return (size ^ seed << 17) * 0xff51afd7ed558ccdu + 1;
}

/* Where contents lie: all of the first and last DEEP bytes, between them every 512th. */
static size_t step(size_t at, size_t size) { return at < DEEP || at + DEEP >= size ? 1 : 512; }

static void fill(void *p, size_t size, uint64_t seed) {
  struct object *o = p;
  unsigned char *bytes = p;
  *o = (struct object){size, seed, mix(size, seed)};
  for (size_t i = sizeof *o; i < size; i += step(i, size)) bytes[i] = (unsigned char)(seed + i * 7);
}

/* size: how much of it must still be there. */
static void check(const void *p, size_t size) {
  const struct object *o = p;
  const unsigned char *bytes = p;
  if (o->check != mix(o->size, o->seed)) die("its head was overwritten", o);
  for (size_t i = sizeof *o; i < size; i += step(i, o->size))
    if (bytes[i] != (unsigned char)(o->seed + i * 7)) die("its contents changed", o);
}

static void check_all(const void *p) { check(p, ((const struct object *)p)->size); }

static size_t some_size(uint64_t *r) {
  uint64_t kind = next(r) % 1000;
  size_t size = kind < 900   ? next(r) % (16u << next(r) % 6)
                : kind < 985 ? next(r) % (1024u << next(r) % 7)
                : kind < 998 ? next(r) % (2 << 20)
                             : next(r) % (24 << 20);
  return size + sizeof(struct object);
}

static void *allocate(uint64_t *r) {
  size_t size = some_size(r), align = (size_t)8 << next(r) % 14;
  void *p = NULL;
  switch (next(r) % 10) {
  case 0:
    p = calloc(1, size);
    for (size_t i = 0; p != NULL && i < size; i += step(i, size))
      if (((unsigned char *)p)[i] != 0) die("calloc gave what is not zero", p);
    break;
  case 1:
    if (posix_memalign(&p, align, size) != 0) p = NULL;
    if ((uintptr_t)p % align != 0) die("misaligned", p);
    break;
  case 2:
    p = memalign(align, size);
    if ((uintptr_t)p % align != 0) die("misaligned", p);
    break;
  default:
    p = malloc(size);
    break;
  }
  if (p == NULL) die("no memory", NULL);
  if (malloc_usable_size(p) < size) die("too small", p);
  fill(p, size, next(r));
  return p;
}

static void release(void *p) {
  if (p == NULL) return;
  check_all(p);
  ((struct object *)p)->check = 0;
  free(p);
}

static void *resize(void *p, uint64_t *r) {
  size_t old = ((struct object *)p)->size,
         size = next(r) % 3 == 0 ? old + next(r) % 5000 : some_size(r);
  check_all(p);
  p = realloc(p, size);
  if (p == NULL) die("no memory for a realloc", NULL);
  check(p, old < size ? old : size);
  fill(p, size, next(r));
  return p;
}

static void step_once(void **own, uint64_t *r) {
  void **at = &own[next(r) % OWN];
  switch (next(r) % 8) {
  case 0: {
    void *other = __atomic_exchange_n(&shared[next(r) % SHARED], *at, __ATOMIC_ACQ_REL);
    if (other != NULL) check_all(other);
    *at = other;
    break;
  }
  case 1:
    if (*at != NULL) {
      *at = resize(*at, r);
      break;
    }
    /* fallthrough */
  default:
    if (*at != NULL) {
      release(*at);
      *at = NULL;
    } else {
      *at = allocate(r);
    }
  }
}

/* One life: LIFE steps, then all is given away or freed, and the thread ends. */
static void *live(void *arg) {
  uint64_t r = (uint64_t)(uintptr_t)arg, n = 0;
  void *own[OWN] = {NULL};
  while (n < LIFE && !__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    step_once(own, &r);
    n++;
  }
  for (int i = 0; i < OWN; i++)
    if (next(&r) % 2 == 0)
      own[i] = __atomic_exchange_n(&shared[next(&r) % SHARED], own[i], __ATOMIC_ACQ_REL);
  for (int i = 0; i < OWN; i++) release(own[i]);
  __atomic_fetch_add(&operations, n, __ATOMIC_RELAXED);
  return NULL;
}

static void *work(void *arg) {
  uint64_t r = (uint64_t)(uintptr_t)arg;
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    pthread_t thread;
    __atomic_fetch_add(&threads_begun, 1, __ATOMIC_RELAXED);
    if (pthread_create(&thread, NULL, live, (void *)(uintptr_t)next(&r)) != 0)
      live((void *)(uintptr_t)next(&r));
    else
      pthread_join(thread, NULL);
  }
  return NULL;
}

/* In the child only the forking thread's own objects are known not to have been in anybody's hands.
 */
static void be_a_child(void **own, uint64_t seed) {
  uint64_t r = seed;
  for (int i = 0; i < OWN; i++)
    if (own[i] != NULL) check_all(own[i]);
  for (int i = 0; i < 2000; i++) {
    void **at = &own[next(&r) % OWN];
    if (*at != NULL) {
      release(*at);
      *at = NULL;
    } else {
      *at = allocate(&r);
    }
  }
  if (next(&r) % 4 == 0) {
    pid_t pid = fork(); /* a child of a child */
    if (pid == 0) {
      for (int i = 0; i < OWN; i++) release(own[i]);
      _exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0) _exit(2);
  }
  for (int i = 0; i < OWN; i++) release(own[i]);
  _exit(0);
}

static void expect_success(pid_t pid, const char *what) {
  int status;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
    fprintf(stderr, "stress: %s failed with wait status %d\n", what, status);
    _exit(1);
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  double seconds = argc > 1 ? atof(argv[1]) : 5, end = now() + seconds;
  int nthreads = argc > 2 ? atoi(argv[2]) : 4;
  uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 1, r = seed, forks = 0;
  static void *own[OWN];
  pthread_t threads[64];
  if (nthreads > 64) nthreads = 64;
  for (int i = 0; i < nthreads; i++)
    pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)next(&r));
  while (now() < end) {
    for (int i = 0; i < 3000; i++) step_once(own, &r);
    pid_t pid = fork();
    if (pid == 0) be_a_child(own, next(&r));
    expect_success(pid, "a forked child");
    if (++forks % 8 == 0) {
      char *arguments[] = {"true", NULL}, *environment[] = {NULL};
      if (posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environment) != 0) pid = -1;
      expect_success(pid, "posix_spawn");
    }
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < nthreads; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < OWN; i++) release(own[i]);
  for (int i = 0; i < SHARED; i++) release(shared[i]);
  printf("%llu steps in threads, %llu threads, %llu forks\n", (unsigned long long)operations,
         (unsigned long long)threads_begun, (unsigned long long)forks);
  return 0;
}
