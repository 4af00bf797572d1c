/* From the words and descriptors that were read to a snapshot's records. */
#include <stdlib.h>
#include <string.h>

#include "tools/quire/numbers.h"
#include "tools/quire/reading.h"

enum { FRAME_SIZE = 4096, DESC_LINE = 64, FROZEN_BIT = 31, PIN_SHIFT = 2 };

/* ---- owners ---- */

/* Of a record that is known to be long enough: the offsets are checked with the header. */
static uint64_t field(const char *record, uint32_t offset, size_t size) {
  uint64_t value = 0;
  memcpy(&value, record + offset, size);
  return value;
}

/* By halves, as one does where the compiler may not count on an instruction for it: the builtin is
 * a call then, and there are millions. */
static unsigned ones(uint64_t word) {
  word -= word >> 1 & 0x5555555555555555;
  word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
  word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return (unsigned)(word * 0x0101010101010101 >> 56);
}

static unsigned count(const uint64_t bitmap[16], unsigned bits) {
  unsigned n = 0;
  for (unsigned i = 0; i < (bits + 63) / 64; i++) n += ones(bitmap[i]);
  return n;
}

/* The words of a bitmap of `bits` bits at an offset of the region; no bit beyond. */
static bool read_bitmap(const struct reading *r, uint64_t at, unsigned bits, uint64_t out[16]) {
  unsigned words = (bits + 63) / 64;
  if (at > r->ndescriptors || words * 8 > r->ndescriptors - at) return false;
  memcpy(out, r->descriptors + at, words * 8);
  if (bits % 64 != 0) out[words - 1] &= ((uint64_t)1 << bits % 64) - 1;
  return true;
}

/* Where in the region a descriptor of one of two caches is, if it is; its first line is there. */
static bool find_descriptor(const struct reading *r, uint64_t address, uint64_t cache,
                            uint64_t or_cache, uint64_t *at) {
  *at = address - r->header.descriptors;
  if (*at % DESC_LINE != 0 || *at >= r->ndescriptors) return false;
  uint64_t is = field(r->descriptors + *at, 0, 8);
  return is == cache || is == or_cache;
}

/* Slots of this slab in whose place guests have something. */
static unsigned count_blocked(const struct reading *r, const char *slab, unsigned nslots,
                              const uint64_t bitmap[16]) {
  const struct quire_peek *h = &r->header;
  uint64_t blocked[16], mesh, at;
  if (!find_descriptor(r, field(slab, h->slab_mesh, 8), h->desc_mesh, h->desc_mesh, &mesh))
    return 0;
  if (!find_descriptor(r, field(r->descriptors + mesh, h->mesh_blocked, 8), h->desc_blocked_small,
                       h->desc_blocked_large, &at))
    return 0;
  if (!read_bitmap(r, at + h->blocked_slots, nslots, blocked)) return 0;
  for (unsigned i = 0; i < (nslots + 63) / 64; i++) blocked[i] &= ~bitmap[i];
  return count(blocked, nslots);
}

static bool read_slab(const struct reading *r, const char *slab, struct reading_owner *out) {
  const struct quire_peek *h = &r->header;
  uint64_t cache = field(slab, 0, 8), c = field(slab, h->slab_class, 1);
  if ((cache != h->desc_slab_small && cache != h->desc_slab_large) || c >= h->nslab_classes)
    return false;
  const struct snapshot_class *class = &r->numbers->classes[c];
  out->run = (struct snapshot_run){
      .first = (uint32_t)field(slab, h->slab_pfn, 4),
      .nframes = (uint32_t)field(slab, h->slab_nframes, 2),
      .type = SNAPSHOT_SLAB,
      .size_class = (uint8_t)c,
      .state = (uint8_t)field(slab, h->slab_state, 1),
      .object_size = class->size,
      .slots = class->slots,
      .pins = (uint32_t)field(slab, h->slab_pins, 2),
  };
  if (out->run.nframes != class->nframes || field(slab, h->slab_nslots, 2) != class->slots)
    return false;
  if (!read_bitmap(r, out->at + h->slab_free, class->slots, out->bitmap)) return false;
  out->run.free_slots = count(out->bitmap, class->slots);
  out->run.blocked = count_blocked(r, slab, class->slots, out->bitmap);
  return true;
}

