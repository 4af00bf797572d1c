/*
 * An application thread reads and writes random objects of a sparse heap all the time; how long
 * does one access take while the heap is compacted?
 *
 * Each access is timed by the processor's counter and goes into a histogram with eight buckets an
 * octave. What the machine itself does to a thread that runs (interrupts, another guest) is in
 * there too: a run with compaction off, of the same length, says how much.
 *
 * An allocator can keep a thread waiting only where that enters the kernel, by a fault, or loses
 * its processor. Of a single access this isn't known, but of some dozens together it is: the
 * longest access among those where it was so is in the result by itself, and so is the longest
 * among those where the thread faulted or slept, since a processor is lost to others, too.
 *
 * usage: stall [-m MiB] [-s SECONDS] [-c wait|compact | -b | -w] PERCENT
 *
 *   -c  compact: another thread calls quire_compact() over and over; else the allocator decides
 *   -b  another thread keeps a processor busy and touches nothing: what that alone does, on a
 *       machine that shares its processors with others
 *   -w  between the accesses this thread sleeps, and another wakes it: from there until it runs
 *       is what counts as waited. Who touches what is being moved sleeps and is woken, too; this
 *       is what that alone may take
 */
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "memory.h"
#include "sparse_heap.h"

enum { WAIT_US = 100 }; /* about what moving a batch takes */
enum { STEPS = 8, OCTAVES = 40, BUCKETS = STEPS * OCTAVES, BATCH = 64, BATCHES = 64 };

static uint64_t histogram[BUCKETS];

/* In ticks; cheap, and no system call even where the clock's is slow. */
static inline uint64_t ticks(void) {
#if defined(__x86_64__)
  uint32_t low, high;
  __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t)high << 32 | low;
#else
  uint64_t count;
  __asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tisb" : "=r"(count) : : "memory");
  return count;
#endif
}

static unsigned bucket_of(uint64_t taken) {
  if (taken < STEPS) return (unsigned)taken;
  unsigned octave = 63 - (unsigned)__builtin_clzll(taken);
  unsigned step = (unsigned)(taken >> (octave - 3)) & (STEPS - 1);
  unsigned bucket = (octave - 2) * STEPS + step;
  return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The ticks that are the upper end of a bucket: percentiles never flatter. */
static double bucket_end(unsigned bucket) {
  if (bucket < STEPS) return bucket + 1;
  unsigned octave = bucket / STEPS + 2, step = bucket % STEPS;
  return (double)(STEPS + step + 1) * (double)(1ull << (octave - 3));
}

static double percentile(uint64_t accesses, double share) {
  uint64_t wanted = (uint64_t)((double)accesses * share), seen = 0;

  for (unsigned b = 0; b < BUCKETS; b++)
    if ((seen += histogram[b]) > wanted) return bucket_end(b);
  return bucket_end(BUCKETS - 1);
}

/* What grows whenever the thread faults or sleeps, and whenever its processor is taken from it. */
struct entered {
  long waited, preempted;
};

static struct entered entered_now(void) {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return (struct entered){usage.ru_minflt + usage.ru_majflt + usage.ru_nvcsw, usage.ru_nivcsw};
}

/* Times accesses to random objects; the longest of them in ticks. */
static uint64_t touch_some(const struct sparse_heap *heap, size_t live, struct rng *rng,
                           uint32_t *expected) {
  uint64_t longest = 0;

  for (int i = 0; i < BATCH; i++) {
    size_t which = rng_below(rng, live);
    volatile uint64_t *object = sparse_live(heap, which);

    uint64_t began = ticks();
    *object = *object + 1;
    uint64_t taken = ticks() - began;
    expected[which]++;
    histogram[bucket_of(taken)]++;
    if (taken > longest) longest = taken;
  }
  return longest;
}

static _Atomic bool stop;
static _Atomic size_t passes;

static void *compact_always(void *arg) {
  (void)arg;
  while (!atomic_load(&stop)) {
    sparse_call_run(CALL_COMPACT);
    atomic_fetch_add(&passes, 1);
  }
  return NULL;
}

static void *compute_always(void *arg) {
  (void)arg;
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
  }
  return NULL;
}

static sem_t asleep, awake;
static _Atomic uint64_t woken_at; /* in ticks */

static void *wake_always(void *arg) {
  (void)arg;
  for (;;) {
    while (sem_wait(&asleep) != 0) {
    }
    if (atomic_load(&stop)) return NULL;
    uint64_t wake = now_ns() + WAIT_US * 1000;
    while (now_ns() < wake) {
    }
    atomic_store(&woken_at, ticks());
    (void)sem_post(&awake);
  }
}

/* Sleeps until it is woken; the ticks from there until it ran. */
static uint64_t be_woken(void) {
  (void)sem_post(&asleep);
  while (sem_wait(&awake) != 0) {
  }
  return ticks() - atomic_load(&woken_at);
}

