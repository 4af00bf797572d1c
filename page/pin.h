/* Pins: promises that a frame's physical memory doesn't change.
 *
 * They are counted in the owner (a slab's pins, the hold of a folio or of owned frames), so that it
 * refuses to be isolated; while there are any, its frames' memdescs say PINNED. Here is what all
 * owners share: one record per pinned range, so that only what was pinned is unpinned and freeing
 * of pinned memory can be told, and what must be true of frames for a pin to hold.
 *
 * An owner counts a pin before it asks pin_check: who changes what is behind a hugepage marks it
 * first and then asks whether anything in it is pinned, so one of the two sees the other.
 *
 * Lock: `pins.lock` (RANK_PIN), behind the bins'. Thread safe. */
#ifndef QUIRE_PAGE_PIN_H
#define QUIRE_PAGE_PIN_H

#include "page/desc.h"
#include "page/owner.h"

/* Memory that is pinned for long must be its owner's alone: what a mesh shares is moved out of it
 * first (slab_move_out, in slab/pin.h), and settled. */
enum pin_kind { PIN_TRANSIENT, PIN_LONG, PIN_KINDS };

extern struct desc_cache pin_cache;

/* A range that all its owners have counted. False without memory for the record. */
nodiscard bool pin_note(const void *p, size_t length, enum pin_kind kind);

/* False when no such range is noted. */
nodiscard bool pin_forget(const void *p, size_t length, enum pin_kind kind);

/* Is any part of it in a range that is noted? */
bool pin_overlaps(const void *p, size_t length);

/* The owner of this range goes, its pins with it. nframes: that were counted as pinned. */
void pin_drop(const void *p, size_t length, size_t nframes);

/* May these frames be pinned? 0, or -EBUSY: they are being moved. */
nodiscard int pin_check(pfn_t pfn, size_t nframes);

/* An owner's frames have their first pin, or have lost their last. Under the owner's lock. */
void pin_mark(pfn_t pfn, size_t nframes, bool pinned);

/* The same with the count, for owners with a hold (page/hold.h). 0 or as hold_pin and pin_check.
 * The caller looks afterwards whether the frames still name the owner. */
nodiscard int pin_hold(uint32_t *word, pfn_t pfn, size_t nframes);
void pin_unhold(uint32_t *word, pfn_t pfn, size_t nframes);

/* Frames of owners that are pinned. */
size_t pin_frames(void);
const size_t *pin_frames_place(void); /* for other processes */

/* Does what is pinned for long have memory of its own? */
bool pin_consistent(void);

void pin_lock(void);
void pin_unlock(void);
void pin_reset(void);
void pin_fini(void);

#endif
