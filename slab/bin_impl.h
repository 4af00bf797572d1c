/* What bin.c (handing out and taking back) shares with mesh.c and migrate.c (compaction); nobody
 * else includes it. */
#ifndef QUIRE_SLAB_BIN_IMPL_H
#define QUIRE_SLAB_BIN_IMPL_H

#include "slab/bin.h"

enum { FULLNESS_LISTS = 8 };

struct bin {
  struct lock lock;
  uint32_t nfull;
  struct slab *partial[FULLNESS_LISTS];
  struct slab *guests, *isolated; /* lists of the states of these names */
  struct slab *retired;           /* the same: memory of them has failed */
  uint32_t nslabs;                /* in all states */
  uint32_t nempty;                /* empty slabs in list 0 */
  size_t free_slots;              /* in slabs of all states */
  uint32_t nblocked;              /* slots that hosts keep for their guests */
  uint64_t refills, flushes;
} cacheline_aligned;

extern struct bin bins[SLAB_CLASSES]; /* of node 0 */

struct bin *bin_of_node(unsigned node, unsigned size_class);

/* Each class has a bin for each node (arch/numa.h). */
static inline struct bin *bin_at(unsigned node, unsigned size_class) {
  return likely(node == NODE_UNKNOWN) ? &bins[size_class] : bin_of_node(node, size_class);
}

/* For who knows that it is a slab of this bin, or locks the bin and looks whether it still is. */
static inline struct bin *bin_of(const struct slab *slab, unsigned size_class) {
  return bin_at(load_relaxed(&slab->node), size_class);
}

/* All of these need the bin's lock. */

/* Into the list of its fullness, and out of it: state PARTIAL. */
void bin_list_add(struct bin *bin, struct slab *slab);
void bin_list_remove(struct bin *bin, struct slab *slab);

/* After slots came back to a slab: to the list where it belongs now. Returns it if it is to be
 * destroyed, else NULL. */
nodiscard struct slab *bin_settle(struct bin *bin, struct slab *slab);

/* A retired slab in which nothing lives any more leaves its bin: to be destroyed. */
struct slab *slab_leave_retired(struct bin *bin, struct slab *slab);

/* An empty slab that is about to be destroyed, out of the counts. */
void bin_forget_slab(struct bin *bin, struct slab *slab);

/* Without the lock. */
void bin_destroy_slab(struct slab *slab);

#endif
