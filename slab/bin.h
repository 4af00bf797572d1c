/* One bin per size class (and per node of memory, arch/numa.h): its slabs, ordered by fullness, and
 * a transfer area of loose objects.
 *
 * Objects move in batches. A refill is served from the transfer area if it holds any, else from the
 * fullest slabs; a flush goes to the slabs' bitmaps, but where other threads free what one
 * allocates, to the transfer area while there is room: producer and consumer so hand whole batches
 * to each other without touching a slab. Folio classes have neither: flushed folios are freed.
 *
 * Misuse is seen when a pointer reaches a bitmap; the caller's handler is then called and doesn't
 * return.
 *
 * Thread safe. */
#ifndef QUIRE_SLAB_BIN_H
#define QUIRE_SLAB_BIN_H

#include "arch/lock.h"
#include "slab/slab.h"

enum bin_misuse { MISUSE_DOUBLE_FREE, MISUSE_INTERIOR, MISUSE_NOT_ALLOCATED, MISUSE_WRONG_CLASS };

/* Called with locks held: must not allocate, must not return. */
typedef void bin_misuse_fn(const void *p, enum bin_misuse what);
extern bin_misuse_fn *bin_misuse_handler;

/* Up to n >= 1 objects of the class, at least one unless memory ran out. Number stored in out. */
unsigned bin_refill(unsigned size_class, void **out, unsigned n);

/* Takes n objects of the class back. */
void bin_flush(unsigned size_class, void *const *objects, unsigned n);

/* The same past the transfer area. */
void bin_flush_to_slabs(unsigned size_class, void *const *objects, unsigned n);

/* The same: one object whose freeing is to be checked now, and seen now. */
void bin_free_now(unsigned size_class, void *object);

/* Empties the transfer areas, and frees empty slabs that bins kept; only what has not been in use
 * since the last call, unless `all`. True when something is left for a later call. */
bool bin_trim(bool all);

/* Bins and transfer areas of several nodes of memory, before these are published; for ever. False
 * without memory. */
nodiscard bool bin_open_nodes(unsigned count);

/* Of one class, on all nodes. */
struct bin_stats {
  size_t nslabs; /* all slabs of the class */
  size_t nfull;
  size_t free_slots; /* free in slabs */
  size_t transfer;   /* objects in the transfer area */
  size_t frames;     /* frames of its slabs */
  uint64_t refills, flushes;
  size_t metadata; /* bytes of the bin and its transfer area, as far as they were used */
};

void bin_stats(unsigned size_class, struct bin_stats *out);

/* For readers in other processes: where bins and transfer areas are, an array of each, and those of
 * node 1 and further ones. Offsets are of fields of struct bin and of a transfer area's count. */
struct bin_places {
  const void *bins, *transfers;
  const void *shelves; /* address of a pointer: a record per node from 1 on, NULL without */
  uint32_t shelf_stride, shelf_transfers; /* the bins are at the beginning */
  uint32_t bin_stride, nslabs, nblocked, free_slots, refills, flushes;
  uint32_t transfer_stride, transfer_n;
  size_t transfer_bytes; /* metadata of a transfer area in use */
};
struct bin_places bin_places(void);

/* Bytes of objects that all transfer areas hold, a racy sum. */
size_t bin_transfer_bytes(void);

/* Is p, of class c by its memdesc, the beginning of an object that is not free in its slab? For
 * checks; takes the bin's lock. */
enum slab_verdict bin_check(unsigned size_class, const void *p);

/* Fork: all locks of all bins, in order. */
void bin_lock_all(void);
void bin_unlock_all(void);
void bin_reset_all(void);

bool bin_consistent(unsigned size_class);
void bin_fini_all(void);

#endif
