#include "page/poison.h"

#include "page/frames.h"
#include "page/hugepage.h"

enum { NOTES_MAX = 256 };

static struct {
  struct lock lock;
  uint32_t n;
  pfn_t notes[NOTES_MAX];
  size_t frames; /* of type POISON */
} failed = {.lock = LOCK_INIT(RANK_POISON)};

static bool is_noted(pfn_t pfn) {
  for (uint32_t i = 0; i < failed.n; i++)
    if (failed.notes[i].n == pfn.n) return true;
  return false;
}

bool poison_note(pfn_t pfn) {
  lock_acquire(&failed.lock);
  bool ok = is_noted(pfn);
  if (!ok && failed.n < NOTES_MAX) {
    failed.notes[failed.n] = pfn;
    store_relaxed(&failed.n, failed.n + 1);
    ok = true;
  }
  lock_release(&failed.lock);
  return ok;
}

uint32_t poison_noted(void) { return load_relaxed(&failed.n); }

/* The note of the lowest of these frames; NOTES_MAX when none has one. The lock is held. */
static uint32_t first_note(pfn_t pfn, size_t n) {
  uint32_t first = NOTES_MAX;
  for (uint32_t i = 0; i < failed.n; i++)
    if (failed.notes[i].n - pfn.n < n &&
        (first == NOTES_MAX || failed.notes[i].n < failed.notes[first].n))
      first = i;
  return first;
}

size_t poison_retire(pfn_t pfn, size_t n) {
  size_t at = n;
  lock_acquire(&failed.lock);
  uint32_t note = first_note(pfn, n);
  if (note != NOTES_MAX) {
    at = failed.notes[note].n - pfn.n;
    failed.notes[note] = failed.notes[failed.n - 1];
    store_relaxed(&failed.n, failed.n - 1);
  }
  lock_release(&failed.lock);
  if (at < n) poison_set(pfn_add(pfn, at), 1);
  return at;
}

void poison_set(pfn_t pfn, size_t n) {
  for (size_t i = 0; i < n; i++) {
    pfn_t at = pfn_add(pfn, i);
    memmap_set(at, 1, memdesc_make(MEMDESC_POISON, 0, &arena.hugepages[pfn_hugepage(at).n]));
  }
  (void)add_relaxed(&failed.frames, n);
}

static enum owner_verdict poison_free(pfn_t pfn) {
  if (pfn_hugepage(pfn).n >= load_acquire(&arena.opened)) return OWNER_BUSY;
  if (!frames_take(pfn)) return OWNER_BUSY;
  poison_set(pfn, 1);
  return OWNER_DONE;
}

enum owner_verdict poison_frame(pfn_t pfn) {
  memdesc_t d = memmap_peek(pfn);
  const struct owner_ops *ops;
  switch (memdesc_type(d)) {
  case MEMDESC_NONE:
  case MEMDESC_FREE:
    return poison_free(pfn);
  case MEMDESC_SLAB:
  case MEMDESC_FOLIO:
  case MEMDESC_OWNED:
    ops = owner_ops_of(memdesc_owner(d));
    return ops->poison != NULL ? ops->poison(memdesc_owner(d), pfn) : OWNER_BUSY;
  case MEMDESC_POISON:
    return OWNER_DONE;
  default:
    return OWNER_NEVER;
  }
}

size_t poison_frames(void) { return load_relaxed(&failed.frames); }
const size_t *poison_frames_place(void) { return &failed.frames; }
void poison_lock(void) { lock_acquire(&failed.lock); }
void poison_unlock(void) { lock_release(&failed.lock); }
void poison_reset(void) { lock_reset(&failed.lock); }
void poison_fini(void) { failed = (typeof(failed)){.lock = LOCK_INIT(RANK_POISON)}; }
