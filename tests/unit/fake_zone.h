/* The kernel's part of compaction for unit tests: `zone_sys` on real memory, without a privilege.
 *
 * The file, its mappings and punching are the kernel's own; the watch is bookkeeping, and moving
 * pages is copying them. Where the real calls are strict, so is this one: pages go only into a
 * watched range that is empty, only private memory is moved, and who forgets to end a watch or to
 * wake is found out (fake_zone_quiet, fake_zone.wrong).
 *
 *   zone_heap_begin(64 * HUGEPAGE_SIZE);                 heap_begin, and this
 *   fake_zone_refuse(FAKE_ZONE_SHIFT, -EBUSY, 2, 1);     the second shift fails, once
 *   ...
 *   zone_heap_end();
 *
 * One thread sets it up; share, freeze and punch may come from any, the others from one. */
#ifndef QUIRE_TESTS_UNIT_FAKE_ZONE_H
#define QUIRE_TESTS_UNIT_FAKE_ZONE_H

#include "arch/zone_sys.h"
#include "tests/unit/fake.h"

enum fake_zone_call {
  FAKE_ZONE_OPEN,
  FAKE_ZONE_VIEW,
  FAKE_ZONE_SHARE,
  FAKE_ZONE_FREEZE,
  FAKE_ZONE_PUNCH,
  FAKE_ZONE_WATCH_OPEN,
  FAKE_ZONE_WATCH,
  FAKE_ZONE_UNWATCH,
  FAKE_ZONE_WAKE,
  FAKE_ZONE_SHIFT,
  FAKE_ZONE_REPLACE,
  FAKE_ZONE_HOLDS,
  FAKE_ZONE_CALLS
};

enum { FAKE_ZONE_LOG = 256, FAKE_ZONE_RANGES = 64 };

struct fake_zone_entry {
  enum fake_zone_call call;
  int result;
  char *p, *to;
  size_t length;
};

struct fake_range {
  uintptr_t begin, end;
};

struct fake_ranges {
  struct fake_range at[FAKE_ZONE_RANGES];
  unsigned n;
};

struct fake_zone_refusal {
  int err;
  unsigned first, times; /* from the first-th call of its kind on, so often; 0 times: for ever */
};

struct fake_zone {
  unsigned calls[FAKE_ZONE_CALLS];
  unsigned total;
  struct fake_zone_refusal refusal[FAKE_ZONE_CALLS];
  unsigned refuse_at;        /* this call in total, from 1, fails with -ENOMEM; 0: none */
  int source[WATCH_SOURCES]; /* what watch_open says by source; 0 grants */
  unsigned kernel;           /* 6018 */
  size_t max_mappings;       /* 65530 */
  uintptr_t waiters[4];      /* where threads wait on futexes that are not private */
  unsigned nwaiters;
  unsigned contended; /* so many looks at the file's mappings meet others */
  const void *pinned; /* a page that no shift moves: -EBUSY */
  /* A page that the kernel is migrating: the next shift that comes to it moves it, maybe some more,
   * and fails with -EEXIST. */
  const void *migrating;
  struct fake_ranges watched;
  struct fake_ranges waiting; /* somebody could wait here: watched, and not woken since */
  int open_files;             /* descriptors that were handed out and not closed */
  const char *wrong;          /* the first breach of the protocol */
  void (*seen)(enum fake_zone_call call, char *p, char *to, size_t length); /* as fake.seen */
  struct fake_zone_entry log[FAKE_ZONE_LOG]; /* the first calls, refused ones too */
  unsigned logged;
};

extern struct fake_zone fake_zone;

/* heap_begin on real memory, with the fake in place of zone_sys. */
void zone_heap_begin(size_t size);

/* The zone, meshes and the engine are put away with the heap. */
void zone_heap_end(void);

/* The first-th call of the kind, counted from now, fails with err, and so do the next times - 1; 0
 * times: all from there on. */
void fake_zone_refuse(enum fake_zone_call call, int err, unsigned first, unsigned times);
void fake_zone_permit(void);

/* Forgets the log and the counts. */
void fake_zone_clear_log(void);

/* How many logged calls of this kind were granted. */
unsigned fake_zone_logged(enum fake_zone_call call);

struct unit_test;

/* unit_main, but the tests are skipped where there is no mapping of a part of another mapping: an
 * emulator's mremap has none. */
int zone_unit_main(const char *suite, const struct unit_test *tests);

/* Is nothing of the arena watched, and does nobody wait? (The staging range is the engine's own.)
 */
bool fake_zone_quiet(void);

#endif
