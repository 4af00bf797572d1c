/* The header and the numbers: all of a target that is counted rather than drawn.
 *
 * quire_stats is made of some forty counters and of sums over size classes; here the same sums are
 * made of the same counters, without a lock. So they may disagree by what the target did between
 * two reads, as quire_stats may, and what would be less than nothing is nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/quire/numbers.h"

enum {
  STRIDE_MAX = 4096, /* records in arrays are never as long */
  DESC_LINE = 64,
  OFFSET_MAX = 256, /* fields of descriptors */
  CACHE_MAX = 1 << 18,
  CACHES_MAX = 1 << 17,
  FRAME = 4096,
  HUGEPAGE = 512, /* frames */
  PLACES = QUIRE_PEEK_NUMBERS,
};

/* ---- the header ---- */

static bool power_of_two(uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }

static bool sound_arrays(const struct quire_peek *h) {
  return h->nclasses > 0 && h->nclasses < SNAPSHOT_CLASSES && h->nslab_classes <= h->nclasses &&
         h->class_stride >= 8 && h->class_stride <= STRIDE_MAX && h->bin_stride <= STRIDE_MAX &&
         h->bin_nslabs + 4ull <= h->bin_stride && h->bin_nblocked + 4ull <= h->bin_stride &&
         h->bin_free_slots + 8ull <= h->bin_stride && h->bin_refills + 8ull <= h->bin_stride &&
         h->bin_flushes + 8ull <= h->bin_stride && h->transfer_stride <= STRIDE_MAX &&
         h->transfer_n + 4ull <= h->transfer_stride;
}

static bool sound_hugepages(const struct quire_peek *h) {
  uint32_t stride = h->hugepage_stride;
  return stride >= 64 && stride <= STRIDE_MAX && h->hugepage_used + 64ull <= stride &&
         h->hugepage_resident + 64ull <= stride && h->hugepage_zero + 64ull <= stride &&
         h->hugepage_state < stride && h->hugepage_kind < stride && h->hugepage_flags < stride;
}

static bool sound_descriptors(const struct quire_peek *h) {
  const uint32_t offsets[] = {
      h->slab_pfn,  h->slab_nfree,    h->slab_nslots, h->slab_nframes, h->slab_class,
      h->slab_free, h->slab_state,    h->slab_pins,   h->slab_holes,   h->slab_mesh,
      h->folio_pfn, h->folio_nframes, h->folio_class, h->folio_nguard, h->folio_refs,
      h->owned_pfn, h->owned_nframes, h->owned_refs,
  };
  for (unsigned i = 0; i < sizeof offsets / sizeof offsets[0]; i++)
    if (offsets[i] > 64) return false; /* a descriptor is at least a line, a bitmap behind it */
  return h->mesh_blocked <= DESC_LINE - 8 && h->blocked_slots <= OFFSET_MAX &&
         h->cache_next < STRIDE_MAX && h->cache_tops < STRIDE_MAX && h->cache_slots < CACHE_MAX;
}

static bool sound_header(const struct quire_peek *h) {
  return h->frame_size == FRAME && h->frames_per_hugepage == HUGEPAGE &&
         power_of_two(h->page_size) && h->page_size >= FRAME && h->nhugepages <= (1u << 23) &&
         h->base % ((uint64_t)FRAME * HUGEPAGE) == 0 && sound_arrays(h) && sound_hugepages(h) &&
         sound_descriptors(h);
}

enum snapshot_status snapshot_header(struct target *target, struct quire_peek *out) {
  if (!target_read(target, target->header, out, 16)) return SNAPSHOT_UNREADABLE;
  if (out->magic != 0 && out->magic != QUIRE_PEEK_MAGIC) return SNAPSHOT_GARBAGE;
  /* The version is there before the heap is, and before it no size tells of another. */
  if (out->version != QUIRE_PEEK_VERSION)
    return out->magic == 0 && out->version == 0 ? SNAPSHOT_NOT_READY : SNAPSHOT_VERSION;
  if (out->size != sizeof *out) return SNAPSHOT_VERSION;
  if (out->magic == 0) return SNAPSHOT_NOT_READY;
  if (!target_read(target, target->header, out, sizeof *out)) return SNAPSHOT_UNREADABLE;
  out->library[sizeof out->library - 1] = 0;
  return sound_header(out) ? SNAPSHOT_OK : SNAPSHOT_GARBAGE;
}

