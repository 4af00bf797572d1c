/*
 * A heap with a bit of everything, that is described by the library itself, and then stands still:
 * slabs of several sizes from which much was freed, folios, a run of an owner, pins, and what
 * compaction made of it.
 *
 * usage: target [MIB]
 *
 * Does what the lines of standard input say, and prints "ready" after each, and first of all when
 * the heap is made: "tell" prints the counts that quire_walk and quire_stats give, one "name number"
 * a line; "compact" compacts; the end of the input ends it.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quire.h"

static const size_t sizes[] = {32, 64, 96, 240, 512, 1024, 3000};
static const struct quire_owner_ops ops;
enum { NSIZES = sizeof sizes / sizeof sizes[0] };

static uint64_t state = 88172645463325252ull;

static unsigned below(unsigned n) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (unsigned)(state % n);
}

struct sums {
  size_t frames[5], runs[5], resident, slots, free_slots;
};

static int visit(const struct quire_walk_item *item, void *arg) {
  struct sums *s = arg;
  s->frames[item->type] += item->frames;
  s->runs[item->type]++;
  s->resident += item->resident;
  if (item->type == QUIRE_WALK_SLAB) {
    s->slots += item->slots;
    s->free_slots += item->free_slots;
  }
  return 0;
}

static void tell(void) {
  static struct sums s;
  static struct quire_stats stats;
  memset(&s, 0, sizeof s);
  quire_walk(visit, &s);
  if (quire_stats(&stats) != 0) exit(3);
  printf("slab_frames %zu\nfolio_frames %zu\nowned_frames %zu\nother_frames %zu\n",
         s.frames[QUIRE_WALK_SLAB], s.frames[QUIRE_WALK_FOLIO], s.frames[QUIRE_WALK_OWNED],
         s.frames[QUIRE_WALK_OTHER]);
  printf("slabs %zu\nfolios %zu\nowned %zu\n", s.runs[QUIRE_WALK_SLAB], s.runs[QUIRE_WALK_FOLIO],
         s.runs[QUIRE_WALK_OWNED]);
  printf("slots %zu\nfree_slots %zu\n", s.slots, s.free_slots);
  printf("guests %llu\nhollow %llu\npinned %llu\nlive %llu\ndirty %llu\nopened %llu\n",
         (unsigned long long)stats.guests, (unsigned long long)stats.hollow,
         (unsigned long long)stats.frames_pinned, (unsigned long long)stats.live,
         (unsigned long long)stats.frames_dirty, (unsigned long long)stats.frames_opened);
}

/* Again while the memory is being moved. */
static void pin(const void *p, size_t size) {
  int error;
  while ((error = quire_pin(p, size, QUIRE_PIN_TRANSIENT)) == EBUSY) continue;
  if (error == 0) return;
  fprintf(stderr, "target: can't pin: %s\n", strerror(error));
  exit(3);
}

int main(int argc, char **argv) {
  size_t most = (argc > 1 ? strtoul(argv[1], NULL, 10) : 24) << 20, used = 0, n = 0;
  static char in[256], out[1 << 16], line[64];
  setvbuf(stdin, in, _IOFBF, sizeof in);
  setvbuf(stdout, out, _IOFBF, sizeof out);
  char **objects = malloc(most / 32 * sizeof *objects);
  while (used < most) {
    size_t size = sizes[below(NSIZES)];
    char *p = malloc(size);
    memset(p, (int)(n & 0xff), size);
    objects[n++] = p;
    used += size;
  }
  /* One region is kept dense, the rest thinned more and more. */
  size_t dense = n / 5;
  for (size_t i = dense; i < n; i++) {
    if (below(100) < 50 + 48 * (i - dense) / (n - dense)) {
      free(objects[i]);
      objects[i] = NULL;
    }
  }
  char *folios[24];
  for (unsigned i = 0; i < 24; i++) {
    folios[i] = malloc(70000 + i * 40000);
    memset(folios[i], 1, 70000);
  }
  for (unsigned i = 0; i < 24; i += 3) free(folios[i]);
  struct quire_owner *owner = quire_owner_create(&ops, NULL);
  void *run = owner == NULL ? NULL : quire_owner_alloc(owner, 40);
  if (run != NULL) memset(run, 2, 40 * 4096);
  for (size_t i = dense / 2; i < dense / 2 + 3; i++)
    pin(objects[i], 1);
  pin(folios[1], 4096);
  for (;;) {
    puts("ready");
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL) return 0;
    if (strcmp(line, "tell\n") == 0) tell();
    if (strcmp(line, "compact\n") == 0) quire_compact();
  }
}