static bool read_folio(const struct reading *r, const char *folio, struct reading_owner *out) {
  const struct quire_peek *h = &r->header;
  uint64_t nframes = field(folio, h->folio_nframes, 4), nguard = field(folio, h->folio_nguard, 4);
  if (field(folio, 0, 8) != h->desc_folio || nframes == 0 || nframes + nguard > r->nframes)
    return false;
  out->run = (struct snapshot_run){
      .first = (uint32_t)field(folio, h->folio_pfn, 4),
      .nframes = (uint32_t)(nframes + nguard),
      .nguard = (uint32_t)nguard,
      .type = SNAPSHOT_FOLIO,
      .size_class = (uint8_t)field(folio, h->folio_class, 1),
      .object_size = nframes * FRAME_SIZE,
      .pins = (uint32_t)field(folio, h->folio_refs, 4) >> PIN_SHIFT,
  };
  return true;
}

static bool read_owned(const struct reading *r, const char *owned, struct reading_owner *out) {
  const struct quire_peek *h = &r->header;
  uint64_t nframes = field(owned, h->owned_nframes, 4);
  if (field(owned, 0, 8) != h->desc_owned || nframes == 0) return false;
  out->run = (struct snapshot_run){
      .first = (uint32_t)field(owned, h->owned_pfn, 4),
      .nframes = (uint32_t)nframes,
      .type = SNAPSHOT_OWNED,
      .object_size = nframes * FRAME_SIZE,
      .pins = (uint32_t)field(owned, h->owned_refs, 4) >> PIN_SHIFT,
  };
  return true;
}

bool reading_owner(const struct reading *r, uint32_t frame, struct reading_owner *out) {
  uint64_t word = r->words[frame];
  char padded[2 * DESC_LINE] = {0}; /* a field that begins in the line may end behind it */
  bool ok;
  out->at = (word >> 16) - r->header.descriptors;
  if (out->at % DESC_LINE != 0 || out->at >= r->ndescriptors) return false;
  memcpy(padded, r->descriptors + out->at, DESC_LINE);
  if ((word & 0xf) == SNAPSHOT_SLAB)
    ok = read_slab(r, padded, out);
  else if ((word & 0xf) == SNAPSHOT_FOLIO)
    ok = read_folio(r, padded, out);
  else
    ok = read_owned(r, padded, out);
  const struct snapshot_run *run = &out->run;
  return ok && run->first < r->nframes && run->nframes <= r->nframes - run->first &&
         frame - run->first < run->nframes && run->nguard < run->nframes &&
         (run->type == SNAPSHOT_OWNED || run->size_class == (word >> 8 & 0xff));
}

/* ---- how full ---- */

/* Of `most`, in 0 to 255, where something is never nothing and all alone is 255. */
static uint8_t share(unsigned n, unsigned most) {
  if (most == 0 || n == 0) return 0;
  return n >= most ? 255 : (uint8_t)((n * 254 + most - 1) / most);
}

/* Slots from `from` on, before `to`, that are free. */
static unsigned count_between(const uint64_t bitmap[16], unsigned from, unsigned to) {
  unsigned n = 0;
  while (from < to) {
    unsigned bit = from % 64, here = to - from < 64 - bit ? to - from : 64 - bit;
    uint64_t word = bitmap[from / 64] >> bit;
    if (here < 64) word &= ((uint64_t)1 << here) - 1;
    n += ones(word);
    from += here;
  }
  return n;
}

/* Of the slots that touch the slab's frame number i. */
static uint8_t fill_of(const struct reading_owner *owner, unsigned i) {
  const struct snapshot_run *run = &owner->run;
  unsigned size = (unsigned)run->object_size;
  unsigned from = i * FRAME_SIZE / size, to = ((i + 1) * FRAME_SIZE + size - 1) / size;
  if (to > run->slots) to = run->slots;
  if (from >= to) return 0; /* the slab's tail */
  return share(to - from - count_between(owner->bitmap, from, to), to - from);
}

/* ---- frames ---- */

struct drawing {
  struct reading *r;
  struct snapshot *out;
  uint32_t most_runs;
  struct reading_owner owner; /* of the frame before, mostly of this one too */
  uint64_t word;              /* whose owner that is; 0: none */
};