const char *snapshot_status_text(enum snapshot_status status) {
  static const char *const texts[] = {
      [SNAPSHOT_OK] = "all is well",
      [SNAPSHOT_UNREADABLE] = "its memory can't be read",
      [SNAPSHOT_NOT_READY] = "it has allocated nothing yet",
      [SNAPSHOT_VERSION] = "it runs another version of quire",
      [SNAPSHOT_GARBAGE] = "what it holds is no heap of quire's",
      [SNAPSHOT_NO_MEMORY] = "not enough memory here",
  };
  return (unsigned)status < sizeof texts / sizeof texts[0] ? texts[status] : "unknown";
}

/* ---- what is counted in one place ---- */

static enum snapshot_status read_places(struct target *target, const struct quire_peek *h,
                                        uint64_t values[PLACES]) {
  struct target_piece pieces[PLACES];
  for (unsigned i = 0; i < PLACES; i++) {
    uint64_t size = h->numbers[i].size;
    if (size != 4 && size != 8) return SNAPSHOT_GARBAGE;
    values[i] = 0; /* little-endian, as the machines that quire runs on: the low half is first */
    pieces[i] = (struct target_piece){h->numbers[i].address, &values[i], size};
  }
  return target->read(target, pieces, PLACES) ? SNAPSHOT_OK : SNAPSHOT_UNREADABLE;
}

static void put_places(const uint64_t *n, struct snapshot_numbers *out) {
  struct quire_stats *s = &out->stats;
  s->frames_used = n[QUIRE_PEEK_FRAMES_USED];
  s->frames_dirty = n[QUIRE_PEEK_FRAMES_DIRTY];
  s->frames_opened = n[QUIRE_PEEK_FRAMES_OPENED];
  s->frames_peak = n[QUIRE_PEEK_FRAMES_PEAK];
  s->hugepages = n[QUIRE_PEEK_HUGEPAGES];
  s->huge_advised = n[QUIRE_PEEK_HUGE_ADVISED];
  s->huge_fallbacks = n[QUIRE_PEEK_HUGE_FALLBACKS];
  s->discards = n[QUIRE_PEEK_DISCARDS];
  s->discarded = n[QUIRE_PEEK_DISCARDED];
  s->discard_failures = n[QUIRE_PEEK_DISCARD_FAILURES];
  s->moves = n[QUIRE_PEEK_MOVES];
  s->hollow = n[QUIRE_PEEK_HOLLOW];
  s->zone = n[QUIRE_PEEK_ZONE];
  s->guests = n[QUIRE_PEEK_GUESTS];
  s->frozen = n[QUIRE_PEEK_FROZEN];
  s->mappings = n[QUIRE_PEEK_MAPPINGS];
  s->freezes = n[QUIRE_PEEK_FREEZES];
  s->mesh_state = n[QUIRE_PEEK_MESH_STATE];
  s->compactions = n[QUIRE_PEEK_COMPACTIONS];
  s->hollowed = n[QUIRE_PEEK_HOLLOWED];
  s->meshed = n[QUIRE_PEEK_MESHED];
  s->pinned = n[QUIRE_PEEK_PINNED];
  s->frames_pinned = n[QUIRE_PEEK_FRAMES_PINNED];
  s->frames_poisoned = n[QUIRE_PEEK_FRAMES_POISONED];
  s->nfolios = n[QUIRE_PEEK_NFOLIOS];
  s->ncaches = n[QUIRE_PEEK_NCACHES];
  s->reclaimed = n[QUIRE_PEEK_RECLAIMED];
  s->nodes = n[QUIRE_PEEK_NODES_COUNT] > 1 ? n[QUIRE_PEEK_NODES_COUNT] - 1 : 1;
  s->numa_state = n[QUIRE_PEEK_NUMA_STATE];
  s->brought_folios = n[QUIRE_PEEK_BROUGHT_FOLIOS];
  s->brought = n[QUIRE_PEEK_BROUGHT];
  s->brought_not = n[QUIRE_PEEK_BROUGHT_NOT];
  s->owned_live = n[QUIRE_PEEK_OWNED_FRAMES] * FRAME;
  out->huge_stalls = n[QUIRE_PEEK_HUGE_STALLS];
  out->mappings_most = n[QUIRE_PEEK_MAPPINGS_MOST];
  out->remap_failures = n[QUIRE_PEEK_REMAP_FAILURES];
  out->mesh_runs = n[QUIRE_PEEK_MESH_RUNS];
  out->unplaced = n[QUIRE_PEEK_UNPLACED];
  out->converted = n[QUIRE_PEEK_CONVERTED];
  out->refused = n[QUIRE_PEEK_REFUSED];
}

