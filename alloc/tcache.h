/* Thread caches: a stack of pointers per size class per thread.
 *
 * malloc pops, free pushes (fast.h); everything else is a miss and comes here. A cache belongs to
 * its thread; what is guarded by tc->lock is said beside each field. The stacks may be taken by
 * another thread that holds tc->lock and follows the protocol of arch/rseq_stack.h. */
#ifndef QUIRE_ALLOC_TCACHE_H
#define QUIRE_ALLOC_TCACHE_H

#include "arch/lock.h"
#include "arch/rseq_stack.h"
#include "page/desc.h"
#include "slab/size_class.h"

struct tcache {
  struct desc desc;
  uint64_t *rseq_area;       /* of its thread; never NULL (a dummy where it has none) */
  struct rseq_stacks stacks; /* by class; CLASS_LARGE always misses */
  /* Below: tc->lock, but for the links (registry lock). */
  struct lock lock;
  int32_t tid;
  bool takeable;   /* others may take its stacks */
  uint16_t misses; /* since the last scavenge */
  size_t budget;   /* bytes that its limits allow it to hold, claimed from the process's total */
  struct tcache *next, *prev;
  uint64_t missed[(ALL_CLASSES + 63) / 64]; /* classes that missed since the last scavenge */
  void **seen[CACHED_CLASSES];              /* where cur stood when a trim looked last */
  void *slots[]; /* per class: NULL, then up to its most objects; then NULL */
};

/* Never NULL: a thread without a cache points to one that misses always. */
extern _Thread_local struct tcache *tcache_self tls_initial_exec;

_Static_assert((int)RSEQ_STACKS == (int)ALL_CLASSES, "a stack per class");

extern struct desc_cache tcache_cache;

void tcache_init(void);

/* An object of the class for a pop that missed; NULL when memory ran out. */
void *tcache_miss(unsigned size_class);

/* A push that missed: full, no cache, locked, or p is what was pushed last. */
void tcache_overflow(unsigned size_class, void *p);

/* Has this thread's cache p among the last few objects that were freed? For checks of misuse. */
bool tcache_recently_freed(unsigned size_class, const void *p);

/* Gives all that this thread's cache holds back. */
void tcache_flush(void);

/* Takes what idle threads' caches hold: of those whose stacks have not moved since the last call;
 * of all, when `all`. Bytes taken. */
size_t tcache_reclaim(bool all);

struct tcache_stats {
  size_t ncaches;
  size_t bytes;       /* objects held, a racy sum */
  size_t budget;      /* bytes that they may hold */
  size_t metadata;    /* bytes of the caches themselves */
  uint64_t reclaimed; /* bytes taken from idle threads so far */
};

void tcache_stats(struct tcache_stats *out);

/* For readers in other processes: where they are. */
struct tcache_places {
  struct tcache *const *first;
  const size_t *ncaches;
  const uint64_t *reclaimed;
  const uint16_t *slots_from; /* by class: index of its NULL slot; one more: of the locked slot */
};
struct tcache_places tcache_places(void);

/* Objects of one class in all caches; racy. */
size_t tcache_objects(unsigned size_class);

/* Fork. In the child the caches of other threads are left alone for ever: their memory may have
 * been copied between two stores. */
void tcache_lock_all(void);
void tcache_unlock_all(void);
void tcache_reset_all(void);

bool tcache_consistent(void);

#endif
