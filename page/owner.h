/* Owners: what a frame's memdesc points to, seen by who doesn't know its type.
 *
 * page/ knows owners only through these operations; what only the owner's own file calls is not
 * among them. A descriptor finds them through the cache it came from (page/desc.h), so they need no
 * word of their own and can be found from a stale pointer too. */
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

enum owner_verdict {
  OWNER_DONE,
  OWNER_BUSY,   /* not now: try later */
  OWNER_PINNED, /* its memory must not change */
  OWNER_NEVER,
};

struct migration; /* what compaction offers: page/compact.h */

/* A migration is isolate, then migrate (as often as pays), then put_back. */
struct owner_ops {
  /* Called by peekers: takes no lock, follows no pointer, and may read a descriptor that is
   * changing hands; what it then says is thrown away. Async-signal safe. */
  void (*describe)(const void *owner, struct owner_view *out);
  /* pfn: the frame whose memdesc led here; the owner takes its lock and looks whether it still
   * does. After DONE nothing new is handed out of its frames: what lives in them can only become
   * less, until put_back. */
  enum owner_verdict (*isolate)(void *owner, pfn_t pfn);
  /* Isolated: bit i says that frame i of its first 64 holds something that lives. */
  uint64_t (*dirty)(void *owner);
  /* Isolated: moves what lives in its frames, as the migration says. NEVER: it has nothing that
   * could be moved or given back. */
  enum owner_verdict (*migrate)(void *owner, struct migration *m);
  void (*put_back)(void *owner);
  /* The memory behind this frame has failed: from now on nothing new is handed out there, and when
   * the owner lets its frames go this one becomes POISON (page/poison.h). Not isolated. DONE:
   * nothing lived there; NEVER: something did, and it is lost; BUSY: nothing was done, try later.
   */
  enum owner_verdict (*poison)(void *owner, pfn_t pfn);
};

/* The operations of a descriptor, NULL for those that own no frames. */
static inline const struct owner_ops *owner_ops_of(const void *owner) {
  const struct desc *desc = owner;
  return load_relaxed(&desc->cache)->ops;
}

#endif
