/* What frames.c (placement), discard.c (giving memory back) and bring.c (moving it to another node)
 * share; nobody else includes it. */
#ifndef QUIRE_PAGE_FRAMES_IMPL_H
#define QUIRE_PAGE_FRAMES_IMPL_H

#include "arch/lock.h"
#include "arch/numa.h"
#include "page/frames.h"
#include "page/hugepage.h"

enum {
  LEVELS = 8, /* occupancy in eighths */
  LENGTHS = HUGEPAGE_FRAMES + 1,
  LENGTH_WORDS = (LENGTHS + 63) / 64,
  MAX_HUGEPAGES = 1 << 22, /* 8 TiB */
  DEMAND_SLOTS = 8,
};

struct frames {
  struct lock lock;
  struct frames_options options;
  uint32_t nempty;
  uint32_t nleaving;
  struct frames_stats stats;
  /* Demand: the most frames used in each of the last slots of decay_ms / 8. */
  size_t demand[DEMAND_SLOTS];
  size_t demand_now; /* most frames used since the current slot began */
  unsigned slot;
  uint64_t slot_since; /* ms */
  uint64_t huge_refused_until;
  unsigned huge_refusals;    /* in a row */
  unsigned huge_good;        /* hugepages that came as they should since one did not */
  uint32_t nmoved;           /* hugepages with HUGEPAGE_MOVED */
  size_t used_of[NODES_MAX]; /* frames handed out, by their hugepages' nodes */
};

/* The partial hugepages of one node. */
struct frames_lists {
  uint32_t heads[FRAMES_KINDS][LEVELS][LENGTHS]; /* hugepage number + 1; 0 is an empty list */
  uint64_t lengths[FRAMES_KINDS][LEVELS][LENGTH_WORDS]; /* bit n: heads[..][n] is not empty */
};

/* Where hugepages are found by state. Zeros at first, and apart from the rest: over a megabyte of
 * address space, of which a heap touches what it needs. */
struct frames_index {
  struct frames_lists unknown; /* node 0's, the only ones while no other is known */
  struct frames_lists *known;  /* from node 1 on */
  size_t known_bytes;
  uint64_t empty[MAX_HUGEPAGES / 64];   /* hugepages in state EMPTY */
  uint64_t warm[MAX_HUGEPAGES / 64];    /* those of them with resident frames; a subset of empty */
  uint64_t leaving[MAX_HUGEPAGES / 64]; /* no frame used, but still the zone's: discarded first */
};

extern struct frames frames;
extern struct frames_index frames_index;

/* All of these need the frames lock. */
void frames_link(struct hugepage *hp);   /* by its state: into its list or the set of empty ones */
void frames_unlink(struct hugepage *hp); /* out of it */
bool frames_want_huge(void);
void frames_advise(struct hugepage *hp, uint32_t count, bool huge);

/* Without the lock. */
void frames_judge_huge(bool fallback, uint64_t took_us, uint64_t allowed_us);

static inline struct frames_lists *frames_lists(unsigned node) {
  return likely(node == NODE_UNKNOWN) ? &frames_index.unknown : &frames_index.known[node - 1];
}

/* Used, it is another node's from now on: for who has its memory moved there. */
void frames_set_node(struct hugepage *hp, unsigned node);

static inline hpn_t hugepage_number(const struct hugepage *hp) {
  return (hpn_t){(uint32_t)(hp - arena.hugepages)};
}

#endif
