#include "slab/pin.h"

#include <errno.h>

#include "page/poison.h"
#include "page/zone.h"
#include "slab/mesh.h"

/* The bin whose lock was taken, if the frame is still this slab's; NULL, and nothing taken. */
static struct bin *lock_slab(const struct slab *slab, pfn_t pfn) {
  unsigned size_class = load_relaxed(&slab->size_class);
  if (!class_is_slab(size_class)) return NULL;
  struct bin *bin = bin_of(slab, size_class);
  lock_acquire(&bin->lock);
  memdesc_t d = memmap_peek(pfn);
  if (memdesc_type(d) == MEMDESC_SLAB && memdesc_owner(d) == slab &&
      slab->size_class == size_class && bin_of(slab, size_class) == bin &&
      slab->state != SLAB_FREE && pfn.n - slab->pfn.n < slab->nframes)
    return bin;
  lock_release(&bin->lock);
  return NULL;
}

static size_t clip(const struct slab *slab, const char *p, size_t length) {
  const char *end = (const char *)slab_addr(slab) + ((size_t)slab->nframes << FRAME_SHIFT);
  return size_min(length, (size_t)(end - p));
}

static bool all_taken(const struct slab *slab, const char *p, size_t length) {
  size_t size = class_size(slab->size_class), at = (size_t)(p - (char *)slab_addr(slab));
  size_t last = (at + length - 1) / size;
  if (last >= slab->nslots) return false;
  for (size_t slot = at / size; slot <= last; slot++)
    if (slab_slot_is_free(slab, (unsigned)slot)) return false;
  return true;
}

/* ---- pins ---- */

static void unpin(struct slab *slab) {
  if (slab->pins == 0) return;
  store_relaxed(&slab->pins, slab->pins - 1);
  if (slab->pins == 0) pin_mark(slab->pfn, slab->nframes, false);
}

static int pin(struct slab *slab) {
  if (slab->state == SLAB_ISOLATED) return -EBUSY;
  if (slab->pins == UINT16_MAX) return -EOVERFLOW;
  store_relaxed(&slab->pins, slab->pins + 1);
  if (slab->pins == 1) pin_mark(slab->pfn, slab->nframes, true);
  int err = pin_check(slab->pfn, slab->nframes);
  if (err != 0) unpin(slab);
  return err;
}

int slab_pin(struct slab *slab, const void *p, size_t *length) {
  struct bin *bin = lock_slab(slab, arena_pfn(p));
  if (bin == NULL) return -EINVAL;
  *length = clip(slab, p, *length);
  int err = all_taken(slab, p, *length) ? pin(slab) : -EINVAL;
  lock_release(&bin->lock);
  return err;
}

void slab_unpin(struct slab *slab, const void *p, size_t *length) {
  struct bin *bin = lock_slab(slab, arena_pfn(p));
  if (bin == NULL) return;
  *length = clip(slab, p, *length);
  unpin(slab);
  lock_release(&bin->lock);
}

/* ---- moving out of the zone ---- */

/* These frames of a slab hold memory of their own now; home: of them, those whose memory in the
 * zone was theirs. Returns the frames whose memory there nobody has any more. */
static uint32_t have_moved(struct slab *slab, uint32_t moved, uint32_t home) {
  uint32_t filled = moved & slab->holes;
  if (filled != 0) frames_fill(slab->pfn, filled);
  slab->holes &= ~filled;
  for (uint32_t left = moved; left != 0; left &= left - 1)
    memmap_flag(pfn_add(slab->pfn, (size_t)__builtin_ctz(left)), 1, MEMDESC_GUEST, false);
  return home & ~mesh_hosting(slab);
}

/* The slab that has this frame, if it is one still, and of its frames those from it on for as many
 * as n. */
static size_t slab_moved(pfn_t pfn, size_t n, uint32_t home) {
  memdesc_t d = memmap_peek(pfn);
  struct slab *slab = memdesc_owner(d);
  struct bin *bin = memdesc_type(d) == MEMDESC_SLAB ? lock_slab(slab, pfn) : NULL;
  if (bin == NULL) return 1;
  unsigned first = pfn.n - slab->pfn.n;
  n = size_min(n, slab->nframes - first);
  uint32_t mask = (uint32_t)((((uint64_t)1 << n) - 1) << first);
  uint32_t unused_now = have_moved(slab, mask, home << first & mask);
  pfn_t begin = slab->pfn;
  lock_release(&bin->lock);
  /* Nobody gets a frame of the zone but by the thread that this is. */
  for (; unused_now != 0; unused_now &= unused_now - 1)
    zone_punch(pfn_add(begin, (size_t)__builtin_ctz(unused_now)), 1);
  return n;
}

int slab_move_out(pfn_t pfn, size_t n) {
  uint32_t home;
  int err = zone_freeze_part(pfn, n, &home);
  if (err == 0) err = zone_settle(pfn, n);
  for (size_t i = 0; err == 0 && i < n;) i += slab_moved(pfn_add(pfn, i), n - i, home >> i);
  return err;
}

/* ---- failed memory ---- */

/* Out of the place where its bin has it. Empty ones are the caller's to destroy. */
static bool retire(struct bin *bin, struct slab *slab) {
  if (slab->state == SLAB_PARTIAL) {
    bin_list_remove(bin, slab);
    if (slab_is_empty(slab)) {
      bin->nempty--;
      bin_forget_slab(bin, slab);
      return true;
    }
  } else if (slab->state == SLAB_FULL) {
    bin->nfull--;
  }
  if (slab->state != SLAB_RETIRED) {
    slab->state = SLAB_RETIRED;
    slab->prev = NULL;
    slab->next = bin->retired;
    if (bin->retired != NULL) bin->retired->prev = slab;
    bin->retired = slab;
  }
  return false;
}

struct slab *slab_leave_retired(struct bin *bin, struct slab *slab) {
  if (slab->next != NULL) slab->next->prev = slab->prev;
  if (slab->prev != NULL)
    slab->prev->next = slab->next;
  else
    bin->retired = slab->next;
  bin_forget_slab(bin, slab);
  return slab;
}

/* What takes part in a mesh has its memory at several addresses; what compaction has is not to be
 * had now. Both end. */
enum owner_verdict slab_poison(void *owner, pfn_t pfn) {
  struct slab *slab = owner;
  struct bin *bin = lock_slab(slab, pfn);
  bool empty = false;
  if (bin == NULL) return OWNER_BUSY;
  enum owner_verdict verdict = OWNER_BUSY;
  if (slab->mesh == NULL && slab->state != SLAB_ISOLATED && poison_note(pfn)) {
    bool lived = slab_live_frames(slab) >> (pfn.n - slab->pfn.n) & 1;
    verdict = lived ? OWNER_NEVER : OWNER_DONE;
    empty = retire(bin, slab);
  }
  lock_release(&bin->lock);
  if (empty) bin_destroy_slab(slab);
  return verdict;
}