/* ---- classes ---- */

struct sums {
  uint64_t slab_frames, nslabs, free_bytes, tails;
  uint64_t cached, transfer, metadata;
  uint64_t slab_loose, folio_loose;
};

/* A field of a record in an array that was read. */
static uint64_t field(const char *record, uint32_t offset, size_t size) {
  uint64_t value = 0;
  memcpy(&value, record + offset, size);
  return value;
}

static enum snapshot_status read_classes(struct target *target, const struct quire_peek *h,
                                         struct snapshot_numbers *out) {
  char records[(size_t)h->nclasses * h->class_stride];
  if (!target_read(target, h->classes_address, records, sizeof records)) return SNAPSHOT_UNREADABLE;
  out->nclasses = h->nclasses;
  for (unsigned c = 0; c < h->nclasses; c++) {
    const char *record = records + (size_t)c * h->class_stride;
    struct snapshot_class *class = &out->classes[c];
    class->size = (uint32_t)field(record, 0, 4);
    class->nframes = (uint32_t)field(record, 4, 2);
    class->slots = (uint32_t)field(record, 6, 2);
    uint64_t bytes = (uint64_t) class->nframes * FRAME;
    bool slab = c < h->nslab_classes;
    if (class->size < 8 || class->slots == 0 || (uint64_t) class->slots * class->size > bytes ||
        class->slots > NUMBERS_SLOTS_MAX || (slab && class->nframes > NUMBERS_SLAB_FRAMES_MAX))
      return SNAPSHOT_GARBAGE;
  }
  return SNAPSHOT_OK;
}

/* Of one node. */
static void add_class(const struct quire_peek *h, unsigned c, const char *bin, const char *transfer,
                      struct snapshot_numbers *out, struct sums *sums) {
  struct snapshot_class *class = &out->classes[c];
  uint64_t objects = field(transfer, h->transfer_n, 4);
  class->transfer += objects;
  if (c >= h->nslab_classes) {
    if (objects > 0) sums->metadata += h->transfer_bytes;
    return;
  }
  class->nslabs += field(bin, h->bin_nslabs, 4);
  class->free_slots += field(bin, h->bin_free_slots, 8) + field(bin, h->bin_nblocked, 4);
  if (field(bin, h->bin_refills, 8) > 0) sums->metadata += h->bin_stride;
  if (field(bin, h->bin_flushes, 8) > 0) sums->metadata += h->transfer_bytes;
}

/* Of all nodes. */
static void sum_class(const struct quire_peek *h, unsigned c, const struct snapshot_numbers *out,
                      struct sums *sums) {
  const struct snapshot_class *class = &out->classes[c];
  uint64_t size = class->size, loose = (class->cached + class->transfer) * size;
  sums->transfer += class->transfer * size;
  sums->cached += class->cached * size;
  *(c < h->nslab_classes ? &sums->slab_loose : &sums->folio_loose) += loose;
  sums->nslabs += class->nslabs;
  sums->slab_frames += class->nslabs * class->nframes;
  sums->free_bytes += class->free_slots * size;
  sums->tails += class->nslabs * ((uint64_t) class->nframes * FRAME - size * class->slots);
}

