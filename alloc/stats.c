/* Statistics: one snapshot, from which everything that is printed, exported or returned is made.
 *
 * Theory. Nothing is counted on the fast paths. What is live is what is left:
 *
 *   slabs:  live = frames of slabs - free slots - tails - slab objects in caches and transfer areas
 *   folios: live = frames used - frames of slabs, of owners and failed ones - folios in caches and
 *           transfer areas
 *   so      frames_used = live + slab_free + cached + transfer, to the byte while nobody allocates
 *
 * While others allocate the parts are of different moments, and a difference may fall below zero:
 * then it is zero. Locks are taken one at a time: registry (per class), bins, frames. */
#include "alloc/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "alloc/background.h"
#include "alloc/compaction.h"
#include "alloc/nodes.h"
#include "alloc/options.h"
#include "alloc/tcache.h"
#include "arch/sys.h"
#include "page/bring.h"
#include "page/compact.h"
#include "page/folio.h"
#include "page/frames.h"
#include "page/hugepage.h"
#include "page/owned.h"
#include "page/poison.h"
#include "page/zone.h"
#include "quire.h"
#include "slab/bin.h"

enum { TEXT_SIZE = 8192 }; /* the longest format takes half of it */

static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* Sums over all classes, in bytes unless named otherwise. */
struct sums {
  uint64_t slab_frames, nslabs, free_slots, tails;
  uint64_t slab_loose, folio_loose; /* objects in thread caches and transfer areas */
  uint64_t cached, transfer, metadata;
};

void class_stats(unsigned c, struct class_stats *out) {
  struct bin_stats bin;
  bin_stats(c, &bin);
  size_t size = class_size(c), slab = (size_t)size_classes[c].nframes << FRAME_SHIFT;
  *out = (struct class_stats){
      .size = size,
      .nslabs = bin.nslabs,
      .frames = bin.frames,
      .free_slots = bin.free_slots,
      .cached = tcache_objects(c),
      .transfer = bin.transfer,
      .tails = class_is_slab(c) ? bin.nslabs * (slab - size * size_classes[c].nslots) : 0,
      .metadata = bin.metadata,
  };
}

static void add_class(struct sums *sums, unsigned c) {
  struct class_stats s;
  class_stats(c, &s);
  sums->slab_frames += s.frames;
  sums->nslabs += s.nslabs;
  sums->free_slots += s.free_slots * s.size;
  sums->tails += s.tails;
  sums->cached += s.cached * s.size;
  sums->transfer += s.transfer * s.size;
  sums->metadata += s.metadata;
  *(class_is_slab(c) ? &sums->slab_loose : &sums->folio_loose) += (s.cached + s.transfer) * s.size;
}

static void fill_live(struct quire_stats *out, const struct sums *sums, uint64_t frames_used) {
  uint64_t slabs = sums->slab_frames << FRAME_SHIFT;
  uint64_t others = (owned_frames() + poison_frames()) << FRAME_SHIFT;
  uint64_t folios = less(frames_used << FRAME_SHIFT, slabs + others);
  out->slab_free = sums->free_slots + sums->tails;
  out->cached = sums->cached;
  out->transfer = sums->transfer;
  out->slab_live = less(slabs, out->slab_free + sums->slab_loose);
  out->folio_live = less(folios, sums->folio_loose);
  out->owned_live = (uint64_t)owned_frames() << FRAME_SHIFT;
  out->live = out->slab_live + out->folio_live + out->owned_live;
  out->nslabs = sums->nslabs;
  out->nfolios = load_relaxed(&folio_cache.nlive);
}

static void fill_frames(struct quire_stats *out, const struct frames_stats *frames) {
  out->frames_used = frames->used;
  out->frames_dirty = frames->free_resident;
  out->frames_opened = frames->opened;
  out->frames_peak = frames->peak_used;
  out->hugepages = frames->hugepages;
  out->huge_advised = frames->huge_advised;
  out->huge_fallbacks = frames->huge_fallbacks;
  out->discards = frames->discards;
  out->discarded = frames->discarded;
  out->discard_failures = frames->discard_failures;
  out->moves = frames->moves;
}

_Static_assert((int)QUIRE_MESH_NO_PAGES == (int)ZONE_NO_PAGES, "the same states in the same order");

static void fill_compaction(struct quire_stats *out, const struct frames_stats *frames) {
  struct zone_stats zone;
  struct compact_stats compact;
  zone_stats(&zone);
  compact_stats(&compact);
  out->hollow = frames->hollow;
  out->zone = zone.home;
  out->guests = zone.guest;
  out->frozen = zone.frozen;
  out->mappings = zone.mappings;
  out->freezes = zone.freezes;
  out->compactions = compact.passes;
  out->hollowed = compact.hollowed;
  out->meshed = compact.meshed;
  out->pinned = compact.pinned;
  out->mesh_state = zone_state();
  out->metadata += zone.table;
}

