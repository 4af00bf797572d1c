/* The zone: the memory that several frames of the arena can share.
 *
 * A frame's memory is normally private and anonymous. Frames that take part in compaction have it
 * from the zone instead, one file of memory as long as the arena: a host at the offset that mirrors
 * its address (so that neighbours are one mapping), a guest at its host's. What each frame has is
 * kept in a table here, the backing; it is all that fork and the count of mappings need to know.
 *
 *   PLAIN   private anonymous memory
 *   HOME    the zone's, at its own offset; hugepages become this as a whole (HUGEPAGE_ZONE)
 *   GUEST   the zone's, at another frame's offset
 *   FROZEN  a private mapping of what it had in the zone: reads as it did, a store copies. It stays
 *           until the frame is empty and made PLAIN
 *
 *   PLAIN -> HOME, GUEST: zone_map.   HOME, GUEST -> FROZEN: zone_freeze, which gives the zone up,
 * and zone_freeze_part, which doesn't.   any -> PLAIN: zone_plain
 *
 * As long as the zone is open, others go on writing to the page that a FROZEN frame still reads,
 * but only where nothing of its own lives: so what lives there stays taken in its host
 * (slab/mesh.h) as if it were a GUEST. Once the page has been copied (zone_settle) there is nothing
 * to read any more, and its physical page is its own for good.
 *
 * Lock: RANK_ZONE, held across the system calls, so that a freeze meets no frame on its way to
 * another state. Thread safe. */
#ifndef QUIRE_PAGE_ZONE_H
#define QUIRE_PAGE_ZONE_H

#include "page/arena.h"

enum zone_backing { ZONE_PLAIN, ZONE_HOME, ZONE_GUEST, ZONE_FROZEN };

/* Why there is no zone. */
enum zone_state {
  ZONE_CLOSED, /* not asked for yet, or given up by a fork */
  ZONE_OPEN,
  ZONE_NO_WATCH,  /* userfaultfd isn't permitted */
  ZONE_NO_KERNEL, /* it lacks UFFDIO_MOVE, or has it with known defects */
  ZONE_NO_MEMORY, /* no file of memory, no address space for its view, no staging range */
  ZONE_NO_PAGES,  /* system pages are larger than frames */
};

/* Opens a zone and a watch in the calling thread's descriptor table. force: also on kernels whose
 * UFFDIO_MOVE has known defects. inherited: a descriptor of /dev/userfaultfd, -1 without. */
enum zone_state zone_open(bool force, int inherited);
enum zone_state zone_state(void);
/* For people; of any number, as one read from a snapshot may be. */
const char *zone_state_text(uint64_t state);

/* Maps n frames of the zone that begin at `at` over frames that begin at pfn: at == pfn makes HOME,
 * else GUEST. Their contents are lost. The caller owns them. 0 or a negative errno with nothing
 * changed but contents; -ENOTRECOVERABLE: they can't be touched any more. */
nodiscard int zone_map(pfn_t pfn, size_t n, pfn_t at);

/* Makes frames PLAIN; they read as zeros. Those that are already are left alone, unless they lie
 * between others. Same results. */
nodiscard int zone_plain(pfn_t pfn, size_t n);

/* Gives the zone's memory at these frames' offsets back. No frame may be mapped there. */
void zone_punch(pfn_t pfn, size_t n);

enum zone_backing zone_backing(pfn_t pfn);
bool zone_is_plain(pfn_t pfn, size_t n);

/* Where GUEST and HOME frames have their memory. */
pfn_t zone_frame_of(pfn_t pfn);

/* Before zone_view of frames that are not HOME yet: makes the view long enough. 0 or a negative
 * errno. The thread that opened the zone. */
nodiscard int zone_reach(pfn_t pfn, size_t n);

/* An address to copy into the zone's frame by; good until the view is made longer. */
void *zone_view(pfn_t pfn);

/* Fills the zone's frames of a hugepage with zeros in one hugepage of memory if one is to be had. 0
 * or a negative errno. */
nodiscard int zone_populate(hpn_t hpn);

/* Are all, or some, of these frames HOME? */
bool zone_is_home(pfn_t pfn, size_t n);
bool zone_has_home(pfn_t pfn, size_t n);

/* These frames (at most 32) become FROZEN while the zone stays open: of HOME and GUEST ones nothing
 * is left, the others are as they were. *home: bit i, frame i was HOME until now. Called by the
 * thread that opened it. 0, or a negative errno with some or none of them FROZEN: -ENOMEM also when
 * too few mappings are left to the process. */
nodiscard int zone_freeze_part(pfn_t pfn, size_t n, uint32_t *home);

/* Gives FROZEN frames pages of their own, so that their memory doesn't change any more; PLAIN ones
 * may be among them. Any thread. 0 or a negative errno. */
nodiscard int zone_settle(pfn_t pfn, size_t n);

/* Has any of these frames memory that others may have too? That is, if it isn't PLAIN or FROZEN,
 * or when a freeze was refused and nobody knows of which. */
bool zone_is_shared(pfn_t pfn, size_t n);

/* Gives the zone up: all HOME and GUEST frames become FROZEN, descriptors are closed. Called by the
 * thread that opened it. Frames that could not be remapped: 0 unless the kernel fails. */
size_t zone_freeze(void);

/* Without the right to remap: a forked child forgets the descriptors it never had. */
void zone_forget(void);

struct zone_stats {
  size_t home, guest, frozen; /* frames */
  size_t stuck;               /* frames counted as frozen that a refused freeze left shared */
  size_t mappings;            /* that all of them cost, beyond those that a plain arena has */
  size_t max_mappings;        /* vm.max_map_count when it was opened */
  size_t table;               /* bytes of the table of backings, as far as it was used */
  uint64_t freezes;
  uint64_t failures; /* refused remaps */
};

void zone_stats(struct zone_stats *out);
size_t zone_mappings(void);

/* For readers in other processes: where they are. */
struct zone_places {
  const struct zone_stats *stats;
  const enum zone_state *state;
  uint32_t *const *backing; /* a word per frame; NULL before there is a table */
};
struct zone_places zone_places(void);

void zone_lock(void);
void zone_unlock(void);
void zone_reset(void);

/* Derives the counts again. */
bool zone_consistent(void);
void zone_fini(void);

#endif