/* Bins and transfer areas of one node. */
static enum snapshot_status read_shelf(struct target *target, const struct quire_peek *h,
                                       uint64_t bins_at, uint64_t transfers_at,
                                       struct snapshot_numbers *out, struct sums *sums) {
  enum snapshot_status status = SNAPSHOT_UNREADABLE;
  size_t nbins = (size_t)h->nslab_classes * h->bin_stride;
  size_t ntransfers = (size_t)h->nclasses * h->transfer_stride;
  char *bins = malloc(nbins + ntransfers + 1), *transfers = bins + nbins;
  if (bins == NULL) return SNAPSHOT_NO_MEMORY;
  struct target_piece pieces[] = {{bins_at, bins, nbins}, {transfers_at, transfers, ntransfers}};
  if (target->read(target, pieces, 2)) {
    for (unsigned c = 0; c < h->nclasses; c++)
      add_class(h, c, bins + (size_t)(c < h->nslab_classes ? c : 0) * h->bin_stride,
                transfers + (size_t)c * h->transfer_stride, out, sums);
    status = SNAPSHOT_OK;
  }
  free(bins);
  return status;
}

static enum snapshot_status read_bins(struct target *target, const struct quire_peek *h,
                                      struct snapshot_numbers *out, struct sums *sums) {
  enum snapshot_status status =
      read_shelf(target, h, h->bins_address, h->transfers_address, out, sums);
  uint64_t shelves = 0, nodes = out->stats.nodes;
  if (status != SNAPSHOT_OK) return status;
  if (!target_read(target, h->shelves_address, &shelves, 8) ||
      !target_read(target, h->node_frames_address, out->stats.node_frames,
                   sizeof out->stats.node_frames))
    return SNAPSHOT_UNREADABLE;
  if (shelves == 0) nodes = 0;
  for (uint64_t i = 0; i < nodes && i < QUIRE_NODES_MAX && status == SNAPSHOT_OK; i++) {
    uint64_t at = shelves + i * h->shelf_stride;
    status = read_shelf(target, h, at, at + h->shelf_transfers, out, sums);
  }
  for (unsigned c = 0; c < h->nclasses; c++) sum_class(h, c, out, sums);
  return status;
}

/* ---- thread caches ---- */

/* Objects on each stack: the top against where the class's slots begin. */
static void add_cache(const struct quire_peek *h, uint64_t address, const char *cache,
                      const uint16_t *first, struct snapshot_numbers *out) {
  uint64_t slots = address + h->cache_slots, locked = slots + 8ull * first[h->nclasses];
  for (unsigned c = 0; c < h->nclasses; c++) {
    uint64_t top = field(cache, h->cache_tops + 8 * c, 8), bottom = slots + 8ull * first[c];
    uint64_t most = first[c + 1] > first[c] ? first[c + 1] - first[c] - 1u : 0;
    if (top == locked || top < bottom || (top - bottom) / 8 > most) continue;
    out->classes[c].cached += (top - bottom) / 8;
  }
}

/* The list may change while it is followed: descriptors stay caches' for ever, so what is read is
 * one, if perhaps not one that is in the list any more. */
static enum snapshot_status read_caches(struct target *target, const struct quire_peek *h,
                                        struct snapshot_numbers *out) {
  uint16_t first[SNAPSHOT_CLASSES + 1];
  uint64_t at, most = out->stats.ncaches;
  size_t tops = h->cache_tops + 8ull * h->nclasses, next = h->cache_next + 8ull;
  size_t length = tops > next ? tops : next;
  char *cache = malloc(length);
  enum snapshot_status status = SNAPSHOT_OK;
  struct target_piece pieces[] = {{h->cache_first_address, first, 2ull * (h->nclasses + 1)},
                                  {h->caches_address, &at, 8}};
  if (cache == NULL) return SNAPSHOT_NO_MEMORY;
  if (!target->read(target, pieces, 2)) status = SNAPSHOT_UNREADABLE;
  if (most > CACHES_MAX) most = CACHES_MAX;
  for (uint64_t i = 0; status == SNAPSHOT_OK && i < most && at != 0; i++) {
    if (!target_read(target, at, cache, length)) {
      status = SNAPSHOT_UNREADABLE;
    } else if (field(cache, 0, 8) != h->desc_cache) {
      break;
    } else {
      add_cache(h, at, cache, first, out);
      at = field(cache, h->cache_next, 8);
    }
  }
  free(cache);
  return status;
}

