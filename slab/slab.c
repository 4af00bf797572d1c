#include "slab/slab.h"

#include <string.h>

#include "page/compact.h"
#include "page/owner.h"
#include "slab/migrate.h"
#include "slab/pin.h"

static peeker void slab_describe(const void *owner, struct owner_view *out) {
  const struct slab *slab = owner;
  out->first = (pfn_t){load_relaxed(&slab->pfn.n)};
  out->nframes = load_relaxed(&slab->nframes);
  out->nguard = 0;
  out->object_size = class_size(load_relaxed(&slab->size_class));
  out->slots = load_relaxed(&slab->nslots);
  out->free_slots = load_relaxed(&slab->nfree);
  out->pinned = load_relaxed(&slab->pins) != 0;
}

static const struct owner_ops slab_ops = {
    .describe = slab_describe,
    .isolate = slab_isolate,
    .dirty = slab_dirty,
    .migrate = slab_migrate,
    .put_back = slab_put_back,
    .poison = slab_poison,
};

struct desc_cache slab_cache_small = DESC_CACHE_INIT(
    sizeof(struct slab) + SLAB_WORDS_SMALL * sizeof(uint64_t), "slab-512", &slab_ops);
struct desc_cache slab_cache_large = DESC_CACHE_INIT(
    sizeof(struct slab) + SLAB_WORDS_LARGE * sizeof(uint64_t), "slab-1024", &slab_ops);

static void free_all_slots(struct slab *slab) {
  unsigned left = slab->nslots;
  for (unsigned w = 0; w < slab_words(slab); w++) {
    slab->free[w] = left >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << left) - 1;
    left -= left >= 64 ? 64 : left;
  }
}

/* Of the others compaction can make no hugepages of hosts. */
static enum frames_kind kind_of(const struct size_class *c) {
  return c->size <= COMPACT_HUGE_MAX ? FRAMES_SLAB : FRAMES_FOLIO;
}

struct slab *slab_new(unsigned size_class) {
  const struct size_class *c = &size_classes[size_class];
  struct frames_run run;
  bool small = c->nslots <= SLAB_WORDS_SMALL * 64;
  struct slab *slab = desc_alloc(small ? &slab_cache_small : &slab_cache_large);
  if (slab == NULL) return NULL;
  if (frames_alloc(c->nframes, frames_of(class_alignment(size_class)), kind_of(c), &run) != 0) {
    desc_free(slab);
    return NULL;
  }
  slab->next = slab->prev = NULL;
  slab->pfn = run.pfn;
  slab->nframes = c->nframes;
  slab->nslots = slab->nfree = c->nslots;
  slab->size_class = (uint8_t)size_class;
  slab->state = SLAB_FREE;
  slab->fullness = 0;
  slab->hint = 0;
  slab->pins = 0;
  slab->holes = 0;
  slab->skip = 0;
  store_relaxed(&slab->node, (uint8_t)frames_node(run.pfn));
  slab->mesh = NULL;
  free_all_slots(slab);
  memmap_set(slab->pfn, slab->nframes, memdesc_make(MEMDESC_SLAB, size_class, slab));
  return slab;
}

void slab_destroy(struct slab *slab) {
  pfn_t pfn = slab->pfn;
  size_t n = slab->nframes;
  assert_always(slab_is_empty(slab));
  if (unlikely(slab->pins != 0)) pin_drop(slab_addr(slab), n << FRAME_SHIFT, n);
  memmap_clear(pfn, n, MEMDESC_SLAB);
  uint32_t holes = slab->holes;
  slab->state = SLAB_FREE;
  desc_free(slab);
  frames_free_hollow(pfn, n, holes);
}

uint32_t slab_frames_of(const struct slab *slab, unsigned from, unsigned to) {
  size_t size = class_size(slab->size_class);
  unsigned first = (unsigned)(from * size / FRAME_SIZE);
  unsigned last = (unsigned)((to * size - 1) / FRAME_SIZE);
  return (uint32_t)(((uint64_t)2 << last) - ((uint64_t)1 << first));
}

uint32_t slab_live_frames(const struct slab *slab) {
  uint32_t live = 0;
  unsigned left = slab->nslots;
  for (unsigned w = 0; w < slab_words(slab); w++, left -= 64) {
    uint64_t taken = ~slab->free[w] & (left >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << left) - 1);
    while (taken != 0) {
      /* Runs of taken slots, so that a full slab takes a few steps. */
      unsigned from = (unsigned)__builtin_ctzll(taken);
      uint64_t rest = ~(taken >> from);
      unsigned n = rest == 0 ? 64 : (unsigned)__builtin_ctzll(rest);
      live |= slab_frames_of(slab, w * 64 + from, w * 64 + from + n);
      if (from + n >= 64) break;
      taken &= ~(uint64_t)0 << (from + n);
    }
    if (left <= 64) break;
  }
  return live;
}

