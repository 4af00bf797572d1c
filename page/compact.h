/* Compaction: giving memory back that a sparse heap holds, without moving a pointer.
 *
 * A pass looks at every hugepage, then works from both ends: the densest become the zone's and
 * with them their slabs hosts, the sparsest are emptied into these. In rising cost:
 *
 *   1 discard   free frames (page/discard.c)
 *   2 hollow    frames in which nothing lives, inside slabs
 *   3 mesh      frames of sparse slabs onto hosts, in runs as long as fit
 *   4 collapse  hugepages of the zone that are in small pages
 *
 * What moves is asked of the frames' owners (page/owner.h); this file knows no slab. A pass goes on
 * from where it stopped: the caller decides how long it may work at a time. One pass at a time, by
 * the thread that opened the zone; its work runs under the lock of discard passes. */
#ifndef QUIRE_PAGE_COMPACT_H
#define QUIRE_PAGE_COMPACT_H

#include "page/owner.h"

enum {
  COMPACT_CLASSES = 256, /* as many as a memdesc can tell apart */
  /* Larger slots are left where they are: one may have a page to itself, which programs protect or
   * have the kernel write to for long, and there is little to gain, since most of their frames are
   * either empty or full. */
  COMPACT_SLOT_MAX = 3584,
  /* Slabs of these lie together, and whole hugepages of them become hosts; then idle frames have
   * memory, too. Of larger slots many frames are idle, and better given back. */
  COMPACT_HUGE_MAX = 1024,
};

struct host_list {
  uint32_t *pfn;  /* first frames of owners in the zone, the fullest first */
  uint16_t *room; /* slots that each had free when it was looked at last */
  uint32_t n, most;
};

static inline void host_list_add(struct host_list *list, pfn_t pfn, size_t room) {
  if (list->n == list->most) return;
  list->pfn[list->n] = pfn.n;
  list->room[list->n++] = (uint16_t)size_min(room, UINT16_MAX);
}

/* What an owner is asked for, and what came of it. */
struct migration {
  bool mesh;               /* false: only to give back frames in which nothing lives */
  unsigned shortest;       /* runs of fewer frames aren't worth a mapping */
  size_t mappings_left;    /* how many more runs may be mapped */
  struct host_list *hosts; /* by size class */
  /* Or to bring what it has to another node of memory (page/bring.h): not NODE_UNKNOWN. */
  unsigned bring_to, bring_most;
  int bring_error; /* that ended it */
  /* Added up: */
  size_t hollowed;   /* frames given back in which nothing lived */
  size_t meshed;     /* frames that got a host's memory */
  size_t runs;       /* that it took */
  size_t hosts_made; /* owners that fitted nowhere and became hosts */
  size_t unplaced;   /* frames with life in them for which no host was found */
  size_t pinned;     /* owners that could not be moved for a pin */
};

struct compact_options {
  unsigned map_share; /* per cent of vm.max_map_count that the zone may use */
  unsigned stall_us;  /* that others may have to wait for one lift (page/mover.h) */
  bool force;         /* mesh also where the kernel has known defects */
  int inherited;      /* a descriptor of /dev/userfaultfd, or -1 */
};

void compact_configure(const struct compact_options *options);

/* Begins a pass; mesh: with the zone, which is opened if need be. Only when none is active. */
void compact_begin(bool mesh);
bool compact_active(void);

/* Works until about `budget_us` of this thread's CPU time are used, at least one unit; true when
 * the pass is over. */
bool compact_step(uint64_t budget_us);

/* Forgets the pass under way: nothing is half done between steps. */
void compact_abandon(void);

/* What the pass that has just ended has gained, in frames. */
size_t compact_gained(void);

struct compact_stats {
  uint64_t passes;
  uint64_t hollowed, meshed, runs, pinned, unplaced; /* as in struct migration, so far */
  uint64_t converted;                                /* hugepages that became the zone's */
  uint64_t refused;                                  /* that did not, for a pin or the kernel */
};

void compact_stats(struct compact_stats *out);
const struct compact_stats *compact_places(void); /* where they are, for other processes */
void compact_fini(void);

#endif