/* ---- all ---- */

static uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static void put_sums(const struct quire_peek *h, const uint64_t *places, const struct sums *sums,
                     struct snapshot_numbers *out) {
  struct quire_stats *s = &out->stats;
  uint64_t slabs = sums->slab_frames * FRAME;
  uint64_t others = s->owned_live + s->frames_poisoned * FRAME;
  uint64_t folios = less(s->frames_used * FRAME, slabs + others);
  s->slab_free = sums->free_bytes + sums->tails;
  s->cached = sums->cached;
  s->transfer = sums->transfer;
  s->slab_live = less(slabs, s->slab_free + sums->slab_loose);
  s->folio_live = less(folios, sums->folio_loose);
  s->live = s->slab_live + s->folio_live + s->owned_live;
  s->nslabs = sums->nslabs;
  out->slab_tails = sums->tails;
  uint64_t hugepages = s->frames_opened / HUGEPAGE;
  s->metadata = s->frames_opened * 8 + hugepages * h->hugepage_stride +
                places[QUIRE_PEEK_DESCRIPTOR_BYTES] + sums->metadata + h->frames_bytes +
                3 * hugepages / 8 + places[QUIRE_PEEK_NODES_BYTES] +
                places[QUIRE_PEEK_BACKING_BYTES];
}

static enum snapshot_status read_options(struct target *target, const struct quire_peek *h,
                                         struct snapshot_numbers *out) {
  out->noptions = h->noptions < SNAPSHOT_OPTIONS ? h->noptions : SNAPSHOT_OPTIONS;
  return target_read(target, h->options_address, out->options, out->noptions * 8)
             ? SNAPSHOT_OK
             : SNAPSHOT_UNREADABLE;
}

/* Changes while the target runs, unlike the rest of the header. */
static enum snapshot_status read_background(struct target *target, struct snapshot_numbers *out) {
  struct {
    uint32_t tid;
    int32_t fd;
  } now = {0, -1};
  struct target_piece pieces[] = {
      {target->header + offsetof(struct quire_peek, background_tid), &now.tid, 4},
      {target->header + offsetof(struct quire_peek, mailbox_fd), &now.fd, 4}};
  if (!target->read(target, pieces, 2)) return SNAPSHOT_UNREADABLE;
  out->background_tid = now.tid;
  out->mailbox_fd = now.fd;
  out->stats.background = now.tid != 0;
  return SNAPSHOT_OK;
}

enum snapshot_status snapshot_stats(struct target *target, const struct quire_peek *header,
                                    struct snapshot_numbers *out) {
  uint64_t places[PLACES];
  struct sums sums = {0};
  memset(out, 0, sizeof *out);
  memcpy(out->library, header->library, sizeof out->library);
  out->stats.version = QUIRE_STATS_VERSION;
  out->stats.page_size = header->page_size;
  out->stats.reserved = header->reserved;
  enum snapshot_status status = read_places(target, header, places);
  if (status == SNAPSHOT_OK) put_places(places, out);
  if (status == SNAPSHOT_OK) status = read_classes(target, header, out);
  if (status == SNAPSHOT_OK) status = read_caches(target, header, out);
  if (status == SNAPSHOT_OK) status = read_bins(target, header, out, &sums);
  if (status == SNAPSHOT_OK) status = read_options(target, header, out);
  if (status == SNAPSHOT_OK) status = read_background(target, out);
  if (status == SNAPSHOT_OK) put_sums(header, places, &sums, out);
  return status;
}
