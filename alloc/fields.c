/* The table of statistics: the `quire` command has it too. */
#include "alloc/stats.h"
#include "quire.h"

#define FIELD(name, unit, type, help)                                                              \
  { #name, offsetof(struct quire_stats, name), STATS_##unit, STATS_##type, help }

static const struct stats_field fields[] = {
    FIELD(live, BYTES, GAUGE, "Bytes in objects that the program holds."),
    FIELD(slab_live, BYTES, GAUGE, "Of these, in slabs."),
    FIELD(folio_live, BYTES, GAUGE, "Of these, in folios."),
    FIELD(slab_free, BYTES, GAUGE, "Free slots and tails of slabs."),
    FIELD(cached, BYTES, GAUGE, "Free objects in thread caches."),
    FIELD(transfer, BYTES, GAUGE, "Free objects in transfer areas."),
    FIELD(frames_used, FRAMES, GAUGE, "Memory that slabs and folios occupy."),
    FIELD(frames_dirty, FRAMES, GAUGE, "Free memory not yet given back."),
    FIELD(frames_opened, FRAMES, GAUGE, "Address space that may be touched."),
    FIELD(frames_peak, FRAMES, GAUGE, "Most memory that slabs and folios occupied so far."),
    FIELD(hugepages, COUNT, GAUGE, "2 MiB units that are not empty."),
    FIELD(huge_advised, COUNT, GAUGE, "2 MiB units for which a hugepage was asked."),
    FIELD(huge_fallbacks, COUNT, COUNTER, "Times the kernel gave small pages instead."),
    FIELD(metadata, BYTES, GAUGE, "Memmap, descriptors and caches."),
    FIELD(reserved, BYTES, GAUGE, "Address space reserved."),
    FIELD(nslabs, COUNT, GAUGE, "Slabs."),
    FIELD(nfolios, COUNT, GAUGE, "Folios, those in caches included."),
    FIELD(ncaches, COUNT, GAUGE, "Thread caches."),
    FIELD(discards, COUNT, COUNTER, "System calls that gave memory back."),
    FIELD(discarded, FRAMES, COUNTER, "Memory given back."),
    FIELD(discard_failures, COUNT, COUNTER, "System calls to give memory back that failed."),
    FIELD(moves, COUNT, COUNTER, "Reallocations that moved page tables."),
    FIELD(reclaimed, BYTES, COUNTER, "Taken from idle threads' caches."),
    FIELD(background, COUNT, GAUGE, "1 while the background thread runs."),
    FIELD(hollow, FRAMES, GAUGE, "Occupied frames without memory of their own."),
    FIELD(zone, FRAMES, GAUGE, "Memory that can host others."),
    FIELD(guests, FRAMES, GAUGE, "Frames mapped onto hosts."),
    FIELD(frozen, FRAMES, GAUGE, "Frames that a fork froze."),
    FIELD(mappings, COUNT, GAUGE, "Kernel mappings that compaction costs."),
    FIELD(compactions, COUNT, COUNTER, "Passes of compaction."),
    FIELD(hollowed, FRAMES, COUNTER, "Given back inside slabs."),
    FIELD(meshed, FRAMES, COUNTER, "Mapped onto hosts."),
    FIELD(pinned, COUNT, COUNTER, "Slabs left in place for a pin."),
    FIELD(freezes, COUNT, COUNTER, "Zones given up for a fork."),
    FIELD(mesh_state, COUNT, GAUGE, "What keeps memory from being meshed; see quire.h."),
    FIELD(owned_live, BYTES, GAUGE, "Live bytes in frames of the program's own owners."),
    FIELD(frames_pinned, FRAMES, GAUGE, "Memory that is pinned, whole slabs and folios."),
    FIELD(frames_poisoned, FRAMES, GAUGE, "Memory that has failed and is out of use."),
    FIELD(nodes, COUNT, GAUGE, "Nodes of memory that the heap is divided by."),
    FIELD(numa_state, COUNT, GAUGE, "Why it is or is not; see quire.h."),
    FIELD(brought_folios, COUNT, COUNTER, "Folios brought to another node."),
    FIELD(brought, FRAMES, COUNTER, "Memory brought to another node."),
    FIELD(brought_not, FRAMES, COUNTER, "Memory that the kernel left on its node."),
};

/* version and page_size share the first eight bytes; every other member is a uint64_t of the table,
 * but for the last one. */
_Static_assert(sizeof(struct quire_stats) ==
                   8 + (array_size(fields) + QUIRE_NODES_MAX + 1) * sizeof(uint64_t),
               "a field is missing in the table");

const struct stats_field *stats_field(size_t index) {
  return index < array_size(fields) ? &fields[index] : NULL;
}
