/*
 * Follows pointers through the live objects of a sparse heap, in random order, before and after it
 * is compacted: what do remapped frames cost the program that uses them? And how much of the memory
 * of quire's shared file is still mapped by hugepages?
 *
 * usage: chase [-m MiB] [-s SECONDS] [-w SECONDS] [-c wait|compact|trim] PERCENT
 *
 *   -s  of chasing, before and after each
 *   -w  of waiting between them (with -c wait)
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "memory.h"
#include "sparse_heap.h"

enum { BETWEEN_CLOCKS = 65536 };

/* One cycle through all live objects. They are in random order already, but word 0 holds the
 * pattern: it becomes the pointer. */
static void link_all(const struct sparse_heap *heap) {
  size_t live = sparse_live_count(heap);

  for (size_t i = 0; i < live; i++)
    *sparse_live(heap, i) = (uintptr_t)sparse_live(heap, (i + 1) % live);
}

static size_t broken_links(const struct sparse_heap *heap) {
  size_t live = sparse_live_count(heap), broken = 0;

  for (size_t i = 0; i < live; i++)
    broken += *sparse_live(heap, i) != (uintptr_t)sparse_live(heap, (i + 1) % live);
  return broken;
}

/* Nanoseconds a step. */
static double chase(uint64_t **at, size_t seconds) {
  uint64_t steps = 0, start = now_ns(), now = start;

  while (now < start + seconds * 1000000000ull) {
    uint64_t *p = *at;
    for (int i = 0; i < BETWEEN_CLOCKS; i++) p = (uint64_t *)(uintptr_t)*p;
    *at = opaque(p);
    steps += BETWEEN_CLOCKS;
    now = now_ns();
  }
  return (double)(now - start) / (double)steps;
}

int main(int argc, char **argv) {
  size_t mib = 512, seconds = 5, wait = 30;
  enum sparse_call call = CALL_NOTHING;
  struct sparse_heap heap;
  int option;

  while ((option = getopt(argc, argv, "m:s:w:c:")) != -1) {
    if (option == 'm') mib = strtoul(optarg, NULL, 10);
    if (option == 's') seconds = strtoul(optarg, NULL, 10);
    if (option == 'w') wait = strtoul(optarg, NULL, 10);
    if (option == '?' || (option == 'c' && !sparse_call_named(optarg, &call))) return 2;
  }
  if (optind != argc - 1 || mib == 0 || seconds == 0) {
    fputs("usage: chase [-m MiB] [-s SECONDS] [-w SECONDS] [-c wait|compact|trim] PERCENT\n",
          stderr);
    return 2;
  }
  sparse_prepare(&heap, mib << 20, 13);
  struct memory base = memory_now();
  sparse_fill(&heap);
  sparse_free(&heap, (unsigned)strtoul(argv[optind], NULL, 10));
  link_all(&heap);

  /* The first part must be over before the allocator, left to itself, has done much: what it holds
   * at both ends is in the result. */
  uint64_t *at = sparse_live(&heap, 0);
  struct memory memory = memory_now();
  size_t held_begin = memory_held(&memory, &base);
  double before = chase(&at, seconds);
  memory = memory_now();
  size_t held_before = memory_held(&memory, &base);
  if (call == CALL_NOTHING)
    sleep((unsigned)wait);
  else if (!sparse_call_run(call)) {
    fputs("chase: this allocator has no such function\n", stderr);
    return 4;
  }
  memory = memory_now();
  size_t held_after = memory_held(&memory, &base);
  double after = chase(&at, seconds);
  struct shared_file file = memory_shared_file();
  size_t mappings = memory_mappings();
  size_t damaged = sparse_damaged(&heap, 1) + broken_links(&heap);

  printf("{\"live\": %zu, \"before_ns\": %.3f, \"after_ns\": %.3f, \"held_begin\": %zu, "
         "\"held_before\": %zu, \"held_after\": %zu, \"mappings\": %zu, \"shared_mappings\": %zu, "
         "\"shared_held\": %zu, \"shared_pmd\": %zu, \"verified\": %s}\n",
         heap.live_bytes, before, after, held_begin, held_before, held_after, mappings,
         file.mappings, file.held, file.pmd, damaged == 0 ? "true" : "false");
  return damaged == 0 ? 0 : 1;
}
