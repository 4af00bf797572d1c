/* Owners: what a frame's memdesc points to, seen by who doesn't know its type.
 *
 * page/ knows owners only through these operations; what only the owner's own file calls is not
 * among them. A descriptor finds them through the cache it came from (page/desc.h), so they need no
 * word of their own and can be found from a stale pointer too. The steps of a migration (isolate,
 * migrate, put_back, and the verdicts DONE, BUSY, PINNED, NEVER) join them with compaction. */
#ifndef QUIRE_PAGE_OWNER_H
#define QUIRE_PAGE_OWNER_H

#include "page/arena.h"
#include "page/desc.h"

/* What an owner says of itself. */
struct owner_view {
  pfn_t first;              /* of its run of frames */
  size_t nframes;           /* length of that run, without a guard */
  size_t nguard;            /* frames behind it without access */
  size_t object_size;       /* bytes: of a slot, or of all of it */
  size_t slots, free_slots; /* 0 and 0 where it isn't cut into slots */
  bool pinned;
};

struct owner_ops {
  /* Called by peekers: takes no lock, follows no pointer, and may read a descriptor that is
   * changing hands; what it then says is thrown away. Async-signal safe. */
  void (*describe)(const void *owner, struct owner_view *out);
};

/* The operations of a descriptor, NULL for those that own no frames. */
static inline const struct owner_ops *owner_ops_of(const void *owner) {
  const struct desc *desc = owner;
  return desc->cache->ops;
}

#endif
