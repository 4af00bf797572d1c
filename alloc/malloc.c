/* malloc's semantics.
 *
 * Theory. A request goes by size: to 64 KiB a slot of a slab, to 1 MiB a folio of a class's size
 * (so that thread caches can hold it), above that a folio of just its frames. Alignment up to 4 KiB
 * is a matter of choosing a class whose size it divides; more is a folio's. Freeing goes by the
 * frame's memdesc alone.
 *
 * check:on: threads have no caches, so every call comes here: freeing looks the slot up in its
 * slab's bitmap at once, fills the object, and goes past the transfer area; folios get a guard
 * behind them. */
#include "alloc/malloc.h"

#include <errno.h>
#include <string.h>

#include "alloc/init.h"
#include "alloc/options.h"
#include "arch/sys.h"
#include "page/bring.h"
#include "page/folio.h"
#include "quire.h"
#include "slab/bin.h"

enum {
  FREED_FILL = 0xdf,         /* what check:on leaves in freed objects */
  MOVE_MIN = 1 << 20,        /* folios from here on move page tables instead of bytes */
  FRESH_ZERO_MIN = 64 << 20, /* calloc from here on discards rather than clears what was used */
  GROWTH_SHARE = 8,          /* realloc that grows a large folio adds one part in so many */
  SHRINK_KEEP = 2,           /* realloc stays while at least 1/2 of the object is in use */
};

const struct foreign_ops *foreign;

static bool stays_in_place(size_t size, size_t usable) {
  return size <= usable && size >= usable / SHRINK_KEEP;
}

static cold void *out_of_memory(void) {
  errno = ENOMEM;
  return NULL;
}

/* ---- folios ---- */

static struct folio *folio_of(memdesc_t d) { return memdesc_owner(d); }

/* The class and length of the folio that serves `size` bytes (above SLAB_MAX, or over-aligned). */
static unsigned folio_class(size_t size, size_t *nframes) {
  if (size <= SLAB_MAX || size > CACHED_MAX || options.check) {
    *nframes = frames_of(size_max(size, 1));
    return CLASS_LARGE;
  }
  unsigned c = class_of(size);
  *nframes = size_classes[c].nframes;
  return c;
}

static void *large_alloc(size_t size, size_t align, bool *zero) {
  size_t nframes;
  if (size > PTRDIFF_MAX || !alloc_ready()) return out_of_memory();
  unsigned c = folio_class(size, &nframes);
  /* A class's folio may come back from a cache for any request: those aligned further are not of a
   * class. */
  if (c != CLASS_LARGE && align > class_alignment(c)) c = CLASS_LARGE;
  if (c != CLASS_LARGE) align = class_alignment(c);
  struct folio *folio = folio_alloc(nframes, frames_of(align), c, options.check, zero);
  if (folio != NULL) bring_later(folio); /* where another node's memory had to do */
  alloc_tick();
  return folio != NULL ? folio_addr(folio) : out_of_memory();
}

void *malloc_large(size_t size) {
  bool zero;
  return large_alloc(size, 1, &zero);
}

/* Owners are marked as a whole, so the marks alone don't say it of an object. */
static bool pinned(const void *p, size_t size) {
  return memmap_flagged(arena_pfn(p), 1, MEMDESC_PINNED) && pin_overlaps(p, size);
}

static void large_free(void *p) {
  struct folio *folio = folio_of(memmap_get(arena_pfn(p)));
  if (unlikely(folio_addr(folio) != p)) misuse_report("free of an interior pointer", p, 0);
  if (unlikely(options.check) && pinned(p, folio_size(folio)))
    misuse_report("free of a pinned object", p, 0);
  if (unlikely(!folio_free(folio))) misuse_report("double free", p, 0);
  alloc_tick();
}

/* ---- what the fast paths leave ---- */

void *malloc_miss(unsigned size_class) {
  if (unlikely(!alloc_ready())) return out_of_memory();
  if (unlikely(options.check) && !class_is_slab(size_class))
    return malloc_large(class_size(size_class));
  void *p = tcache_miss(size_class);
  alloc_tick();
  return likely(p != NULL) ? p : out_of_memory();
}

