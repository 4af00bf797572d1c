/*
 * A heap of 1 GiB of small objects of 16 to 1,024 bytes loses a share of them at random and is then
 * left alone: how much of the memory comes back, and when? At the end every object that lives is
 * looked at.
 *
 * usage: sparse [-m MiB] [-s SECONDS] [-c wait|compact|trim] [-r SEED] PERCENT
 *
 *   -s  how long to watch
 *   -c  ask for memory once, instead of waiting: quire_compact() or malloc_trim(0)
 *
 * Prints JSON; all memory is in bytes, and `held` is what the heap costs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "sparse_heap.h"

enum { MARKS = 3, MOST_SECONDS = 3600 };

static const unsigned mark_at[MARKS] = {5, 10, 30};
static struct {
  double seconds;
  size_t held, unmapped;
} samples[MOST_SECONDS + 2];

static void sleep_until(uint64_t ns) {
  struct timespec at = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) continue;
}

static int usage(void) {
  fputs("usage: sparse [-m MiB] [-s SECONDS] [-c wait|compact|trim] [-r SEED] PERCENT\n", stderr);
  return 2;
}

int main(int argc, char **argv) {
  size_t mib = 1024, seconds = 30, mappings[MARKS] = {0}, nsamples = 0;
  enum sparse_call call = CALL_NOTHING;
  struct sparse_heap heap;
  uint64_t seed = 7;
  int option;

  while ((option = getopt(argc, argv, "m:s:c:r:")) != -1) {
    if (option == 'm')
      mib = strtoul(optarg, NULL, 10);
    else if (option == 's')
      seconds = strtoul(optarg, NULL, 10);
    else if (option == 'r')
      seed = strtoul(optarg, NULL, 10);
    else if (option != 'c' || !sparse_call_named(optarg, &call))
      return usage();
  }
  if (optind != argc - 1 || mib == 0 || seconds > MOST_SECONDS) return usage();
  unsigned percent = (unsigned)strtoul(argv[optind], NULL, 10);
  if (percent > 99) return usage();

  sparse_prepare(&heap, mib << 20, seed);
  struct memory base = memory_now();
  sparse_fill(&heap);
  struct memory full = memory_now();
  sparse_free(&heap, percent);

  uint64_t start = now_ns(), called = 0;
  struct memory now = memory_now();
  if (call != CALL_NOTHING) {
    uint64_t before = now_ns();
    if (!sparse_call_run(call)) {
      fputs("sparse: this allocator has no such function\n", stderr);
      return 4;
    }
    called = now_ns() - before;
  }
  size_t freed = memory_held(&now, &base), unmapped = 0;
  for (size_t second = 0; second <= seconds; second++) {
    if (second != 0) sleep_until(start + second * 1000000000u);
    now = memory_now();
    samples[nsamples].seconds = (double)(now_ns() - start) / 1e9;
    samples[nsamples].unmapped = unmapped = now.unmapped;
    samples[nsamples++].held = memory_held(&now, &base);
    for (int m = 0; m < MARKS; m++)
      if (mark_at[m] == second) mappings[m] = memory_mappings();
  }
  size_t mappings_end = memory_mappings();
  size_t damaged = sparse_damaged(&heap, 0);

  printf("{\"percent\": %u, \"live\": %zu, \"objects\": %zu, \"full\": %zu, \"freed\": %zu, ",
         percent, heap.live_bytes, sparse_live_count(&heap), memory_held(&full, &base), freed);
  for (int m = 0; m < MARKS; m++)
    if (mark_at[m] <= seconds)
      printf("\"held%u\": %zu, \"mappings%u\": %zu, ", mark_at[m], samples[mark_at[m]].held,
             mark_at[m], mappings[m]);
  printf("\"unmapped\": %zu, \"mappings\": %zu, \"call_ns\": %llu, \"verified\": %s, "
         "\"timeline\": [",
         unmapped, mappings_end, (unsigned long long)called, damaged == 0 ? "true" : "false");
  for (size_t i = 0; i < nsamples; i++)
    printf("%s[%.2f, %zu]", i == 0 ? "" : ", ", samples[i].seconds, samples[i].held);
  puts("]}");
  return damaged == 0 ? 0 : 1;
}
