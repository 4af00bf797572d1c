/* A hugepage: 512 frames, the unit in which memory comes from the system and goes back.
 *
 * The descriptor is pure bookkeeping: no locks, no system calls, any address (unit tests use
 * made-up ones). frames.c owns every hugepage and guards all fields with the frames lock.
 *
 * Three bitmaps, a bit per frame, independent of each other but for the equations below:
 *   used      handed out by the frame allocator (or set aside while it is discarded)
 *   resident  may hold physical memory: was handed out since it was last discarded
 *   zero      known to read as zeros: never written since it was opened or discarded
 *
 *   nused = |used|, nresident = |resident|
 *   longest = longest run of frames not used
 *   free-resident = |resident & ~used|, discarded = |~resident & ~used|, live = |used|
 *   used & zero = 0 (who is handed a frame is told whether it is zero, then the bit goes) */
#ifndef QUIRE_PAGE_HUGEPAGE_H
#define QUIRE_PAGE_HUGEPAGE_H

#include "page/arena.h"

enum { HUGEPAGE_WORDS = HUGEPAGE_FRAMES / 64 };

enum hugepage_state {
  HUGEPAGE_UNOPENED = 0,
  HUGEPAGE_EMPTY = 1,    /* no frame used: in the set of empty hugepages */
  HUGEPAGE_PARTIAL = 2,  /* some used: in the list of its kind, occupancy and longest free run */
  HUGEPAGE_FULL = 3,     /* all used: in no list */
  HUGEPAGE_ISOLATED = 4, /* empty, and being discarded: in no list until that is done */
};

enum hugepage_flag {
  HUGEPAGE_ADVISED = 1, /* the kernel was asked for a hugepage here */
  HUGEPAGE_HUGETLB = 2, /* from the reserved pool */
  HUGEPAGE_TOUCHED = 4, /* was populated after the advice */
  HUGEPAGE_ZONE = 16,   /* its memory is the zone's, or a given-up zone's: in lists of its own */
  HUGEPAGE_BUSY = 32,   /* its memory is being changed for another: in no list until that is done */
  HUGEPAGE_COLLAPSING = 64, /* the kernel is asked to put its frames together: no pin now */
  HUGEPAGE_MOVED = 8, /* page tables were moved in or out: mapping differs from its neighbours' */
};

struct hugepage {
  uint64_t used[HUGEPAGE_WORDS];
  uint64_t resident[HUGEPAGE_WORDS];
  uint64_t zero[HUGEPAGE_WORDS];
  uint16_t nused;
  uint16_t nresident;
  uint16_t longest;
  uint8_t state;       /* enum hugepage_state */
  uint8_t kind;        /* enum frames_kind while partial or full */
  uint8_t flags;       /* enum hugepage_flag */
  uint8_t skip;        /* compaction: passes for which it is left alone */
  uint16_t score;      /* compaction: KiB that live in it, when a pass looked last */
  uint32_t next, prev; /* hugepage numbers + 1 in the list it is in; 0 ends */
  uint8_t node;        /* near which its memory is (arch/numa.h), while it has any */
  uint64_t reserved_words[5];
};

_Static_assert(sizeof(struct hugepage) == 256, "0.012 % of the memory described");

void hugepage_init(struct hugepage *hp);

/* First run of `n` free frames whose index is a multiple of `align` (a power of two, at most 512).
 * Index or -1. */
int hugepage_find(const struct hugepage *hp, unsigned n, unsigned align);

/* Marks frames used and resident; true when all of them were known to be zero. */
bool hugepage_take(struct hugepage *hp, unsigned index, unsigned n);

/* Marks used frames free; they stay resident and are no longer known to be zero. */
void hugepage_give(struct hugepage *hp, unsigned index, unsigned n);

/* Are these frames all free? */
bool hugepage_is_free(const struct hugepage *hp, unsigned index, unsigned n);

/* The next run of frames that are free and resident, in whole system pages of `unit` frames, at or
 * after *index. Length, 0 when there is none; *index is where it starts. */
unsigned hugepage_next_dirty(const struct hugepage *hp, unsigned *index, unsigned unit);

/* The run was discarded: not resident, known zero. Whether it is used does not change. */
void hugepage_discarded(struct hugepage *hp, unsigned index, unsigned n);

/* The run may hold memory (again). */
void hugepage_filled(struct hugepage *hp, unsigned index, unsigned n);

unsigned hugepage_free_resident(const struct hugepage *hp);

/* Derives every cached count again. */
bool hugepage_consistent(const struct hugepage *hp);

#endif