static void check_free(unsigned size_class, void *p) {
  switch (bin_check(size_class, p)) {
  case SLAB_OK:
    break;
  case SLAB_INTERIOR:
    misuse_report("free of an interior pointer", p, 0);
  case SLAB_DOUBLE_FREE:
    misuse_report("double free", p, 0);
  }
  if (pinned(p, class_size(size_class))) misuse_report("free of a pinned object", p, 0);
  memset(p, FREED_FILL, class_size(size_class));
  bin_free_now(size_class, p);
}

void free_overflow(unsigned size_class, void *p) {
  if (size_class >= CACHED_CLASSES)
    large_free(p);
  else if (unlikely(options.check))
    check_free(size_class, p);
  else
    tcache_overflow(size_class, p);
  alloc_tick();
}

void free_uncommon(void *p) {
  if (p == NULL) return;
  if (arena_contains(p)) misuse_report("free of a pointer that is not allocated", p, 0);
  if (foreign == NULL || !foreign->free(p))
    misuse_report("free of a pointer that is not quire's", p, 0);
}

/* Could a request (or, unless exact, a realloc) for `size` bytes have ended in this object? Folios
 * are rounded up to their class or to whole system pages. */
static bool size_fits(const void *p, size_t size, bool exact) {
  memdesc_t d = memmap_get(arena_pfn(p));
  size_t usable = alloc_usable_size(p);
  if (!exact && stays_in_place(size, usable)) return true;
  if (memdesc_type(d) == MEMDESC_FOLIO)
    return size <= usable && usable - size <= usable / 8 + sys_page_size();
  return size <= CACHED_MAX && class_of(size) == memdesc_class(d);
}

void free_wrong_size(void *p, size_t size, bool exact) {
  if (!size_fits(p, size, exact)) misuse_report("free with a wrong size", p, size);
  fast_free(p);
}

/* ---- calloc ---- */

static void *calloc_folio(size_t size) {
  bool zero = false;
  void *p = NULL;
  struct tcache *tc = tcache_self;
  if (size <= CACHED_MAX) p = rseq_stack_pop(&tc->stacks, class_of(size), tc->rseq_area);
  if (p == NULL) p = large_alloc(size, 1, &zero);
  if (p == NULL || zero) return p;
  if (size >= FRESH_ZERO_MIN &&
      frames_zero(arena_pfn(p), folio_of(memmap_get(arena_pfn(p)))->nframes) == 0)
    return p;
  return memset(p, 0, size);
}

void *alloc_calloc(size_t count, size_t size) {
  size_t total;
  if (unlikely(__builtin_mul_overflow(count, size, &total))) return out_of_memory();
  if (unlikely(total > SLAB_MAX)) return calloc_folio(total);
  void *p = fast_malloc(total);
  return likely(p != NULL) ? memset(p, 0, total) : NULL;
}

/* ---- aligned requests ---- */

void *alloc_aligned(size_t align, size_t size) {
  bool zero;
  if (align <= 16 && size >= align) return fast_malloc(size);
  if (likely(align <= SLAB_MAX && size <= CACHED_MAX)) {
    unsigned c = class_of_aligned(size, size_max(align, 16));
    if (likely(class_is_slab(c) || !options.check)) return fast_malloc_class(c);
  }
  return large_alloc(size, align, &zero);
}

/* ---- usable size ---- */

size_t alloc_usable_size(const void *p) {
  size_t size = 0;
  if (p == NULL) return 0;
  if (!arena_contains(p)) {
    if (foreign == NULL || !foreign->usable_size(p, &size))
      misuse_report("usable size of a pointer that is not quire's", p, 0);
    return size;
  }
  memdesc_t d = memmap_get(arena_pfn(p));
  if (memdesc_type(d) == MEMDESC_SLAB) return class_size(memdesc_class(d));
  if (memdesc_type(d) == MEMDESC_FOLIO) return folio_size(folio_of(d));
  misuse_report("usable size of a pointer that is not allocated", p, 0);
}

/* ---- realloc ---- */

