/* Folios.
 *
 * Theory. A folio is free, allocated, or allocated and taken (page/hold.h). Whoever changes which
 * frames are its own has taken it: its owner's call that resizes or moves it, or compaction between
 * isolate and put_back. None of them waits for another. A resize that comes while compaction has
 * the folio is refused, and realloc then copies; a free that comes then is left to put_back.
 *
 * All of a folio lives from the time it is allocated until it is freed, whether the program holds
 * it or a thread's cache: there are no frames in it that could be given back, and none that a mesh
 * could merge. So migrate has nothing to do, unless the folio is to be brought to another node of
 * memory (page/bring.h). */
#include "page/folio.h"

#include <errno.h>

#include "arch/sys.h"
#include "page/bring.h"
#include "page/compact.h"
#include "page/hold.h"
#include "page/hugepage.h"
#include "page/poison.h"

static peeker void folio_describe(const void *owner, struct owner_view *out) {
  const struct folio *folio = owner;
  out->first = (pfn_t){load_relaxed(&folio->pfn.n)};
  out->nframes = load_relaxed(&folio->nframes);
  out->nguard = load_relaxed(&folio->nguard);
  out->object_size = out->nframes << FRAME_SHIFT;
  out->slots = out->free_slots = 0;
  out->pinned = hold_pins(&folio->refs) != 0;
}

static enum owner_verdict folio_isolate(void *owner, pfn_t pfn);
static uint64_t folio_dirty(void *owner);
static enum owner_verdict folio_migrate(void *owner, struct migration *m);
static void folio_put_back(void *owner);
static enum owner_verdict folio_poison(void *owner, pfn_t pfn);

static const struct owner_ops folio_ops = {
    .describe = folio_describe,
    .isolate = folio_isolate,
    .dirty = folio_dirty,
    .migrate = folio_migrate,
    .put_back = folio_put_back,
    .poison = folio_poison,
};

struct desc_cache folio_cache = DESC_CACHE_INIT(sizeof(struct folio), "folio", &folio_ops);

static void set_frames(struct folio *folio, pfn_t from, size_t n) {
  memmap_set(from, n, memdesc_make(MEMDESC_FOLIO, folio->size_class, folio));
}

static size_t guard_frames(void) { return size_max(1, sys_page_size() / FRAME_SIZE); }

/* The guard's frames are part of the folio, so that a walk finds an owner for them, but not of its
 * size. A guard must cover whole system pages, so the folio does too. */
static void install_guard(struct folio *folio) {
  void *p = arena_addr(pfn_add(folio->pfn, folio->nframes));
  if (sys->close(p, (size_t)folio->nguard * FRAME_SIZE) == 0) folio->flags |= FOLIO_GUARDED;
}

static void remove_guard(struct folio *folio) {
  void *p = arena_addr(pfn_add(folio->pfn, folio->nframes));
  if ((folio->flags & FOLIO_GUARDED) == 0) return;
  /* Without access the frames can't be used again: that would be a crash later, so it is one now.
   */
  assert_always(sys->open_write(p, (size_t)folio->nguard * FRAME_SIZE) == 0);
  folio->flags &= (uint8_t)~FOLIO_GUARDED;
}

/* Nobody else has it any more. */
static void give_back(struct folio *folio) {
  pfn_t pfn = folio->pfn;
  size_t n = (size_t)folio->nframes + folio->nguard;
  remove_guard(folio);
  memmap_clear(pfn, n, MEMDESC_FOLIO);
  hold_end(&folio->refs);
  desc_free(folio);
  frames_free(pfn, n);
}

static void put_back(struct folio *folio) {
  if (unlikely(!hold_put_back(&folio->refs))) give_back(folio);
}

