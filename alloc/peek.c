#include "alloc/peek.h"

#include "alloc/nodes.h"
#include "alloc/options.h"
#include "alloc/stats.h"
#include "alloc/tcache.h"
#include "arch/sys.h"
#include "page/bring.h"
#include "page/compact.h"
#include "page/folio.h"
#include "page/hugepage.h"
#include "page/owned.h"
#include "page/owner.h"
#include "page/pin.h"
#include "page/poison.h"
#include "page/zone.h"
#include "quire.h"
#include "slab/bin.h"
#include "slab/mesh.h"

enum { TRIES = 100 };

static void place(enum quire_peek_number number, const void *p, size_t size) {
  quire_peek.numbers[number] = (struct quire_peek_place){(uintptr_t)p, size};
}

#define PLACE(number, lvalue) place(QUIRE_PEEK_##number, &(lvalue), sizeof(lvalue))

static void place_frames(void) {
  struct frames_places places = frames_places();
  const struct frames_stats *stats = places.stats;
  const struct bring_stats *brought = bring_places();
  quire_peek.frames_bytes = places.fixed_bytes;
  quire_peek.node_frames_address = (uintptr_t)places.used_of;
  PLACE(NODES_BYTES, *places.nodes_bytes);
  PLACE(NODES_COUNT, numa.count);
  PLACE(NUMA_STATE, *nodes_state_place());
  PLACE(BROUGHT_FOLIOS, brought->folios);
  PLACE(BROUGHT, brought->frames);
  PLACE(BROUGHT_NOT, brought->refused);
  PLACE(FRAMES_USED, stats->used);
  PLACE(FRAMES_DIRTY, stats->free_resident);
  PLACE(FRAMES_OPENED, stats->opened);
  PLACE(FRAMES_PEAK, stats->peak_used);
  PLACE(HUGEPAGES, stats->hugepages);
  PLACE(HUGE_ADVISED, stats->huge_advised);
  PLACE(HUGE_FALLBACKS, stats->huge_fallbacks);
  PLACE(HUGE_STALLS, stats->huge_stalls);
  PLACE(DISCARDS, stats->discards);
  PLACE(DISCARDED, stats->discarded);
  PLACE(DISCARD_FAILURES, stats->discard_failures);
  PLACE(MOVES, stats->moves);
  PLACE(HOLLOW, stats->hollow);
}

static void place_compaction(void) {
  struct zone_places zone = zone_places();
  const struct compact_stats *compact = compact_places();
  quire_peek.backing_address = (uintptr_t)zone.backing;
  PLACE(ZONE, zone.stats->home);
  PLACE(GUESTS, zone.stats->guest);
  PLACE(FROZEN, zone.stats->frozen);
  PLACE(MAPPINGS, zone.stats->mappings);
  PLACE(MAPPINGS_MOST, zone.stats->max_mappings);
  PLACE(REMAP_FAILURES, zone.stats->failures);
  PLACE(FREEZES, zone.stats->freezes);
  PLACE(BACKING_BYTES, zone.stats->table);
  PLACE(MESH_STATE, *zone.state);
  PLACE(COMPACTIONS, compact->passes);
  PLACE(HOLLOWED, compact->hollowed);
  PLACE(MESHED, compact->meshed);
  PLACE(MESH_RUNS, compact->runs);
  PLACE(PINNED, compact->pinned);
  PLACE(UNPLACED, compact->unplaced);
  PLACE(CONVERTED, compact->converted);
  PLACE(REFUSED, compact->refused);
}

static void place_owners(void) {
  struct quire_peek *p = &quire_peek;
  struct tcache_places caches = tcache_places();
  p->caches_address = (uintptr_t)caches.first;
  p->cache_first_address = (uintptr_t)caches.slots_from;
  PLACE(OWNED_FRAMES, *owned_frames_place());
  PLACE(FRAMES_PINNED, *pin_frames_place());
  PLACE(FRAMES_POISONED, *poison_frames_place());
  PLACE(NFOLIOS, folio_cache.nlive);
  PLACE(NCACHES, *caches.ncaches);
  PLACE(RECLAIMED, *caches.reclaimed);
  PLACE(DESCRIPTOR_BYTES, *desc_bytes_used_place());
  p->desc_slab_small = (uintptr_t)&slab_cache_small;
  p->desc_slab_large = (uintptr_t)&slab_cache_large;
  p->desc_folio = (uintptr_t)&folio_cache;
  p->desc_owned = (uintptr_t)&owned_cache;
  p->desc_mesh = (uintptr_t)&mesh_cache;
  p->desc_cache = (uintptr_t)&tcache_cache;
  p->desc_blocked_small = (uintptr_t)&mesh_blocked_small;
  p->desc_blocked_large = (uintptr_t)&mesh_blocked_large;
}

