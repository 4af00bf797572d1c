/* A kernel for unit tests: refuses what it is told to refuse, has a clock that is set by hand, and
 * can hand out addresses behind which there is nothing (tables excepted: those are read and
 * written).
 *
 *   heap_begin(64 * HUGEPAGE_SIZE, true);  an arena of made-up addresses
 *   fake.refuse[FAKE_DISCARD] = -EINVAL;   every discard fails from now on
 *   ...
 *   heap_end();
 *
 * One thread sets it up; the calls themselves may come from any. */
#ifndef QUIRE_TESTS_UNIT_FAKE_H
#define QUIRE_TESTS_UNIT_FAKE_H

#include "arch/compiler.h"
#include "page/frames.h"

enum fake_call {
  FAKE_RESERVE,
  FAKE_UNRESERVE,
  FAKE_OPEN_READ,
  FAKE_OPEN_WRITE,
  FAKE_CLOSE,
  FAKE_DISCARD,
  FAKE_ADVISE_HUGE,
  FAKE_COLLAPSE,
  FAKE_POPULATE,
  FAKE_MOVE,
  FAKE_REFRESH,
  FAKE_REFRESH_HUGETLB,
  FAKE_RSEQ_FENCE,
  FAKE_CALLS
};

enum { FAKE_LOG = 1024 };

struct fake_entry {
  enum fake_call call;
  char *p;
  size_t length;
};

struct fake {
  unsigned calls[FAKE_CALLS];
  unsigned total;
  int refuse[FAKE_CALLS]; /* negative errno with which all of them fail; 0: they succeed */
  unsigned refuse_at;     /* this call in total, from 1, fails with -ENOMEM; 0: none */
  unsigned refuse_every;  /* and so does every n-th */
  size_t reserve_most;    /* larger reservations fail; 0: no limit */
  size_t commit_most;     /* open_write of more than this in all fails; 0: no limit */
  size_t committed;
  size_t made_up_from; /* reservations from this size on are made up; 0: all are real */
  uint64_t now;        /* ms */
  uint64_t faults;
  unsigned populate_faults; /* what one populate call costs: 1 is a hugepage, 512 small pages */
  uint64_t cpu_us;
  unsigned rests;
  unsigned runnable;    /* threads of the machine */
  unsigned populate_us; /* CPU time that one populate call takes */
  bool real_clock;
  /* Told of every call that was granted, before it is made. */
  void (*seen)(enum fake_call call, char *p, char *to, size_t length);
  struct fake_entry log[FAKE_LOG]; /* calls granted, but for reserve; the first FAKE_LOG of them */
  unsigned logged;
};

extern struct fake fake;

/* Puts the fake in place of the kernel, all zeros but for the clock and populate_faults. */
void fake_install(void);
void fake_remove(void);

/* A heap of `size` bytes from the first page up to bins, with huge:never and decay after 1000 ms,
 * on the fake. */
void heap_begin(size_t size, bool made_up);
void heap_configure(enum frames_huge huge, size_t threshold, uint64_t decay_ms);
void heap_end(void);

/* How many logged calls of this kind, from entry `from` on. */
unsigned fake_logged(enum fake_call call, unsigned from);

/* Bytes behind which memory is, by mincore: of real addresses. */
size_t fake_resident(const void *p, size_t length);

#endif
