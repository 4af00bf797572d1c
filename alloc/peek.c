#include "alloc/peek.h"

#include "alloc/stats.h"
#include "page/folio.h"
#include "page/hugepage.h"
#include "page/owner.h"
#include "quire.h"
#include "slab/slab.h"

enum { TRIES = 100 };

public_symbol struct quire_peek quire_peek;

void peek_init(void) {
  struct quire_peek *p = &quire_peek;
  p->version = QUIRE_PEEK_VERSION;
  p->size = sizeof *p;
  p->base = arena.base;
  p->arena_size = arena.size;
  p->memmap = (uintptr_t)arena.memmap;
  p->hugepages = (uintptr_t)arena.hugepages;
  p->nhugepages = arena.nhugepages;
  p->opened_address = (uintptr_t)&arena.opened;
  p->frame_size = FRAME_SIZE;
  p->frames_per_hugepage = HUGEPAGE_FRAMES;
  p->classes_address = (uintptr_t)size_classes;
  p->nclasses = CACHED_CLASSES;
  p->class_stride = sizeof size_classes[0];
  p->hugepage_stride = sizeof(struct hugepage);
  p->hugepage_used = offsetof(struct hugepage, used);
  p->hugepage_resident = offsetof(struct hugepage, resident);
  p->hugepage_zero = offsetof(struct hugepage, zero);
  p->slab_pfn = offsetof(struct slab, pfn);
  p->slab_nfree = offsetof(struct slab, nfree);
  p->slab_nslots = offsetof(struct slab, nslots);
  p->slab_nframes = offsetof(struct slab, nframes);
  p->slab_class = offsetof(struct slab, size_class);
  p->slab_free = offsetof(struct slab, free);
  p->folio_pfn = offsetof(struct folio, pfn);
  p->folio_nframes = offsetof(struct folio, nframes);
  p->folio_class = offsetof(struct folio, size_class);
  store_release(&p->magic, QUIRE_PEEK_MAGIC);
}

_Static_assert(offsetof(struct size_class, size) == 0 && sizeof size_classes[0].size == 4,
               "struct quire_peek promises that a class's record begins with its size");

/* Has the frame still the owner under which its descriptor was read? */
static peeker bool unchanged(pfn_t pfn, memdesc_t word) {
  fence_acquire();
  return memmap_get(pfn).word == word.word;
}

static peeker void read_owner(struct peeked *out) {
  struct owner_view view;
  out->owner = memdesc_owner(out->word);
  owner_ops_of(out->owner)->describe(out->owner, &view);
  out->first = view.first;
  out->nframes = view.nframes;
  out->nguard = view.nguard;
  out->object_size = view.object_size;
  out->slots = view.slots;
  out->free_slots = view.free_slots;
  out->pinned |= view.pinned;
}

/* A folio that grows or shrinks in place names its new length a moment before or after its words
 * do. */
static bool holds(const struct peeked *p, pfn_t pfn) {
  return p->owner == NULL || (size_t)pfn.n - p->first.n < p->nframes + p->nguard;
}

peeker bool peek_frame(pfn_t pfn, struct peeked *out) {
  for (int i = 0; i < TRIES; i++, cpu_relax()) {
    *out = (struct peeked){.word = memmap_peek(pfn)};
    out->pinned = (memdesc_flags(out->word) & MEMDESC_PINNED) != 0;
    if (memdesc_is_allocation(out->word) || memdesc_type(out->word) == MEMDESC_OWNED)
      read_owner(out);
    if (unchanged(pfn, out->word) && holds(out, pfn)) return true;
  }
  return false;
}

peeker bool peek_slot(pfn_t pfn, const struct peeked *peeked, size_t slot, bool *is_free) {
  const struct slab *slab = peeked->owner;
  *is_free = load_relaxed(&slab->free[slot / 64]) >> slot % 64 & 1;
  return unchanged(pfn, peeked->word);
}

peeker size_t peek_resident(pfn_t pfn, size_t nframes) {
  size_t n = 0;
  while (nframes > 0) {
    const struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn).n];
    unsigned bit = pfn_index(pfn) % 64, here = (unsigned)size_min(nframes, 64 - bit);
    uint64_t bits = load_relaxed(&hp->resident[pfn_index(pfn) / 64]) >> bit;
    if (here < 64) bits &= ((uint64_t)1 << here) - 1;
    n += (unsigned)__builtin_popcountll(bits);
    pfn = pfn_add(pfn, here);
    nframes -= here;
  }
  return n;
}
