#include "page/folio.h"

#include <errno.h>

#include "arch/sys.h"
#include "page/hugepage.h"
#include "page/owner.h"

static peeker void folio_describe(const void *owner, struct owner_view *out) {
  const struct folio *folio = owner;
  out->first = (pfn_t){load_relaxed(&folio->pfn.n)};
  out->nframes = load_relaxed(&folio->nframes);
  out->nguard = load_relaxed(&folio->nguard);
  out->object_size = out->nframes << FRAME_SHIFT;
  out->slots = out->free_slots = 0;
  out->pinned = load_relaxed(&folio->pins) != 0;
}

static const struct owner_ops folio_ops = {.describe = folio_describe};

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
  folio->pins = 0;
  store_release(&folio->refs, 1);
  set_frames(folio, folio->pfn, nframes + nguard);
  if (guard) install_guard(folio);
  *is_zero = run.zero;
  return folio;
}

void folio_free(struct folio *folio) {
  pfn_t pfn = folio->pfn;
  size_t n = (size_t)folio->nframes + folio->nguard;
  remove_guard(folio);
  memmap_clear(pfn, n, MEMDESC_FOLIO);
  store_release(&folio->refs, 0);
  desc_free(folio);
  frames_free(pfn, n);
}

bool folio_resize(struct folio *folio, size_t nframes) {
  size_t old = folio->nframes;
  bool zero;
  if (nframes == old) return true;
  if (folio->nguard != 0) return false;
  if (nframes < old) {
    folio->nframes = (uint32_t)nframes;
    memmap_clear(pfn_add(folio->pfn, nframes), old - nframes, MEMDESC_FOLIO);
    frames_free(pfn_add(folio->pfn, nframes), old - nframes);
    return true;
  }
  if (!frames_extend(folio->pfn, old, nframes - old, FRAMES_FOLIO, &zero)) return false;
  set_frames(folio, pfn_add(folio->pfn, old), nframes - old);
  folio->nframes = (uint32_t)nframes;
  return true;
}

void folio_set_class(struct folio *folio, unsigned size_class) {
  folio->size_class = (uint8_t)size_class;
  memmap_reclass(folio->pfn, (size_t)folio->nframes + folio->nguard, size_class);
}

/* Its frames can't be touched any more: they stay used for ever, and say so. */
static cold void retire(struct folio *folio) {
  pfn_t pfn = folio->pfn;
  size_t n = folio->nframes;
  memmap_clear(pfn, n, MEMDESC_FOLIO);
  store_release(&folio->refs, 0);
  desc_free(folio);
  for (size_t i = 0; i < n; i++) {
    pfn_t at = pfn_add(pfn, i);
    memmap_set(at, 1, memdesc_make(MEMDESC_POISON, 0, &arena.hugepages[pfn_hugepage(at).n]));
  }
}

struct folio *folio_move(struct folio *folio, size_t nframes, unsigned size_class) {
  bool zero;
  size_t moved = size_min(nframes, folio->nframes);
  if (folio->nguard != 0) return NULL;
  /* Aligned alike, whole page tables move at once and hugepages stay whole. */
  struct folio *to = folio_alloc(nframes, HUGEPAGE_FRAMES, size_class, false, &zero);
  if (to == NULL) return NULL;
  int err = frames_move(folio->pfn, to->pfn, moved);
  if (err == -ENOTRECOVERABLE)
    retire(to);
  else if (err != 0)
    folio_free(to);
  if (err != 0) return NULL;
  pfn_t from = folio->pfn;
  size_t n = folio->nframes;
  memmap_clear(from, n, MEMDESC_FOLIO);
  store_release(&folio->refs, 0);
  desc_free(folio);
  frames_free_zero(from, moved);
  if (n > moved) frames_free(pfn_add(from, moved), n - moved);
  return to;
}

bool folio_consistent(const struct folio *folio) {
  size_t n = (size_t)folio->nframes + folio->nguard;
  if (n == 0 || folio->desc.cache != &folio_cache || load_relaxed(&folio->refs) == 0) return false;
  for (size_t i = 0; i < n; i++) {
    memdesc_t d = memmap_peek(pfn_add(folio->pfn, i));
    if (memdesc_type(d) != MEMDESC_FOLIO || memdesc_owner(d) != folio) return false;
    if (memdesc_class(d) != folio->size_class) return false;
  }
  return true;
}