struct folio *folio_alloc(size_t nframes, size_t align, unsigned size_class, bool guard,
                          bool *is_zero) {
  struct frames_run run;
  size_t unit = guard_frames(), nguard = guard ? unit : 0;
  if (guard) {
    nframes = align_up(nframes, unit);
    align = size_max(align, unit);
  }
  if (nframes > arena.size / FRAME_SIZE) return NULL;
  struct folio *folio = desc_alloc(&folio_cache);
  if (folio == NULL) return NULL;
  if (frames_alloc(nframes + nguard, align, FRAMES_FOLIO, &run) != 0) {
    desc_free(folio);
    return NULL;
  }
  folio->pfn = run.pfn;
  folio->nframes = (uint32_t)nframes;
  folio->nguard = (uint32_t)nguard;
  folio->size_class = (uint8_t)size_class;
  folio->flags = 0;
  hold_begin(&folio->refs);
  set_frames(folio, folio->pfn, nframes + nguard);
  if (guard) install_guard(folio);
  hold_open(&folio->refs);
  *is_zero = run.zero;
  return folio;
}

bool folio_free(struct folio *folio) {
  uint32_t pins;
  switch (hold_free(&folio->refs, &pins)) {
  case HOLD_FREED:
    if (unlikely(pins != 0)) pin_drop(folio_addr(folio), folio_size(folio), folio->nframes);
    give_back(folio);
    return true;
  case HOLD_FREED_LATER:
    return true;
  default:
    return false;
  }
}

static void shrink(struct folio *folio, size_t nframes) {
  pfn_t from = pfn_add(folio->pfn, nframes);
  size_t n = folio->nframes - nframes;
  folio->nframes = (uint32_t)nframes;
  memmap_clear(from, n, MEMDESC_FOLIO);
  frames_free(from, n);
}

static bool grow(struct folio *folio, size_t nframes) {
  size_t old = folio->nframes;
  bool zero;
  if (!frames_extend(folio->pfn, old, nframes - old, FRAMES_FOLIO, &zero)) return false;
  set_frames(folio, pfn_add(folio->pfn, old), nframes - old);
  folio->nframes = (uint32_t)nframes;
  return true;
}

/* Its memdescs and the folio name another class from now on. */
static void reclass(struct folio *folio, unsigned size_class) {
  folio->size_class = (uint8_t)size_class;
  memmap_reclass(folio->pfn, (size_t)folio->nframes + folio->nguard, size_class);
}

/* Taken: other frames, or another place? */
static bool may_change(const struct folio *folio) {
  return folio->nguard == 0 && (folio->flags & FOLIO_FAILED) == 0;
}

bool folio_resize(struct folio *folio, size_t nframes, unsigned size_class) {
  if (hold_take(&folio->refs) != OWNER_DONE) return false;
  bool same_length = nframes == folio->nframes;
  bool ok = same_length || may_change(folio);
  if (ok && nframes < folio->nframes)
    shrink(folio, nframes);
  else if (ok && !same_length)
    ok = grow(folio, nframes);
  if (ok && size_class != folio->size_class && !(folio->flags & FOLIO_FAILED))
    reclass(folio, size_class);
  put_back(folio);
  return ok;
}

/* Its frames can't be touched any more: they stay used for ever, and say so. */
static cold void retire(struct folio *folio) {
  pfn_t pfn = folio->pfn;
  size_t n = folio->nframes;
  memmap_clear(pfn, n, MEMDESC_FOLIO);
  hold_end(&folio->refs);
  desc_free(folio);
  poison_set(pfn, n);
}

/* The folio that takes over its contents, which it is about to lose; NULL with nothing changed. */
static struct folio *move_to(struct folio *folio, size_t nframes, unsigned size_class) {
  bool zero;
  /* Aligned alike, whole page tables move at once and hugepages stay whole. */
  struct folio *to = folio_alloc(nframes, HUGEPAGE_FRAMES, size_class, false, &zero);
  if (to == NULL) return NULL;
  int err = frames_move(folio->pfn, to->pfn, size_min(nframes, folio->nframes));
  if (err == 0) return to;
  if (err == -ENOTRECOVERABLE)
    retire(to);
  else
    (void)folio_free(to);
  return NULL;
}

