#include "page/pin.h"

#include <errno.h>

#include "page/frames.h"
#include "page/hold.h"
#include "page/hugepage.h"
#include "page/zone.h"

enum { BUCKETS = 64 };

struct pin {
  struct desc desc;
  struct pin *next;
  const char *p;
  size_t length;
  enum pin_kind kind;
} cacheline_aligned;

_Static_assert(sizeof(struct pin) == 64, "one line");

struct desc_cache pin_cache = DESC_CACHE_INIT(sizeof(struct pin), "pin", NULL);

static struct {
  struct lock lock;
  struct pin *buckets[BUCKETS]; /* by where the range begins */
  size_t frames;                /* of owners that are pinned */
} pins = {.lock = LOCK_INIT(RANK_PIN)};

static struct pin **bucket_of(const void *p) {
  return &pins.buckets[((uintptr_t)p >> 4 ^ (uintptr_t)p >> FRAME_SHIFT) % BUCKETS];
}

bool pin_note(const void *p, size_t length, enum pin_kind kind) {
  struct pin *pin = desc_alloc(&pin_cache), **bucket = bucket_of(p);
  if (pin == NULL) return false;
  pin->p = p;
  pin->length = length;
  pin->kind = kind;
  lock_acquire(&pins.lock);
  pin->next = *bucket;
  *bucket = pin;
  lock_release(&pins.lock);
  return true;
}

bool pin_forget(const void *p, size_t length, enum pin_kind kind) {
  struct pin *found = NULL;
  lock_acquire(&pins.lock);
  for (struct pin **at = bucket_of(p); *at != NULL; at = &(*at)->next) {
    if ((*at)->p != p || (*at)->length != length || (*at)->kind != kind) continue;
    found = *at;
    *at = found->next;
    break;
  }
  lock_release(&pins.lock);
  if (found == NULL) return false;
  desc_free(found);
  return true;
}

static bool overlaps(const struct pin *pin, const char *p, size_t length) {
  return pin->p < p + length && p < pin->p + pin->length;
}

/* The link to the first one that overlaps; the lock is held. */
static struct pin **find(const char *p, size_t length) {
  for (unsigned i = 0; i < BUCKETS; i++)
    for (struct pin **at = &pins.buckets[i]; *at != NULL; at = &(*at)->next)
      if (overlaps(*at, p, length)) return at;
  return NULL;
}

bool pin_overlaps(const void *p, size_t length) {
  lock_acquire(&pins.lock);
  bool found = find(p, length) != NULL;
  lock_release(&pins.lock);
  return found;
}

void pin_drop(const void *p, size_t length, size_t nframes) {
  struct pin **at, *dropped = NULL;
  lock_acquire(&pins.lock);
  while ((at = find(p, length)) != NULL) {
    struct pin *pin = *at;
    *at = pin->next;
    pin->next = dropped;
    dropped = pin;
  }
  lock_release(&pins.lock);
  (void)sub_relaxed(&pins.frames, nframes);
  while (dropped != NULL) {
    struct pin *next = dropped->next;
    desc_free(dropped);
    dropped = next;
  }
}

/* A hugepage is marked while what is behind it changes. */
static bool set_aside(pfn_t pfn, size_t nframes) {
  const unsigned marks = HUGEPAGE_BUSY | HUGEPAGE_COLLAPSING;
  bool busy = false;
  uint32_t last = pfn_hugepage(pfn_add(pfn, nframes - 1)).n;
  frames_lock();
  for (uint32_t n = pfn_hugepage(pfn).n; n <= last; n++)
    busy = busy || (arena.hugepages[n].flags & marks) != 0;
  frames_unlock();
  return busy;
}

int pin_check(pfn_t pfn, size_t nframes) { return set_aside(pfn, nframes) ? -EBUSY : 0; }

void pin_mark(pfn_t pfn, size_t nframes, bool pinned) {
  memmap_flag(pfn, nframes, MEMDESC_PINNED, pinned);
  if (pinned)
    (void)add_relaxed(&pins.frames, nframes);
  else
    (void)sub_relaxed(&pins.frames, nframes);
}

static void unhold(uint32_t *word, pfn_t pfn, size_t nframes) {
  if (hold_unpin(word) && hold_pins(word) == 0) pin_mark(pfn, nframes, false);
}

/* The lock keeps the first pin's mark and the last one's in order. */
int pin_hold(uint32_t *word, pfn_t pfn, size_t nframes) {
  lock_acquire(&pins.lock);
  int err = hold_pin(word);
  if (err == 0) {
    if (hold_pins(word) == 1) pin_mark(pfn, nframes, true);
    err = pin_check(pfn, nframes);
    if (err != 0) unhold(word, pfn, nframes);
  }
  lock_release(&pins.lock);
  return err;
}

void pin_unhold(uint32_t *word, pfn_t pfn, size_t nframes) {
  lock_acquire(&pins.lock);
  unhold(word, pfn, nframes);
  lock_release(&pins.lock);
}

static bool own_memory(const struct pin *pin) {
  for (const char *p = pin->p; p < pin->p + pin->length; p += FRAME_SIZE) {
    enum zone_backing backing = zone_backing(arena_pfn(p));
    if (backing == ZONE_HOME || backing == ZONE_GUEST) return false;
  }
  return true;
}

bool pin_consistent(void) {
  bool ok = true;
  lock_acquire(&pins.lock);
  for (unsigned i = 0; i < BUCKETS; i++)
    for (const struct pin *pin = pins.buckets[i]; pin != NULL; pin = pin->next)
      ok = ok && (pin->kind != PIN_LONG || own_memory(pin));
  lock_release(&pins.lock);
  return ok;
}

size_t pin_frames(void) { return load_relaxed(&pins.frames); }
const size_t *pin_frames_place(void) { return &pins.frames; }
void pin_lock(void) { lock_acquire(&pins.lock); }
void pin_unlock(void) { lock_release(&pins.lock); }
void pin_reset(void) { lock_reset(&pins.lock); }

void pin_fini(void) {
  pins = (typeof(pins)){.lock = LOCK_INIT(RANK_PIN)};
  desc_cache_fini(&pin_cache);
}
