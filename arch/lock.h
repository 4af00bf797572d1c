/* Ranked futex locks.
 *
 * A lock may be taken only while every lock already held by the thread has a lower rank, or the
 * same rank where the rank says that it is a set (bins and transfer areas, taken in order of node
 * and class by fork alone). Debug builds check this at each acquisition. A lock is one 32-bit word
 * (0 free, 1 held, 2 held with waiters) so that a forked child can simply reset it. Spins briefly,
 * then sleeps in the kernel. Not recursive. Thread safe; async-signal safe only where the holder
 * can't be interrupted. */
#ifndef QUIRE_ARCH_LOCK_H
#define QUIRE_ARCH_LOCK_H

#include "arch/atomic.h"
#include "arch/compiler.h"

enum lock_rank {
  RANK_NONE,
  RANK_STARTUP,    /* alloc/init.c: first call, option parsing */
  RANK_NODES,      /* alloc/nodes.c: the moment from which the heap is divided by nodes */
  RANK_COMPACT,    /* alloc/compaction.c: the engine at work */
  RANK_MOVE_OUT,   /* alloc/compaction.c: who waits for memory to leave the zone */
  RANK_BACKGROUND, /* alloc/background.c: starting and stopping the thread */
  RANK_DISCARD,    /* page/discard.c: a pass that gives memory back or compacts */
  RANK_REGISTRY,   /* alloc/tcache.c: the list of thread caches */
  RANK_TCACHE,     /* one thread's cache; a set: fork takes them all in registry order */
  RANK_TRANSFER,   /* slab/transfer.c: a set, one per class */
  RANK_BIN,        /* slab/bin.c: a set, one per class */
  RANK_PIN,        /* page/pin.c: records of pins */
  RANK_POISON,     /* page/poison.c: frames whose memory has failed */
  RANK_ZONE,       /* page/zone.c: backing of frames; held across the calls that change it */
  RANK_FRAMES,     /* page/frames.c: hugepages and their bitmaps */
  RANK_DESC,       /* page/desc.c: descriptor caches; a set: taken alone, and all by fork */
  RANK_REGION,     /* page/desc.c: the region that the caches carve up */
  RANK_COUNT
};

struct lock {
  uint32_t word;
  uint32_t rank;
};

#define LOCK_INIT(r)                                                                               \
  { 0, (r) }

void lock_wait(struct lock *lock);
void lock_wake(struct lock *lock);
void lock_check_acquire(const struct lock *lock);
void lock_check_release(const struct lock *lock);

static inline void lock_acquire(struct lock *lock) {
  uint32_t expected = 0;
  if (DEBUG_CHECKS) lock_check_acquire(lock);
  if (unlikely(!cas_acquire(&lock->word, &expected, 1))) lock_wait(lock);
}

static inline nodiscard bool lock_try(struct lock *lock) {
  uint32_t expected = 0;
  if (!cas_acquire(&lock->word, &expected, 1)) return false;
  if (DEBUG_CHECKS) lock_check_acquire(lock);
  return true;
}

static inline void lock_release(struct lock *lock) {
  if (DEBUG_CHECKS) lock_check_release(lock);
  if (unlikely(exchange_release(&lock->word, 0) == 2)) lock_wake(lock);
}

/* After fork, in the child: the forking thread held the lock, its other waiters are gone. */
static inline void lock_reset(struct lock *lock) {
  if (DEBUG_CHECKS) lock_check_release(lock);
  store_release(&lock->word, 0);
}

static inline bool lock_is_held(const struct lock *lock) { return load_relaxed(&lock->word) != 0; }

#endif