struct folio *folio_move(struct folio *folio, size_t nframes, unsigned size_class) {
  if (hold_take(&folio->refs) != OWNER_DONE) return NULL;
  struct folio *to = may_change(folio) ? move_to(folio, nframes, size_class) : NULL;
  if (to == NULL) {
    put_back(folio);
    return NULL;
  }
  pfn_t from = folio->pfn;
  size_t n = folio->nframes, moved = size_min(nframes, n);
  memmap_clear(from, n, MEMDESC_FOLIO);
  hold_end(&folio->refs);
  desc_free(folio);
  frames_free_zero(from, moved);
  if (n > moved) frames_free(pfn_add(from, moved), n - moved);
  return to;
}

/* ---- an owner's operations ---- */

static bool owns(const struct folio *folio, pfn_t pfn) {
  memdesc_t d = memmap_peek(pfn);
  return memdesc_type(d) == MEMDESC_FOLIO && memdesc_owner(d) == folio;
}

/* Taken, and sure that it is this frame's. */
static enum owner_verdict take(struct folio *folio, pfn_t pfn) {
  enum owner_verdict verdict = hold_take(&folio->refs);
  if (verdict != OWNER_DONE || owns(folio, pfn)) return verdict;
  put_back(folio);
  return OWNER_BUSY;
}

static enum owner_verdict folio_isolate(void *owner, pfn_t pfn) {
  struct folio *folio = owner;
  enum owner_verdict verdict = take(folio, pfn);
  if (verdict == OWNER_DONE) memmap_flag(folio->pfn, folio->nframes, MEMDESC_ISOLATED, true);
  return verdict;
}

static uint64_t folio_dirty(void *owner) {
  const struct folio *folio = owner;
  return folio->nframes >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << folio->nframes) - 1;
}

static enum owner_verdict folio_migrate(void *owner, struct migration *m) {
  if (m->bring_to == NODE_UNKNOWN) return OWNER_NEVER;
  return bring_folio(owner, m) ? OWNER_DONE : OWNER_BUSY;
}

static void folio_put_back(void *owner) {
  struct folio *folio = owner;
  memmap_flag(folio->pfn, folio->nframes, MEMDESC_ISOLATED, false);
  put_back(folio);
}

/* The class goes, so that it isn't kept in a cache for others once it is freed; of a pinned one it
 * stays, since others may be looking at it. */
static enum owner_verdict folio_poison(void *owner, pfn_t pfn) {
  struct folio *folio = owner;
  enum owner_verdict verdict = take(folio, pfn);
  if (verdict == OWNER_BUSY || !owns(folio, pfn)) return OWNER_BUSY;
  bool noted = poison_note(pfn);
  if (verdict == OWNER_DONE) {
    folio->flags |= FOLIO_FAILED;
    reclass(folio, FOLIO_UNCACHED);
    put_back(folio);
  }
  return noted ? OWNER_NEVER : OWNER_BUSY;
}

int folio_pin(struct folio *folio, pfn_t pfn) {
  int err = pin_hold(&folio->refs, folio->pfn, folio->nframes);
  if (err != 0 || owns(folio, pfn)) return err;
  folio_unpin(folio);
  return -EINVAL;
}

void folio_unpin(struct folio *folio) { pin_unhold(&folio->refs, folio->pfn, folio->nframes); }

bool folio_consistent(const struct folio *folio) {
  size_t n = (size_t)folio->nframes + folio->nguard;
  if (n == 0 || folio->desc.cache != &folio_cache || hold_state(&folio->refs) == HOLD_GONE)
    return false;
  for (size_t i = 0; i < n; i++) {
    memdesc_t d = memmap_peek(pfn_add(folio->pfn, i));
    if (memdesc_type(d) != MEMDESC_FOLIO || memdesc_owner(d) != folio) return false;
    if (memdesc_class(d) != folio->size_class) return false;
  }
  return true;
}
