/* What a pointer is, for any pointer, valid or not. */
#include "alloc/peek.h"
#include "quire.h"
#include "slab/size_class.h"

enum { TRIES = 100 };

/* Slots that a slab's frames don't divide into leave a tail that belongs to no object. */
static void describe_tail(const struct peeked *slab, struct quire_description *out) {
  size_t used = slab->slots * slab->object_size;
  out->kind = QUIRE_INTERNAL;
  out->start = (const char *)arena_addr(slab->first) + used;
  out->size = (slab->nframes << FRAME_SHIFT) - used;
}

/* False when the slab changed hands meanwhile. */
static bool describe_object(const void *p, const struct peeked *slab,
                            struct quire_description *out) {
  const char *base = arena_addr(slab->first);
  size_t slot = (size_t)((const char *)p - base) / slab->object_size;
  bool is_free = false;
  out->slab_slots = slab->slots;
  out->slab_free = slab->free_slots;
  if (slot >= slab->slots) {
    describe_tail(slab, out);
    return true;
  }
  if (!peek_slot(arena_pfn(p), slab, slot, &is_free)) return false;
  out->kind = QUIRE_OBJECT;
  out->allocated = !is_free;
  out->start = base + slot * slab->object_size;
  out->size = slab->object_size;
  return true;
}

static void describe_folio(const void *p, const struct peeked *folio,
                           struct quire_description *out) {
  bool in_guard = (size_t)arena_pfn(p).n - folio->first.n >= folio->nframes;
  out->kind = in_guard ? QUIRE_INTERNAL : QUIRE_FOLIO;
  out->allocated = !in_guard;
  out->start = arena_addr(folio->first);
  out->size = folio->object_size;
}

static bool describe_once(const void *p, struct quire_description *out) {
  struct peeked peeked;
  *out = (struct quire_description){.kind = QUIRE_UNUSED, .pfn = arena_pfn(p).n};
  if (!peek_frame(arena_pfn(p), &peeked)) return false;
  out->pinned = peeked.pinned;
  switch (memdesc_type(peeked.word)) {
  case MEMDESC_NONE:
  case MEMDESC_FREE:
    return true;
  case MEMDESC_SLAB:
    return describe_object(p, &peeked, out);
  case MEMDESC_FOLIO:
    describe_folio(p, &peeked, out);
    return true;
  case MEMDESC_OWNED:
    describe_folio(p, &peeked, out);
    out->kind = QUIRE_OWNED;
    return true;
  default:
    out->kind = QUIRE_INTERNAL;
    return true;
  }
}

public_symbol void quire_describe(const void *p, struct quire_description *out) {
  *out = (struct quire_description){.kind = QUIRE_FOREIGN};
  if (load_acquire(&arena.base) == 0 || !arena_contains(p)) return;
  for (int i = 0; i < TRIES; i++)
    if (describe_once(p, out)) return;
  /* Changing hands all the time: nobody's at the moment. */
  *out = (struct quire_description){.kind = QUIRE_UNUSED, .pfn = arena_pfn(p).n};
}
