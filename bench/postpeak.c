/*
 * A server-like load: threads that hold blocks of mixed sizes and lifetimes, a peak of ten times
 * their steady state, and the steady state again. What does the process cost some seconds after the
 * peak, against what lives in it?
 *
 * The steady load goes on, paced, while memory is watched. Which blocks survive the peak is random,
 * as with sessions that end one by one. Every block is compared with what was written when it is
 * freed.
 *
 * usage: postpeak [-m MiB] [-t THREADS] [-s SECONDS] [-b]
 *
 *   -m  live bytes of the steady state, all threads together
 *   -s  how long to watch after the peak
 *   -b  once the memory has been taken, has bitmaps.c write down what lives where
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "memory.h"

enum { PEAK = 10, THREADS_MOST = 64, SAMPLES_MOST = 8192, SAMPLE_MS = 250, MARK_SECONDS = 10 };
/* The steady load between two pauses of a millisecond. */
enum { STEPS_PER_PAUSE = 20 };

struct block {
  uint32_t size; /* of the whole block */
  uint32_t seed;
  uint32_t words[]; /* made from the seed */
};

enum phase { WARM_UP, RISE, FALL, STEADY, END };

struct worker {
  pthread_t thread;
  struct block **block; /* the live ones come first */
  size_t count, most, live_bytes, steady_bytes;
  struct rng rng;
  _Atomic size_t live;
  _Atomic size_t damaged;
};

static _Atomic int phase = WARM_UP;
static _Atomic unsigned arrived; /* workers that have reached what the phase asks for */
static struct worker workers[THREADS_MOST];
static struct {
  double seconds;
  size_t live, held;
} samples[SAMPLES_MOST];

static uint32_t word_of(uint32_t seed, size_t word) {
  return (seed ^ (uint32_t)word) * 0x9e3779b1u;
}

static size_t words_of(const struct block *block) {
  return (block->size - sizeof(*block)) / sizeof(uint32_t);
}

static struct block *block_new(struct worker *worker) {
  const struct size_table *sizes = sizes_mixed();
  uint32_t size = sizes->size[rng_next(&worker->rng) >> 51];
  struct block *block = checked(malloc(size));

  block->size = size;
  block->seed = (uint32_t)rng_next(&worker->rng);
  for (size_t w = 0; w < words_of(block); w++) block->words[w] = word_of(block->seed, w);
  worker->live_bytes += size;
  return block;
}

static void block_drop(struct worker *worker, struct block *block) {
  for (size_t w = 0; w < words_of(block); w++) {
    if (block->words[w] == word_of(block->seed, w)) continue;
    atomic_fetch_add(&worker->damaged, 1);
    break;
  }
  worker->live_bytes -= block->size;
  free(block);
}

/* Most replacements hit a tenth of the places, few the large rest: short lives and long ones. */
static size_t place_to_replace(struct worker *worker) {
  size_t die = rng_below(&worker->rng, 100);
  size_t hot = worker->count / 10 + 1, warm = worker->count / 3 + 1;

  return rng_below(&worker->rng, die < 70 ? hot : die < 95 ? warm : worker->count);
}

static void replace_one(struct worker *worker) {
  size_t place = place_to_replace(worker);

  block_drop(worker, worker->block[place]);
  worker->block[place] = block_new(worker);
}

static void grow_to(struct worker *worker, size_t bytes) {
  while (worker->live_bytes < bytes && worker->count < worker->most) {
    worker->block[worker->count++] = block_new(worker);
    if (worker->count % 4 == 0) replace_one(worker);
    atomic_store(&worker->live, worker->live_bytes);
  }
}

static void shrink_to(struct worker *worker, size_t bytes) {
  while (worker->live_bytes > bytes && worker->count > 1) {
    size_t place = rng_below(&worker->rng, worker->count);

    block_drop(worker, worker->block[place]);
    worker->block[place] = worker->block[--worker->count];
    atomic_store(&worker->live, worker->live_bytes);
  }
}

static void *work(void *arg) {
  struct worker *worker = arg;
  const struct timespec pause = {0, 1000000};
  int done = -1;

  for (int now; (now = atomic_load(&phase)) != END;) {
    if (now == WARM_UP) grow_to(worker, worker->steady_bytes);
    if (now == RISE) grow_to(worker, worker->steady_bytes * PEAK);
    if (now == FALL) shrink_to(worker, worker->steady_bytes);
    if (now != done) {
      done = now;
      atomic_fetch_add(&arrived, 1);
    }
    for (int i = 0; i < STEPS_PER_PAUSE; i++) replace_one(worker);
    atomic_store(&worker->live, worker->live_bytes);
    nanosleep(&pause, NULL);
  }
  shrink_to(worker, 0);
  block_drop(worker, worker->block[0]);
  return NULL;
}

