/* A walk over the heap: the memmap of all opened hugepages, by owner, with no lock.
 *
 * Each step looks at one frame by the peekers' protocol, takes the run that its owner has from here
 * on, and goes on behind it. A frame whose owner keeps changing is passed over as free. */
#include "alloc/peek.h"
#include "quire.h"
#include "slab/size_class.h"

static bool is_free(memdesc_t word) {
  return memdesc_type(word) == MEMDESC_NONE || memdesc_type(word) == MEMDESC_FREE;
}

/* Frames from here on that belong to nobody, or have the very same word; up to the hugepage's end,
 * since a free frame's owner is its hugepage. */
static size_t run_length(pfn_t pfn, memdesc_t word) {
  size_t n = 1, most = HUGEPAGE_FRAMES - pfn_index(pfn);
  for (; n < most; n++) {
    memdesc_t next = memmap_peek(pfn_add(pfn, n));
    if (is_free(word) ? !is_free(next) : next.word != word.word) break;
  }
  return n;
}

static enum quire_walk_type type_of(enum memdesc_type type) {
  if (type == MEMDESC_SLAB) return QUIRE_WALK_SLAB;
  return type == MEMDESC_OWNED ? QUIRE_WALK_OWNED : QUIRE_WALK_FOLIO;
}

static struct quire_walk_item look(pfn_t pfn) {
  struct peeked peeked;
  struct quire_walk_item item = {.type = QUIRE_WALK_FREE, .start = arena_addr(pfn), .frames = 1};
  if (!peek_frame(pfn, &peeked)) return item;
  if (peeked.owner == NULL) {
    if (!is_free(peeked.word)) item.type = QUIRE_WALK_OTHER;
    item.frames = run_length(pfn, peeked.word);
  } else {
    item.type = type_of(memdesc_type(peeked.word));
    item.frames = peeked.first.n + peeked.nframes + peeked.nguard - pfn.n;
    item.object_size = peeked.object_size;
    item.slots = peeked.slots;
    item.free_slots = peeked.free_slots;
  }
  item.resident = peek_resident(pfn, item.frames);
  return item;
}

public_symbol int quire_walk(int (*visit)(const struct quire_walk_item *item, void *arg),
                             void *arg) {
  if (load_acquire(&arena.base) == 0) return 0;
  /* What visit allocates may open more: that is not walked, so the walk ends. */
  uint64_t end = (uint64_t)load_acquire(&arena.opened) * HUGEPAGE_FRAMES;
  for (uint64_t at = 0; at < end;) {
    struct quire_walk_item item = look((pfn_t){(uint32_t)at});
    int stop = visit(&item, arg);
    if (stop != 0) return stop;
    at += item.frames;
  }
  return 0;
}
