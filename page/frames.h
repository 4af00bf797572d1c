/* The frame allocator: runs of frames out of hugepages.
 *
 * Placement packs the fullest hugepage that fits, so that the emptiest drain by themselves. Frames
 * of small objects and frames of large ones (kinds) never share a hugepage while another choice
 * exists. Where the heap is divided by nodes of memory (arch/numa.h), a hugepage is one node's.
 * Freed frames stay resident until demand has been lower for the decay time, then they are
 * discarded: wholly empty hugepages first, holes in used ones last.
 *
 * All functions are thread safe (one lock, RANK_FRAMES); system calls that may take long run
 * outside it. */
#ifndef QUIRE_PAGE_FRAMES_H
#define QUIRE_PAGE_FRAMES_H

#include "arch/numa.h"
#include "page/arena.h"

/* ZONE: of slabs too, in hugepages whose memory is the zone's. Never asked for: they are filled
 * before others. */
enum frames_kind { FRAMES_SLAB, FRAMES_FOLIO, FRAMES_ZONE, FRAMES_KINDS };

enum frames_huge { FRAMES_HUGE_AUTO, FRAMES_HUGE_ALWAYS, FRAMES_HUGE_NEVER, FRAMES_HUGE_HUGETLB };

/* Set before the first frames_alloc, from alloc's options. */
struct frames_options {
  enum frames_huge huge;
  size_t huge_threshold; /* bytes opened from which `auto` asks for hugepages */
  uint64_t decay_ms;     /* how long freed frames stay resident; 0: discard at each tick */
};

struct frames_run {
  pfn_t pfn;
  size_t nframes;
  bool zero; /* all of it reads as zeros */
};

struct frames_stats {
  size_t opened;        /* frames that may be touched */
  size_t used;          /* handed out */
  size_t free_resident; /* free and perhaps backed by memory */
  size_t peak_used;
  size_t hugepages;    /* not empty */
  size_t huge_advised; /* hugepages the kernel was asked for */
  uint64_t discards;   /* system calls that gave memory back */
  uint64_t discarded;  /* frames given back so far */
  uint64_t discard_failures;
  uint64_t huge_fallbacks; /* asked for a hugepage, got small pages */
  uint64_t huge_stalls;    /* got one, but only after long */
  uint64_t moves;          /* runs whose page tables were moved */
  size_t hollow;           /* used frames without memory of their own */
  size_t zone;             /* hugepages whose memory is the zone's */
  size_t metadata;         /* bytes of the lists and sets themselves, as far as they are in use */
};

void frames_configure(const struct frames_options *options);

/* Room for hugepages of several nodes (arch/numa.h), before these are published; for ever. False
 * without memory. */
nodiscard bool frames_open_nodes(unsigned count);

/* The node near which a used frame's memory is. */
unsigned frames_node(pfn_t pfn);

/* Frames handed out, by node. */
void frames_used_of(size_t out[NODES_MAX]);

/* A run of nframes >= 1 whose address is a multiple of align frames (a power of two >= 1), near the
 * calling thread if that can be. 0 or -ENOMEM. The frames' memdescs are NONE or FREE; the caller
 * sets them, and clears them before frames_free. */
nodiscard int frames_alloc(size_t nframes, size_t align, enum frames_kind kind,
                           struct frames_run *out);
void frames_free(pfn_t pfn, size_t nframes);

/* Takes this very frame, if it is free; the caller sets its memdesc. False when it isn't, or its
 * hugepage is set aside. */
nodiscard bool frames_take(pfn_t pfn);

/* The same for frames known to hold no memory and to read as zeros (after frames_move,
 * frames_zero). */
void frames_free_zero(pfn_t pfn, size_t nframes);

/* The same; bit i of `hollow`: frame i holds no memory. */
void frames_free_hollow(pfn_t pfn, size_t nframes, uint32_t hollow);

/* Used frames in one hugepage, a bit each from pfn on: they hold no memory now; they may again. */
void frames_hollow(pfn_t pfn, uint32_t mask);
void frames_fill(pfn_t pfn, uint32_t mask);

/* Sets a hugepage of slabs aside, so that its backing may be changed: neither placement nor discard
 * touches it until frames_restore. The caller holds the lock of discard passes. False when it can't
 * be now. */
nodiscard bool frames_isolate(hpn_t hpn);

/* zone: all its memory is the zone's from now on, and resident. */
void frames_restore(hpn_t hpn, bool zone);

/* Extends a run of nframes by more frames right behind it, if they are free. *zero as in
 * frames_run. */
nodiscard bool frames_extend(pfn_t pfn, size_t nframes, size_t more, enum frames_kind kind,
                             bool *zero);

/* Moves the memory of nframes used frames from one run to another, page tables instead of bytes.
 * Old contents of `to` are lost, `from` reads as zeros afterwards. 0 or a negative errno with
 * nothing changed. Both runs belong to the caller. */
nodiscard int frames_move(pfn_t from, pfn_t to, size_t nframes);

/* Discards used frames that belong to the caller: they read as zeros afterwards. 0 or negative
 * errno. */
nodiscard int frames_zero(pfn_t pfn, size_t nframes);

/* One step of decay at time now_ms: records demand, discards what has been in excess of it. Returns
 * milliseconds until it wants to be called again, UINT64_MAX when nothing is left to decay. */
uint64_t frames_decay(uint64_t now_ms);

/* Is a decay step due? Cheap and without a lock: for callers that have just freed something. */
bool frames_decay_due(void);

/* Discards free frames now, holes included, but for `keep` frames. Returns frames discarded. */
size_t frames_purge(size_t keep);

/* Collapses one hugepage that has filled with small pages; true when there may be more to do. */
bool frames_collapse_one(void);

/* Has the kernel make one page of a hugepage's, unless something in it is pinned. -EBUSY then, or
 * what it says. */
int frames_collapse(hpn_t hpn);

void frames_stats(struct frames_stats *out);

/* For readers in other processes: where they are counted, all but metadata. */
struct frames_places {
  const struct frames_stats *stats;
  const size_t *used_of;     /* frames_used_of */
  const size_t *nodes_bytes; /* metadata of the lists by node */
  size_t fixed_bytes;        /* and what doesn't grow with the arena */
};
struct frames_places frames_places(void);
size_t frames_used(void);

/* Fork: the lock of discard passes first, then the frames lock. */
void frames_lock_discard(void);
void frames_unlock_discard(void);
void frames_reset_discard(void);
void frames_lock(void);
void frames_unlock(void);
void frames_reset(void);

/* Debug and tests: derives every list and count again. */
bool frames_consistent(void);
void frames_fini(void);

#endif