static size_t live_now(unsigned threads) {
  size_t live = 0;

  for (unsigned i = 0; i < threads; i++) live += atomic_load(&workers[i].live);
  return live;
}

static size_t take_samples(size_t nsamples, unsigned threads, const struct memory *base,
                           uint64_t start, uint64_t until, bool until_arrived) {
  const struct timespec pause = {0, SAMPLE_MS * 1000000};

  while (nsamples < SAMPLES_MOST &&
         (until_arrived ? atomic_load(&arrived) < threads : now_ns() < until)) {
    struct memory now = memory_now();
    samples[nsamples].seconds = (double)(now_ns() - start) / 1e9;
    samples[nsamples].live = live_now(threads);
    samples[nsamples++].held = memory_held(&now, base);
    nanosleep(&pause, NULL);
  }
  return nsamples;
}

int main(int argc, char **argv) {
  size_t mib = 64, threads = 4, seconds = 15, nsamples = 0;
  bool bitmaps = false;
  int option;

  while ((option = getopt(argc, argv, "m:t:s:b")) != -1) {
    size_t value = option == 'b' ? 1 : option == '?' ? 0 : strtoul(optarg, NULL, 10);
    if (option == 'b') bitmaps = true;
    if (option == 'm') mib = value;
    if (option == 't') threads = value;
    if (option == 's') seconds = value;
    if (value == 0) {
      fputs("usage: postpeak [-m MiB] [-t THREADS] [-s SECONDS] [-b]\n", stderr);
      return 2;
    }
  }
  if (threads > THREADS_MOST) threads = THREADS_MOST;
  if (seconds < MARK_SECONDS + 1) seconds = MARK_SECONDS + 1;
  sizes_mixed();
  for (size_t i = 0; i < threads; i++) {
    struct worker *worker = &workers[i];
    worker->rng = rng_seed(i + 1);
    worker->steady_bytes = (mib << 20) / threads;
    worker->most = worker->steady_bytes * PEAK / 64;
    worker->block = memory_table(worker->most * sizeof(struct block *));
  }
  struct memory base = memory_now();
  uint64_t start = now_ns();
  for (size_t i = 0; i < threads; i++)
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) return 3;

  uint64_t peak_ended = 0;
  size_t peak_live = 0, steady_held = 0;
  for (int now = WARM_UP; now <= STEADY; now++) {
    atomic_store(&phase, now);
    nsamples = take_samples(nsamples, (unsigned)threads, &base, start, 0, true);
    atomic_store(&arrived, 0); /* by now nobody comes before the next phase */
    struct memory memory = memory_now();
    if (now == WARM_UP) steady_held = memory_held(&memory, &base);
    if (now == RISE) peak_live = live_now((unsigned)threads);
    if (now == FALL) peak_ended = now_ns();
    if (now == WARM_UP || now == RISE)
      nsamples =
          take_samples(nsamples, (unsigned)threads, &base, start, now_ns() + 2000000000u, false);
  }
  size_t at_mark = 0, live_at_mark = 0;
  nsamples = take_samples(nsamples, (unsigned)threads, &base, start,
                          peak_ended + MARK_SECONDS * 1000000000ull, false);
  struct memory memory = memory_now();
  at_mark = memory_held(&memory, &base);
  live_at_mark = live_now((unsigned)threads);
  if (bitmaps) (void)raise(SIGUSR2);
  nsamples = take_samples(nsamples, (unsigned)threads, &base, start,
                          peak_ended + seconds * 1000000000ull, false);
  size_t mappings = memory_mappings(), damaged = 0;
  atomic_store(&phase, END);
  for (size_t i = 0; i < threads; i++) {
    pthread_join(workers[i].thread, NULL);
    damaged += atomic_load(&workers[i].damaged);
  }
  printf("{\"threads\": %zu, \"peak_live\": %zu, \"steady_held\": %zu, \"peak_ended\": %.2f, "
         "\"live10\": %zu, \"held10\": %zu, \"mappings\": %zu, \"verified\": %s, \"timeline\": [",
         threads, peak_live, steady_held, (double)(peak_ended - start) / 1e9, live_at_mark, at_mark,
         mappings, damaged == 0 ? "true" : "false");
  for (size_t i = 0; i < nsamples; i++)
    printf("%s[%.2f, %zu, %zu]", i == 0 ? "" : ", ", samples[i].seconds, samples[i].live,
           samples[i].held);
  puts("]}");
  return damaged == 0 ? 0 : 1;
}