static void place_bins(void) {
  struct quire_peek *p = &quire_peek;
  struct bin_places bin = bin_places();
  p->nslab_classes = SLAB_CLASSES;
  p->bins_address = (uintptr_t)bin.bins;
  p->bin_stride = bin.bin_stride;
  p->bin_nslabs = bin.nslabs;
  p->bin_nblocked = bin.nblocked;
  p->bin_free_slots = bin.free_slots;
  p->bin_refills = bin.refills;
  p->bin_flushes = bin.flushes;
  p->transfers_address = (uintptr_t)bin.transfers;
  p->shelves_address = (uintptr_t)bin.shelves;
  p->shelf_stride = bin.shelf_stride;
  p->shelf_transfers = bin.shelf_transfers;
  p->transfer_stride = bin.transfer_stride;
  p->transfer_n = bin.transfer_n;
  p->transfer_bytes = bin.transfer_bytes;
}

static void place_tables(void) {
  struct quire_peek *p = &quire_peek;
  p->base = arena.base;
  p->arena_size = arena.size;
  p->memmap = (uintptr_t)arena.memmap;
  p->hugepages = (uintptr_t)arena.hugepages;
  p->nhugepages = arena.nhugepages;
  p->opened_address = (uintptr_t)&arena.opened;
  p->descriptors = (uintptr_t)arena.descriptors;
  p->reserved = stats_reserved();
  p->classes_address = (uintptr_t)size_classes;
  p->options_address = (uintptr_t)&options;
  p->noptions = sizeof options / sizeof(size_t);
  p->page_size = (uint32_t)sys_page_size();
}

/* What the compiler knows is filled in before main, by it. */
public_symbol struct quire_peek quire_peek = {
    .version = QUIRE_PEEK_VERSION,
    .size = sizeof(struct quire_peek),
    .library = QUIRE_VERSION,
    .mailbox_fd = -1,
    .frame_size = FRAME_SIZE,
    .frames_per_hugepage = HUGEPAGE_FRAMES,
    .nclasses = CACHED_CLASSES,
    .class_stride = sizeof size_classes[0],
    .hugepage_stride = sizeof(struct hugepage),
    .hugepage_used = offsetof(struct hugepage, used),
    .hugepage_resident = offsetof(struct hugepage, resident),
    .hugepage_zero = offsetof(struct hugepage, zero),
    .hugepage_state = offsetof(struct hugepage, state),
    .hugepage_kind = offsetof(struct hugepage, kind),
    .hugepage_flags = offsetof(struct hugepage, flags),
    .slab_pfn = offsetof(struct slab, pfn),
    .slab_nfree = offsetof(struct slab, nfree),
    .slab_nslots = offsetof(struct slab, nslots),
    .slab_nframes = offsetof(struct slab, nframes),
    .slab_class = offsetof(struct slab, size_class),
    .slab_free = offsetof(struct slab, free),
    .slab_state = offsetof(struct slab, state),
    .slab_pins = offsetof(struct slab, pins),
    .slab_holes = offsetof(struct slab, holes),
    .slab_mesh = offsetof(struct slab, mesh),
    .mesh_blocked = offsetof(struct mesh, blocked),
    .blocked_slots = offsetof(struct mesh_blocked, slots),
    .folio_pfn = offsetof(struct folio, pfn),
    .folio_nframes = offsetof(struct folio, nframes),
    .folio_class = offsetof(struct folio, size_class),
    .folio_nguard = offsetof(struct folio, nguard),
    .folio_refs = offsetof(struct folio, refs),
    .owned_pfn = offsetof(struct owned, pfn),
    .owned_nframes = offsetof(struct owned, nframes),
    .owned_refs = offsetof(struct owned, refs),
    .cache_next = offsetof(struct tcache, next),
    .cache_tid = offsetof(struct tcache, tid),
    .cache_tops = offsetof(struct tcache, stacks.cur),
    .cache_slots = offsetof(struct tcache, slots),
};

void peek_init(void) {
  place_tables();
  place_frames();
  place_compaction();
  place_owners();
  place_bins();
  store_release(&quire_peek.magic, QUIRE_PEEK_MAGIC);
}

void peek_background(uint32_t tid, int mailbox_fd, const void *mailbox) {
  store_relaxed(&quire_peek.mailbox_address, (uintptr_t)mailbox);
  store_relaxed(&quire_peek.mailbox_fd, mailbox_fd);
  store_release(&quire_peek.background_tid, tid);
}

_Static_assert(offsetof(struct size_class, size) == 0 && sizeof size_classes[0].size == 4 &&
                   offsetof(struct size_class, nframes) == 4 &&
                   offsetof(struct size_class, nslots) == 6,
               "struct quire_peek promises that a class's record begins with these");

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
