/* Pins of any range of allocated memory, and word of memory that has failed: asks the owners.
 *
 * A range is counted owner by owner, then noted as a whole; what was counted before an owner
 * refused is given back. Slabs are the only owners whose memory can be the zone's: a part that is
 * pinned for long is moved out of it once it is counted, since from then on compaction leaves the
 * slab alone. */
#include <errno.h>

#include "alloc/compaction.h"
#include "page/folio.h"
#include "page/owned.h"
#include "page/poison.h"
#include "quire.h"
#include "slab/pin.h"

_Static_assert((int)QUIRE_PIN_TRANSIENT == PIN_TRANSIENT && (int)QUIRE_PIN_LONG == PIN_LONG,
               "the same words");

/* How much of the range lies in a run of frames; 0 when it begins outside, as in a folio's guard.
 */
static size_t clip(pfn_t first, size_t nframes, const char *p, size_t length) {
  size_t at = (size_t)(p - (const char *)arena_addr(first)), size = nframes << FRAME_SHIFT;
  return at < size ? size_min(length, size - at) : 0;
}

static int pin_slab(struct slab *slab, const char *p, size_t *length, enum pin_kind kind) {
  int err = slab_pin(slab, p, length);
  if (err != 0 || kind != PIN_LONG) return err;
  pfn_t first = arena_pfn(p), last = arena_pfn(p + *length - 1);
  err = compaction_move_out(first, last.n - first.n + 1);
  if (err != 0) slab_unpin(slab, p, length);
  return err;
}

/* The part of the range that is its first frame's owner's. */
static int pin_part(const char *p, size_t *length, enum pin_kind kind) {
  if (!arena_contains(p)) return -EINVAL;
  memdesc_t d = memmap_peek(arena_pfn(p));
  struct folio *folio;
  struct owned *owned;
  switch (memdesc_type(d)) {
  case MEMDESC_SLAB:
    return pin_slab(memdesc_owner(d), p, length, kind);
  case MEMDESC_FOLIO:
    folio = memdesc_owner(d);
    *length = clip(folio->pfn, folio->nframes, p, *length);
    return *length == 0 ? -EINVAL : folio_pin(folio, arena_pfn(p));
  case MEMDESC_OWNED:
    owned = memdesc_owner(d);
    *length = clip(owned->pfn, owned->nframes, p, *length);
    return *length == 0 ? -EINVAL : owned_pin(owned, arena_pfn(p), kind);
  default:
    return -EINVAL;
  }
}

static void unpin_part(const char *p, size_t *length) {
  memdesc_t d = memmap_peek(arena_pfn(p));
  struct folio *folio;
  struct owned *owned;
  switch (memdesc_type(d)) {
  case MEMDESC_SLAB:
    slab_unpin(memdesc_owner(d), p, length);
    break;
  case MEMDESC_FOLIO:
    folio = memdesc_owner(d);
    *length = clip(folio->pfn, folio->nframes, p, *length);
    folio_unpin(folio);
    break;
  case MEMDESC_OWNED:
    owned = memdesc_owner(d);
    *length = clip(owned->pfn, owned->nframes, p, *length);
    owned_unpin(owned);
    break;
  default:
    *length = 0;
    break;
  }
}

static void unpin_parts(const char *p, size_t length) {
  while (length > 0) {
    size_t part = length;
    unpin_part(p, &part);
    /* Freed while it was pinned: whatever comes behind this frame. */
    if (part == 0) part = size_min(length, FRAME_SIZE - ((uintptr_t)p & (FRAME_SIZE - 1)));
    p += part;
    length -= part;
  }
}

static int pin_parts(const char *p, size_t length, enum pin_kind kind) {
  for (size_t done = 0, part; done < length; done += part) {
    part = length - done;
    int err = pin_part(p + done, &part, kind);
    if (err == 0) continue;
    unpin_parts(p, done);
    return err;
  }
  return 0;
}

public_symbol int quire_pin(const void *p, size_t size, enum quire_pin_kind kind) {
  if (size == 0 || size > PTRDIFF_MAX || (unsigned)kind >= PIN_KINDS) return EINVAL;
  int err = pin_parts(p, size, (enum pin_kind)kind);
  if (err != 0) return -err;
  if (pin_note(p, size, (enum pin_kind)kind)) return 0;
  unpin_parts(p, size);
  return ENOMEM;
}

public_symbol int quire_unpin(const void *p, size_t size, enum quire_pin_kind kind) {
  if (!pin_forget(p, size, (enum pin_kind)kind)) return EINVAL;
  unpin_parts(p, size);
  return 0;
}

public_symbol int quire_poison(const void *p) {
  if (!arena_contains(p)) return EINVAL;
  switch (poison_frame(arena_pfn(p))) {
  case OWNER_DONE:
    return 0;
  case OWNER_NEVER:
    return EIO;
  default:
    return EBUSY;
  }
}
