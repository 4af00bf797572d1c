/* Pins and failed memory of slabs. A slab is pinned as a whole: while one object of it is, none of
 * its frames moves. Thread safe; the bin's lock is taken. */
#ifndef QUIRE_SLAB_PIN_H
#define QUIRE_SLAB_PIN_H

#include "page/pin.h"
#include "slab/slab.h"

/* Counts a pin of the objects that [p, p + *length) touches, which begins in frame pfn of this
 * slab; *length becomes as much of it as lies in the slab. 0; -EINVAL: not a slab's any more, or
 * not all of it is allocated; -EBUSY; -EOVERFLOW. */
nodiscard int slab_pin(struct slab *slab, const void *p, size_t *length);

/* Moves what lies in these frames (at most 32, of slabs that are pinned) out of the zone and gives
 * it pages of its own; see mesh.h for what that means to hosts and guests. Called by the thread
 * that opened the zone, between its moves. 0 or a negative errno: then some of them may still be
 * the zone's, and nothing else is different. */
int slab_move_out(pfn_t pfn, size_t n);

/* Takes one back, if there is any; *length as above. */
void slab_unpin(struct slab *slab, const void *p, size_t *length);

/* An owner's operation (page/owner.h). The slab hands out nothing any more and goes as soon as
 * nothing lives in it. */
enum owner_verdict slab_poison(void *owner, pfn_t pfn);

#endif