_Static_assert((int)QUIRE_NUMA_NO_MEMORY == (int)NUMA_NO_MEMORY,
               "the same states in the same order");
_Static_assert((int)QUIRE_NODES_MAX + 1 == (int)NODES_MAX, "a count for each node");

static void fill_nodes(struct quire_stats *out) {
  struct bring_stats brought;
  size_t used[NODES_MAX];
  bring_stats(&brought);
  frames_used_of(used);
  out->nodes = numa_on() ? numa.count - 1 : 1;
  out->numa_state = nodes_state();
  out->brought_folios = brought.folios;
  out->brought = brought.frames;
  out->brought_not = brought.refused;
  for (unsigned node = 0; node < NODES_MAX; node++) out->node_frames[node] = used[node];
}

/* Tables are counted as far as hugepages are opened: a word per frame, a descriptor per hugepage.
 * Thread caches are descriptors and so are in what the region handed out. */
static uint64_t metadata(const struct sums *sums, const struct frames_stats *frames) {
  uint64_t words = frames->opened * sizeof(memdesc_t);
  uint64_t descriptors = frames->opened / HUGEPAGE_FRAMES * sizeof(struct hugepage);
  return words + descriptors + desc_bytes_used() + sums->metadata + frames->metadata;
}

/* The arena and, beside it, memmap, hugepage descriptors and descriptor region in one piece. */
uint64_t stats_reserved(void) {
  char *tables = (char *)arena.memmap;
  return arena.size + (uint64_t)(arena.descriptors + arena.descriptors_size - tables);
}

public_symbol int quire_stats(struct quire_stats *out) {
  struct sums sums = {0};
  struct frames_stats frames;
  struct tcache_stats caches;
  if (load_acquire(&arena.base) == 0) return -1;
  for (unsigned c = 0; c < CACHED_CLASSES; c++) add_class(&sums, c);
  frames_stats(&frames);
  tcache_stats(&caches);
  *out = (struct quire_stats){
      .version = QUIRE_STATS_VERSION,
      .page_size = (uint32_t)sys_page_size(),
      .metadata = metadata(&sums, &frames),
      .reserved = stats_reserved(),
      .ncaches = caches.ncaches,
      .reclaimed = caches.reclaimed,
      .background = background_running(),
      .frames_pinned = pin_frames(),
      .frames_poisoned = poison_frames(),
  };
  fill_frames(out, &frames);
  fill_live(out, &sums, frames.used);
  fill_compaction(out, &frames);
  fill_nodes(out);
  return 0;
}

public_symbol int quire_stats_print(FILE *stream, enum quire_format format) {
  struct quire_stats stats;
  char text[TEXT_SIZE];
  if (quire_stats(&stats) != 0) {
    errno = EAGAIN;
    return -1;
  }
  size_t length = size_min(quire_stats_format(&stats, format, text, sizeof text), sizeof text - 1);
  return fwrite(text, 1, length, stream) == length ? 0 : -1;
}

/* Standard error as it was at start-up: many programs (all of GNU coreutils) close theirs in an
 * exit handler, before the library's destructor runs. */
static int kept_fd = 2;
static struct stat kept_file;

void stats_prepare_at_exit(void) {
  enum { HIGH = 200 }; /* out of the way of programs that count on low numbers */
  int fd = fcntl(2, F_DUPFD_CLOEXEC, HIGH);
  if (fd < 0 || fstat(fd, &kept_file) != 0) return;
  kept_fd = fd;
}

/* A program that closes every descriptor may have a file of its own under the number by now. */
static int kept_output(void) {
  struct stat file;
  if (kept_fd == 2 || fstat(kept_fd, &file) != 0) return 2;
  bool same = file.st_dev == kept_file.st_dev && file.st_ino == kept_file.st_ino;
  return same ? kept_fd : 2;
}

void stats_print_at_exit(void) {
  struct quire_stats stats;
  char text[TEXT_SIZE];
  if (quire_stats(&stats) != 0) return;
  size_t length = quire_stats_format(&stats, QUIRE_TEXT, text, sizeof text);
  sys_write_all(kept_output(), text, size_min(length, sizeof text - 1));
}

public_symbol int quire_bring(const void *p) { return -bring_now(p); }

public_symbol size_t quire_compact(void) { return compaction_now(); }

public_symbol size_t quire_purge(size_t keep) {
  if (load_acquire(&arena.base) == 0) return 0;
  tcache_flush();
  (void)tcache_reclaim(true);
  (void)bin_trim(true);
  return frames_purge(keep >> FRAME_SHIFT) << FRAME_SHIFT;
}
