/* Peeking: reading what a frame belongs to without any lock, by the protocol that readers in other
 * processes follow too (include/quire.h, struct quire_peek).
 *
 * Load the frame's word, check its type, read its owner's descriptor, load the word again and
 * compare. Descriptors are type-stable (page/desc.h), so following a stale owner reads a descriptor
 * of the right type, whose contents are thrown away when the word has changed. Thread safe, lock
 * free, async-signal safe. */
#ifndef QUIRE_ALLOC_PEEK_H
#define QUIRE_ALLOC_PEEK_H

#include "page/arena.h"

/* What one frame belongs to. */
struct peeked {
  memdesc_t word;
  const void *
      owner; /* a slab, folio or owned run; NULL for other types, which have nothing of the below */
  pfn_t first;    /* of the owner's run */
  size_t nframes; /* length of that run, without a folio's guard */
  size_t nguard;
  size_t object_size;
  size_t slots, free_slots; /* of a slab */
  bool pinned;
};

/* False when the frame changed hands each time that it was looked at: it belongs to nobody for
 * long. */
nodiscard bool peek_frame(pfn_t pfn, struct peeked *out);

/* Is this slot of a peeked slab free? False as above, also when the frame has another owner
 * meanwhile. */
nodiscard bool peek_slot(pfn_t pfn, const struct peeked *slab, size_t slot, bool *is_free);

/* Frames of a run that may hold memory, by the hugepages' bitmaps as they are now. */
size_t peek_resident(pfn_t pfn, size_t nframes);

#endif
