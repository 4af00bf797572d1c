/* Frames whose memory has failed: touching it is a SIGBUS, so nothing new may be put there.
 *
 * A free frame is taken out of use at once (memdesc POISON, for ever). One that belongs to somebody
 * is noted, its owner sees to it that nothing new is handed out there, and when the owner lets its
 * frames go this one becomes POISON instead of free. What lived there is lost; which objects those
 * are the program knows best.
 *
 * Memory that fails is rare: a short table is searched only while it isn't empty. Lock:
 * RANK_POISON. Thread safe. */
#ifndef QUIRE_PAGE_POISON_H
#define QUIRE_PAGE_POISON_H

#include "page/owner.h"

/* The memory behind this frame has failed. Verdicts as of owner_ops.poison. */
enum owner_verdict poison_frame(pfn_t pfn);

/* For owners: true when the frame is noted, now or before; false when the table is full. */
nodiscard bool poison_note(pfn_t pfn);

/* Frames noted. */
uint32_t poison_noted(void);

/* Of frames about to be given back, whose memdescs are FREE: makes the first that is noted POISON
 * and returns its index; n when there is none. */
size_t poison_retire(pfn_t pfn, size_t n);

/* Makes frames that are NONE or FREE, and used in their hugepage, POISON. */
void poison_set(pfn_t pfn, size_t n);

/* Frames out of use for good. */
size_t poison_frames(void);
const size_t *poison_frames_place(void); /* for other processes */

void poison_lock(void);
void poison_unlock(void);
void poison_reset(void);
void poison_fini(void);

#endif