static uint32_t add_run(struct drawing *d, const struct snapshot_run *run) {
  struct snapshot *out = d->out;
  if (out->nruns == d->most_runs) {
    uint32_t most = d->most_runs < 1024 ? 1024 : d->most_runs + d->most_runs / 2;
    struct snapshot_run *more = realloc(out->runs, (size_t)most * sizeof *more);
    if (more == NULL) return SNAPSHOT_NO_RUN;
    out->runs = more;
    d->most_runs = most;
  }
  out->runs[out->nruns] = *run;
  return out->nruns++;
}

static bool draw_owned_frame(struct drawing *d, uint32_t i, struct snapshot_frame *frame) {
  struct reading *r = d->r;
  uint64_t word = r->words[i] & READING_OWNER_MASK;
  if (d->word != word || i - d->owner.run.first >= d->owner.run.nframes) {
    d->word = 0;
    if (!reading_owner(r, i, &d->owner)) return true; /* settle() has marked it */
    d->word = word;
  }
  const struct snapshot_run *run = &d->owner.run;
  uint32_t *known = &r->run_of[d->owner.at / DESC_LINE];
  if (*known == SNAPSHOT_NO_RUN && (*known = add_run(d, run)) == SNAPSHOT_NO_RUN) return false;
  unsigned index = i - run->first;
  frame->run = *known;
  if (run->type != SNAPSHOT_SLAB) {
    bool guard = index >= run->nframes - run->nguard;
    frame->flags |= guard ? SNAPSHOT_GUARD : 0;
    frame->occupancy = 255;
    frame->fill = guard ? 0 : 255;
  } else {
    frame->occupancy = share(run->slots - run->free_slots, run->slots);
    frame->fill = fill_of(&d->owner, index);
  }
  return true;
}

/* Types without an owner: neighbours of the same in one hugepage are a run. */
static bool draw_other_frame(struct drawing *d, uint32_t i, struct snapshot_frame *frame) {
  struct snapshot_frame *left = i % HUGEPAGE_FRAMES == 0 ? NULL : frame - 1;
  if (left != NULL && left->type == frame->type && left->run != SNAPSHOT_NO_RUN) {
    struct snapshot_run *run = &d->out->runs[left->run];
    frame->run = left->run;
    run->nframes++;
    run->object_size += FRAME_SIZE;
    return true;
  }
  struct snapshot_run run = {
      .first = i, .nframes = 1, .type = frame->type, .object_size = FRAME_SIZE};
  frame->run = add_run(d, &run);
  return frame->run != SNAPSHOT_NO_RUN;
}

static uint16_t word_flags(uint64_t word) {
  uint16_t flags = 0;
  if (word & 1 << 4) flags |= SNAPSHOT_ISOLATED;
  if (word & 1 << 5) flags |= SNAPSHOT_PINNED;
  if (word & 1 << 6) flags |= SNAPSHOT_HOST;
  return flags;
}

/* Whose memory it has. Guests' hosts learn of them later: they may stand behind. */
static void draw_backing(const struct reading *r, uint32_t i, struct snapshot_frame *frame) {
  uint32_t backing = r->backing[i], at = (backing & ~((uint32_t)1 << FROZEN_BIT)) - 1;
  frame->memory = i;
  if (backing == 0) return;
  if (backing >> FROZEN_BIT) {
    frame->flags |= SNAPSHOT_FROZEN;
  } else if (at == i) {
    frame->flags |= SNAPSHOT_HOME;
  } else if (at < r->nframes) {
    frame->flags |= SNAPSHOT_GUEST;
    frame->memory = at;
  }
}

static void draw_bitmaps(const struct reading *r, uint32_t i, struct snapshot_frame *frame) {
  const struct quire_peek *h = &r->header;
  const char *record = r->hugepages + (size_t)(i / HUGEPAGE_FRAMES) * h->hugepage_stride;
  uint32_t byte = i % HUGEPAGE_FRAMES / 8, bit = i % 8;
  if (record[h->hugepage_used + byte] >> bit & 1) frame->flags |= SNAPSHOT_USED;
  if (record[h->hugepage_resident + byte] >> bit & 1) frame->flags |= SNAPSHOT_RESIDENT;
  if (record[h->hugepage_zero + byte] >> bit & 1) frame->flags |= SNAPSHOT_ZERO;
  if (record[h->hugepage_flags] & 1) frame->flags |= SNAPSHOT_HUGE;
  bool resident = frame->flags & SNAPSHOT_RESIDENT, used = frame->flags & SNAPSHOT_USED;
  if (frame->type == SNAPSHOT_SLAB && used && !resident) frame->flags |= SNAPSHOT_HOLE;
  if (frame->type <= SNAPSHOT_FREE && !used && !resident) frame->flags |= SNAPSHOT_DISCARDED;
}

