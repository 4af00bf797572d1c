/* What a sleeping thread's cache holds is taken. Exit status 77: caches can't be taken here. */
#include <pthread.h>
#include <sys/rseq.h>

#include "quire.h"
#include "watch.h"

extern __typeof(quire_stats) quire_stats __attribute__((weak));

enum { THREADS = 8, EACH = 100 };

static pthread_barrier_t ready, done;

static void *worker(void *arg) {
  void *held[EACH];
  for (size_t size = 64; size <= 16384; size *= 2)
    for (int round = 0; round < 20; round++) {
      for (int i = 0; i < EACH; i++) held[i] = malloc(size);
      for (int i = 0; i < EACH; i++) free(held[i]);
    }
  pthread_barrier_wait(&ready);
  pthread_barrier_wait(&done);
  return arg;
}

static uint64_t reclaimed(void) {
  struct quire_stats stats;
  return quire_stats(&stats) == 0 ? stats.reclaimed : 0;
}

int main(void) {
  pthread_t threads[THREADS];
  struct quire_stats stats;
  if (__rseq_size == 0 || quire_stats == NULL) return 77;
  pthread_barrier_init(&ready, NULL, THREADS + 1);
  pthread_barrier_init(&done, NULL, THREADS + 1);
  grow();
  EXPECT(WAIT_UNTIL(background_tid() != 0));
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, worker, NULL);
  pthread_barrier_wait(&ready);
  EXPECT(WAIT_UNTIL(reclaimed() > (uint64_t)THREADS * 64 * 1024));
  EXPECT(WAIT_UNTIL((quire_stats(&stats), stats.cached) < 256 * 1024));
  pthread_barrier_wait(&done);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  return 0;
}