/* Some of these slots' frames had been discarded: they hold memory again. */
static cold void fill_holes(struct slab *slab, void *const *objects, unsigned n) {
  uint32_t touched = 0;
  for (unsigned i = 0; i < n; i++) {
    unsigned slot = (unsigned)slab_slot(slab, objects[i]);
    touched |= slab_frames_of(slab, slot, slot + 1);
  }
  if ((touched & slab->holes) == 0) return;
  frames_fill(slab->pfn, touched & slab->holes);
  slab->holes &= ~touched;
}

unsigned slab_take(struct slab *slab, void **out, unsigned n) {
  char *base = slab_addr(slab);
  size_t size = class_size(slab->size_class);
  unsigned want = n < slab->nfree ? n : slab->nfree, left = want, w = slab->hint;
  while (left > 0) {
    uint64_t word = slab->free[w];
    for (; word != 0 && left > 0; word &= word - 1)
      out[--left] = base + (w * 64 + (unsigned)__builtin_ctzll(word)) * size;
    slab->free[w] = word;
    if (word == 0) w++;
  }
  slab->hint = (uint8_t)w;
  slab->nfree -= (uint16_t)want;
  if (unlikely(slab->holes != 0)) fill_holes(slab, out, want);
  return want;
}

int slab_slot(const struct slab *slab, const void *p) {
  const struct size_class *c = &size_classes[slab->size_class];
  size_t offset = (size_t)((const char *)p - (const char *)slab_addr(slab));
  unsigned slot = class_slot(c, offset);
  return slot < slab->nslots && slot * (size_t)c->size == offset ? (int)slot : -1;
}

enum slab_verdict slab_check(const struct slab *slab, const void *p) {
  int slot = slab_slot(slab, p);
  if (unlikely(slot < 0)) return SLAB_INTERIOR;
  uint64_t word = load_relaxed(&slab->free[slot / 64]);
  return unlikely(word >> slot % 64 & 1) ? SLAB_DOUBLE_FREE : SLAB_OK;
}

/* The loop that every flushed object goes through: class, base and the word at work stay in
 * registers, the memmap is asked once per slab. */
unsigned slab_put(struct slab *slab, void *const *objects, unsigned n, enum slab_verdict *verdict) {
  const struct size_class c = size_classes[slab->size_class];
  const char *base = slab_addr(slab);
  size_t length = (size_t)slab->nframes << FRAME_SHIFT;
  unsigned done = 0, lowest = slab->hint, at = 0;
  uint64_t word = slab->free[0];
  for (; done < n; done++) {
    size_t offset = (size_t)((const char *)objects[done] - base);
    if (offset >= length) break;
    unsigned slot = class_slot(&c, offset), w = slot / 64;
    uint64_t bit = (uint64_t)1 << slot % 64;
    if (unlikely(slot * (size_t)c.size != offset || slot >= c.nslots)) {
      *verdict = SLAB_INTERIOR;
      break;
    }
    if (w != at) {
      slab->free[at] = word;
      word = slab->free[at = w];
      if (w < lowest) lowest = w;
    }
    if (unlikely((word & bit) != 0)) {
      *verdict = SLAB_DOUBLE_FREE;
      break;
    }
    word |= bit;
  }
  slab->free[at] = word;
  if (slab->free[0] != 0) lowest = 0;
  slab->hint = (uint8_t)lowest;
  slab->nfree += (uint16_t)done;
  return done;
}

bool slab_consistent(const struct slab *slab) {
  unsigned nfree = 0;
  for (unsigned w = 0; w < slab_words(slab); w++) {
    if (w < slab->hint && slab->free[w] != 0) return false;
    nfree += (unsigned)__builtin_popcountll(slab->free[w]);
  }
  if (slab->nslots % 64 != 0 && slab->free[slab_words(slab) - 1] >> slab->nslots % 64 != 0)
    return false;
  if (nfree != slab->nfree || slab->nslots != size_classes[slab->size_class].nslots) return false;
  if (slab->node != frames_node(slab->pfn)) return false;
  for (unsigned i = 0; i < slab->nframes; i++) {
    memdesc_t d = memmap_peek(pfn_add(slab->pfn, i));
    if (memdesc_type(d) != MEMDESC_SLAB || memdesc_owner(d) != slab) return false;
    if (memdesc_class(d) != slab->size_class) return false;
  }
  return true;
}