static bool draw_frame(struct drawing *d, uint32_t i, struct snapshot_frame *frame) {
  struct reading *r = d->r;
  uint64_t word = r->words[i];
  unsigned type = word & 0xf;
  *frame = (struct snapshot_frame){
      .run = SNAPSHOT_NO_RUN,
      .type = (uint8_t)(type < SNAPSHOT_TYPES ? type : SNAPSHOT_RESERVED),
      .size_class = (uint8_t)(word >> 8),
      .flags = word_flags(word),
  };
  draw_backing(r, i, frame);
  draw_bitmaps(r, i, frame);
  if (!r->sure[i] || type >= SNAPSHOT_TYPES) {
    frame->flags |= SNAPSHOT_UNSURE;
    d->out->nunsure++;
    return true;
  }
  if (reading_has_owner(word)) return draw_owned_frame(d, i, frame);
  return type <= SNAPSHOT_FREE || draw_other_frame(d, i, frame);
}

/* ---- hugepages ---- */

static void draw_hugepage(const struct reading *r, uint32_t n, const struct snapshot_frame *frames,
                          struct snapshot_hugepage *out) {
  const struct quire_peek *h = &r->header;
  const char *record = r->hugepages + (size_t)n * h->hugepage_stride;
  *out = (struct snapshot_hugepage){
      .state = (uint8_t)record[h->hugepage_state],
      .kind = (uint8_t)record[h->hugepage_kind],
      .flags = (uint8_t)record[h->hugepage_flags],
  };
  for (unsigned i = 0; i < HUGEPAGE_FRAMES; i++) {
    unsigned flags = frames[i].flags;
    out->used += (flags & SNAPSHOT_USED) != 0;
    out->resident += (flags & SNAPSHOT_RESIDENT) != 0;
    out->zero += (flags & SNAPSHOT_ZERO) != 0;
    out->guests += (flags & SNAPSHOT_GUEST) != 0;
    out->homes += (flags & SNAPSHOT_HOME) != 0;
    out->frozen += (flags & SNAPSHOT_FROZEN) != 0;
    out->pinned += (flags & SNAPSHOT_PINNED) != 0;
    out->holes += (flags & SNAPSHOT_HOLE) != 0;
  }
}

static void count_guests(struct snapshot *out) {
  for (uint32_t i = 0; i < out->nframes; i++) {
    if (!(out->frames[i].flags & SNAPSHOT_GUEST)) continue;
    uint16_t *guests = &out->frames[out->frames[i].memory].guests;
    if (*guests < UINT16_MAX) ++*guests;
  }
}

enum snapshot_status reading_draw(struct reading *r, struct snapshot *out) {
  struct drawing d = {.r = r, .out = out};
  out->nframes = r->nframes;
  out->nhugepages = r->nhugepages;
  out->frames = reading_buffer((size_t)r->nframes * sizeof *out->frames);
  out->hugepages = malloc((size_t)r->nhugepages * sizeof *out->hugepages + 1);
  out->runs = NULL;
  if (out->frames == NULL || out->hugepages == NULL) return SNAPSHOT_NO_MEMORY;
  memset(r->run_of, 0xff, r->ndescriptors / DESC_LINE * sizeof *r->run_of);
  for (uint32_t i = 0; i < r->nframes; i++)
    if (!draw_frame(&d, i, &out->frames[i])) return SNAPSHOT_NO_MEMORY;
  count_guests(out);
  for (uint32_t n = 0; n < r->nhugepages; n++)
    draw_hugepage(r, n, out->frames + (size_t)n * HUGEPAGE_FRAMES, &out->hugepages[n]);
  return SNAPSHOT_OK;
}
