/* Owned frames: runs of frames that somebody above page/ holds under operations of its own.
 *
 * A holder is who registered: callbacks and what they are called with. An owned run is what it was
 * given: a descriptor that the run's memdescs name, with a hold (page/hold.h) as a folio has.
 * Compaction asks holders to empty their sparsest runs by moving what lives in them elsewhere
 * themselves; a pointer into such a run is the holder's own affair.
 *
 * While a callback runs the run is taken, so its memory stays even if the holder frees it
 * meanwhile: then it goes when the callback is over. No lock of quire's is held in it but the
 * engine's. Thread safe, but for owned_compact: one at a time. */
#ifndef QUIRE_PAGE_OWNED_H
#define QUIRE_PAGE_OWNED_H

#include "page/desc.h"
#include "page/frames.h"
#include "page/owner.h"
#include "page/pin.h"

struct holder;

/* p, nframes: a run. */
struct holder_ops {
  /* As of struct owner_ops. */
  enum owner_verdict (*isolate)(struct holder *holder, void *p, size_t nframes);
  enum owner_verdict (*migrate)(struct holder *holder, void *p, size_t nframes);
  void (*put_back)(struct holder *holder, void *p, size_t nframes);
  /* Bytes that live in it. */
  size_t (*live)(struct holder *holder, const void *p, size_t nframes);
  /* The frame at `failed` has failed: DONE or NEVER. */
  enum owner_verdict (*poison)(struct holder *holder, void *p, size_t nframes, void *failed);
  /* Not in compaction's time, but in quire_pin's caller's. */
  bool (*may_pin)(struct holder *holder, void *p, size_t nframes, enum pin_kind kind);
};

struct holder {
  struct desc desc;
  const struct holder_ops *ops;
  const void *callbacks; /* for who registered */
  void *cookie;
  uint32_t nruns;    /* not given back yet */
  uint32_t nheld;    /* of these, not freed by the holder */
  uint32_t pass;     /* of owned_compact, to which `refusals` belongs */
  uint32_t refusals; /* in a row */
} cacheline_aligned;

struct owned {
  struct desc desc;
  pfn_t pfn;
  uint32_t nframes;
  uint32_t refs; /* who may change it, and its pins: page/hold.h */
  uint32_t unused_word;
  struct holder *holder;
} cacheline_aligned;

_Static_assert(sizeof(struct holder) == 64 && sizeof(struct owned) == 64, "one line each");

extern struct desc_cache holder_cache, owned_cache;

/* NULL when memory ran out. */
nodiscard struct holder *holder_new(const struct holder_ops *ops, const void *callbacks,
                                    void *cookie);

/* 0, and no callback runs any more; -EBUSY: it has runs. Not from a callback. */
nodiscard int holder_free(struct holder *holder);

/* nframes frames, contents anything. NULL when memory ran out. */
nodiscard struct owned *owned_alloc(struct holder *holder, size_t nframes);

/* False: it was free already. Also from a callback. */
bool owned_free(struct owned *owned);

/* As folio_pin; -EBUSY also when the holder says no. */
nodiscard int owned_pin(struct owned *owned, pfn_t pfn, enum pin_kind kind);
void owned_unpin(struct owned *owned);

/* Asks the holders of sparse runs to empty them, the sparsest first. Frames gained. No lock may be
 * held that a callback could need; a fork must wait until it is over. */
size_t owned_compact(void);

/* Frames of all runs. */
size_t owned_frames(void);
const size_t *owned_frames_place(void); /* for other processes */

static inline void *owned_addr(const struct owned *owned) { return arena_addr(owned->pfn); }

bool owned_consistent(const struct owned *owned);
void owned_fini(void);

#endif