static void check_realloc(void *p, memdesc_t d) {
  const char *what = "realloc of a freed pointer";
  if (!memdesc_is_allocation(d)) misuse_report("realloc of a pointer that is not allocated", p, 0);
  if (tcache_recently_freed(memdesc_class(d), p)) misuse_report(what, p, 0);
  if (memdesc_type(d) == MEMDESC_FOLIO) {
    if (folio_addr(folio_of(d)) != p) misuse_report("realloc of an interior pointer", p, 0);
    return;
  }
  switch (slab_check(memdesc_owner(d), p)) {
  case SLAB_OK:
    return;
  case SLAB_INTERIOR:
    misuse_report("realloc of an interior pointer", p, 0);
  case SLAB_DOUBLE_FREE:
    misuse_report(what, p, 0);
  }
}

/* What grows once grows again: room behind it is only address space until it is touched, and saves
 * the next steps their work. */
static size_t roomy(size_t size, const struct folio *folio, size_t nframes) {
  bool grows = size > folio_size(folio) && nframes > CACHED_MAX >> FRAME_SHIFT;
  return grows ? size_min(frames_of(size + size / GROWTH_SHARE), arena.size / FRAME_SIZE) : nframes;
}

/* A folio that can become what `size` needs where it stands, or by moving page tables. */
static struct folio *resize_folio(struct folio *folio, size_t size) {
  size_t nframes;
  if (size <= SLAB_MAX) return NULL;
  unsigned c = folio_class(size, &nframes);
  if (nframes > arena.size / FRAME_SIZE) return NULL;
  size_t more = roomy(size, folio, nframes);
  /* Where it stands it may be aligned less than what a cache promises of the class. */
  unsigned here = c;
  if (c != CLASS_LARGE && ((uintptr_t)folio_addr(folio) & (class_alignment(c) - 1)) != 0)
    here = CLASS_LARGE;
  if (folio_resize(folio, more, here) || (more != nframes && folio_resize(folio, nframes, here)))
    return folio;
  return folio_size(folio) < MOVE_MIN ? NULL : folio_move(folio, more, c);
}

/* Who resizes it is about to use it. */
static void *realloc_folio(struct folio *folio, size_t size) {
  folio = resize_folio(folio, size);
  if (folio == NULL) return NULL;
  bring_later(folio);
  return folio_addr(folio);
}

static void *realloc_by_copy(void *p, size_t size, size_t usable) {
  void *to = fast_malloc(size);
  if (to == NULL) return NULL;
  memcpy(to, p, size_min(size, usable));
  fast_free(p);
  return to;
}

static void *realloc_foreign(void *p, size_t size) {
  void *out = NULL;
  if (foreign == NULL || !foreign->realloc(p, size, &out))
    misuse_report("realloc of a pointer that is not quire's", p, 0);
  return out;
}

void *alloc_realloc(void *p, size_t size) {
  if (p == NULL) return fast_malloc(size);
  if (unlikely(!arena_contains(p))) return realloc_foreign(p, size);
  memdesc_t d = memmap_get(arena_pfn(p));
  check_realloc(p, d);
  if (unlikely(size == 0)) { /* as glibc: frees */
    fast_free(p);
    return NULL;
  }
  if (unlikely(size > PTRDIFF_MAX)) return out_of_memory();
  if (memdesc_type(d) == MEMDESC_SLAB) {
    size_t usable = class_size(memdesc_class(d));
    return stays_in_place(size, usable) ? p : realloc_by_copy(p, size, usable);
  }
  struct folio *folio = folio_of(d);
  size_t usable = folio_size(folio);
  if (size > usable || size < usable / SHRINK_KEEP) {
    void *moved = realloc_folio(folio, size);
    alloc_tick();
    return moved != NULL ? moved : realloc_by_copy(p, size, usable);
  }
  return p;
}

/* ---- quire.h's names ---- */

void *quire_malloc(size_t size) { return fast_malloc(size); }
void *quire_calloc(size_t count, size_t size) { return alloc_calloc(count, size); }
void *quire_realloc(void *p, size_t size) { return alloc_realloc(p, size); }
void quire_free(void *p) { fast_free(p); }
void quire_free_sized(void *p, size_t size) { fast_free_sized(p, size, false); }
size_t quire_usable_size(const void *p) { return alloc_usable_size(p); }

void *quire_aligned_alloc(size_t alignment, size_t size) {
  if (!is_power_of_two(alignment)) {
    errno = EINVAL;
    return NULL;
  }
  return alloc_aligned(alignment, size);
}
