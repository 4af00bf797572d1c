/* Folios: large allocations, a run of frames with one owner.
 *
 * Every frame's memdesc points at the folio itself, so there is no head and tail to tell apart; the
 * first frame is folio->pfn. A folio is owned by whoever allocated it: its fields change only in
 * its owner's calls; peekers read them with no lock and check the memdesc again afterwards.
 * Compaction and these calls keep out of each other's way by folio->refs (page/hold.h): resizing
 * and moving are refused while it is isolated, and freeing is then put_back's. A folio in a
 * thread's cache counts as allocated.
 *
 * Thread safe for different folios. */
#ifndef QUIRE_PAGE_FOLIO_H
#define QUIRE_PAGE_FOLIO_H

#include "page/desc.h"
#include "page/frames.h"
#include "page/pin.h"

enum { FOLIO_UNCACHED = 113 }; /* the class of folios that no cache holds: CLASS_LARGE */

enum folio_flag {
  FOLIO_GUARDED = 1, /* its last frames are a guard without access, not part of the allocation */
  FOLIO_FAILED = 2,  /* memory of it has failed: it stays as it is until it is freed */
};

struct folio {
  struct desc desc;
  pfn_t pfn;
  uint32_t nframes;   /* without the guard */
  uint32_t nguard;    /* frames of the guard behind it */
  uint8_t size_class; /* as in its memdescs */
  uint8_t flags;      /* enum folio_flag */
  uint32_t refs;      /* who may change it, and its pins: page/hold.h */
} cacheline_aligned;

_Static_assert(sizeof(struct folio) == 64, "one line");

extern struct desc_cache folio_cache;

/* A folio of nframes frames at an address aligned to align frames. zero: *is_zero tells whether it
 * reads as zeros. guard: one system page behind it is made inaccessible. NULL when memory ran out.
 */
nodiscard struct folio *folio_alloc(size_t nframes, size_t align, unsigned size_class, bool guard,
                                    bool *is_zero);

/* False: it was free already. */
bool folio_free(struct folio *folio);

/* Makes it nframes long where it stands, larger or smaller, and of another class. New frames hold
 * anything. False when it can't: no room, pinned, isolated. */
nodiscard bool folio_resize(struct folio *folio, size_t nframes, unsigned size_class);

/* A folio of nframes frames with the contents of this one, moved by page tables where the kernel
 * can; this one is freed. NULL when memory ran out, the kernel refused, or it is pinned or
 * isolated, and nothing changed. */
nodiscard struct folio *folio_move(struct folio *folio, size_t nframes, unsigned size_class);

/* Counts a pin of frame pfn's folio, if that frame is still its. 0, -EBUSY, -EINVAL, -EOVERFLOW. */
nodiscard int folio_pin(struct folio *folio, pfn_t pfn);
void folio_unpin(struct folio *folio);

static inline void *folio_addr(const struct folio *folio) { return arena_addr(folio->pfn); }
static inline size_t folio_size(const struct folio *folio) {
  return (size_t)folio->nframes << FRAME_SHIFT;
}

bool folio_consistent(const struct folio *folio);

#endif