/* Begins as pattern and counts the accesses; `expected` says by how much. */
static size_t miscounted(const struct sparse_heap *heap, const uint32_t *expected,
                         const uint64_t *first) {
  size_t wrong = 0;

  for (size_t i = 0; i < sparse_live_count(heap); i++)
    wrong += *sparse_live(heap, i) != first[i] + expected[i];
  return wrong;
}

int main(int argc, char **argv) {
  size_t mib = 512, seconds = 10;
  enum sparse_call call = CALL_NOTHING;
  struct sparse_heap heap;
  pthread_t other;
  void *(*beside)(void *) = NULL;
  int option;

  while ((option = getopt(argc, argv, "m:s:c:bw")) != -1) {
    if (option == 'm') mib = strtoul(optarg, NULL, 10);
    if (option == 's') seconds = strtoul(optarg, NULL, 10);
    if (option == 'b') beside = compute_always;
    if (option == 'w') beside = wake_always;
    if (option == '?' || (option == 'c' && !sparse_call_named(optarg, &call))) return 2;
  }
  if (optind != argc - 1 || mib == 0 || seconds == 0 || call == CALL_TRIM ||
      (beside && call != CALL_NOTHING)) {
    fputs("usage: stall [-m MiB] [-s SECONDS] [-c wait|compact | -b | -w] PERCENT\n", stderr);
    return 2;
  }
  sparse_prepare(&heap, mib << 20, 11);
  uint32_t *expected = memory_table(heap.count * sizeof(*expected));
  uint64_t *first = memory_table(heap.count * sizeof(*first));
  struct memory base = memory_now();
  if (call == CALL_COMPACT && !sparse_call_run(call)) {
    fputs("stall: this allocator has no such function\n", stderr);
    return 4;
  }
  sparse_fill(&heap);
  sparse_free(&heap, (unsigned)strtoul(argv[optind], NULL, 10));
  size_t live = sparse_live_count(&heap);
  for (size_t i = 0; i < live; i++) first[i] = *sparse_live(&heap, i);
  struct memory before = memory_now();

  if (call == CALL_COMPACT) beside = compact_always;
  if (sem_init(&asleep, 0, 0) != 0 || sem_init(&awake, 0, 0) != 0 ||
      (beside && pthread_create(&other, NULL, beside, NULL) != 0))
    return 3;
  struct rng rng = rng_seed(5);
  uint64_t accesses = 0, longest = 0, longest_entered = 0, longest_waited = 0;
  uint64_t start = now_ns(), end = start + seconds * 1000000000ull, first_tick = ticks();
  struct entered before_batch = entered_now();
  while (now_ns() < end) {
    for (int i = 0; i < BATCHES; i++) {
      uint64_t taken = touch_some(&heap, live, &rng, expected);
      struct entered now = entered_now();
      bool waited = now.waited != before_batch.waited;
      bool entered = waited || now.preempted != before_batch.preempted;
      if (taken > longest) longest = taken;
      if (entered && taken > longest_entered) longest_entered = taken;
      if (waited && taken > longest_waited) longest_waited = taken;
      before_batch = now;
    }
    if (beside == wake_always) {
      uint64_t taken = be_woken();
      if (taken > longest_waited) longest_waited = taken;
      before_batch = entered_now();
    }
    accesses += (uint64_t)BATCH * BATCHES;
  }
  double ns_per_tick = (double)(now_ns() - start) / (double)(ticks() - first_tick);
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  atomic_store(&stop, true);
  (void)sem_post(&asleep);
  if (beside) pthread_join(other, NULL);

  struct memory after = memory_now();
  size_t damaged = sparse_damaged(&heap, 1) + miscounted(&heap, expected, first);
  printf("{\"accesses\": %" PRIu64 ", \"passes\": %zu, \"live\": %zu, \"before\": %zu, "
         "\"after\": %zu, \"mappings\": %zu, \"slept\": %ld, \"preempted\": %ld, "
         "\"p50\": %.1f, \"p99\": %.1f, \"p9999\": %.1f, \"max\": %.1f, "
         "\"max_entered\": %.1f, \"max_waited\": %.1f, \"verified\": %s, \"histogram\": [",
         accesses, atomic_load(&passes), heap.live_bytes, memory_held(&before, &base),
         memory_held(&after, &base), memory_mappings(), usage.ru_nvcsw, usage.ru_nivcsw,
         percentile(accesses, 0.5) * ns_per_tick, percentile(accesses, 0.99) * ns_per_tick,
         percentile(accesses, 0.9999) * ns_per_tick, (double)longest * ns_per_tick,
         (double)longest_entered * ns_per_tick, (double)longest_waited * ns_per_tick,
         damaged == 0 ? "true" : "false");
  bool comma = false;
  for (unsigned b = 0; b < BUCKETS; b++) {
    if (histogram[b] == 0) continue;
    printf("%s[%.1f, %" PRIu64 "]", comma ? ", " : "", bucket_end(b) * ns_per_tick, histogram[b]);
    comma = true;
  }
  puts("]}");
  return damaged == 0 ? 0 : 1;
}
