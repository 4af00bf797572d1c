/* Reading a whole heap.
 *
 * Theory. The peekers' protocol (quire.h) for a million frames at once: read the memmap, then all
 * that its words may lead to (hugepages, backings, the region of descriptors, each in one piece),
 * then the memmap again. A frame whose word is the same both times had its descriptor read in
 * between, so that one is good. The few others are looked at again one by one, each by word,
 * descriptor and word in one call; so are frames whose descriptor does not hold them, as with a
 * folio that is growing just now. What still disagrees after some rounds is UNSURE.
 *
 * Nothing that was read is believed: a descriptor must lie in the region, name the cache of its
 * type, and say of its run what is possible for its class; else the frame is UNSURE too. So
 * garbage makes a picture without meaning, but a sound one. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tools/quire/numbers.h"
#include "tools/quire/reading.h"

enum {
  ROUNDS = 4,
  TRIPLES = 256,       /* frames in one call */
  AGAIN_MAX = 1 << 16, /* frames looked at again in one round */
  DESC_LINE = 64,
};

/* ---- memory for it ---- */

/* A tenth of a percent of what is pictured goes into the memmap and its copies, so a header that
 * lies can ask for a lot: at most a part of this machine's memory. */
static bool affordable(uint64_t nframes, uint64_t descriptors) {
  long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  uint64_t memory = (uint64_t)pages * (uint64_t)size;
  uint64_t each = 2 * 8 + 4 + 1 + sizeof(struct snapshot_frame) + sizeof(struct snapshot_run);
  return nframes <= memory / 2 / each && descriptors <= memory / 4;
}

void *reading_buffer(size_t size) {
  enum { HUGE = 2 << 20 };
  size = (size + HUGE) / HUGE * HUGE;
  void *p = aligned_alloc(HUGE, size);
  if (p != NULL) (void)madvise(p, size, MADV_HUGEPAGE);
  return p;
}

static enum snapshot_status allocate(struct reading *r) {
  size_t n = r->nframes, hugepages = r->nhugepages;
  if (!affordable(n, r->ndescriptors)) return SNAPSHOT_NO_MEMORY;
  r->words = reading_buffer(n * 8);
  r->words_before = reading_buffer(n * 8);
  r->hugepages = malloc(hugepages * r->header.hugepage_stride + 1);
  r->backing = calloc(n + 1, 4);
  r->descriptors = reading_buffer(r->ndescriptors);
  r->run_of = malloc(r->ndescriptors / DESC_LINE * 4 + 4);
  r->sure = calloc(n + 1, 1);
  bool ok = r->words != NULL && r->words_before != NULL && r->hugepages != NULL &&
            r->backing != NULL && r->descriptors != NULL && r->run_of != NULL && r->sure != NULL;
  return ok ? SNAPSHOT_OK : SNAPSHOT_NO_MEMORY;
}

static void release(struct reading *r) {
  free(r->words);
  free(r->words_before);
  free(r->hugepages);
  free(r->backing);
  free(r->descriptors);
  free(r->run_of);
  free(r->sure);
}

/* ---- reading ---- */

/* How much there is. The heap may have grown by the time it is read: what came later is left out.
 */
static enum snapshot_status read_extent(struct reading *r) {
  uint32_t opened = 0;
  uint64_t used = 0, backing = 0, backing_bytes = 0;
  const struct quire_peek *h = &r->header;
  const struct quire_peek_place *descriptors = &h->numbers[QUIRE_PEEK_DESCRIPTOR_BYTES];
  const struct quire_peek_place *table = &h->numbers[QUIRE_PEEK_BACKING_BYTES];
  if (descriptors->size != 8 || table->size != 8) return SNAPSHOT_GARBAGE;
  struct target_piece pieces[] = {{h->opened_address, &opened, 4},
                                  {descriptors->address, &used, 8},
                                  {h->backing_address, &backing, 8},
                                  {table->address, &backing_bytes, 8}};
  if (!r->target->read(r->target, pieces, 4)) return SNAPSHOT_UNREADABLE;
  /* The last frame's number is an index, and the one behind means none. */
  if (opened > h->nhugepages || (uint64_t)opened * HUGEPAGE_FRAMES > UINT32_MAX - 1)
    return SNAPSHOT_GARBAGE;
  r->nhugepages = opened;
  r->nframes = opened * HUGEPAGE_FRAMES;
  r->ndescriptors = used / DESC_LINE * DESC_LINE;
  r->backing_address = backing;
  r->nbacking = backing == 0 ? 0 : backing_bytes / 4;
  if (r->nbacking > r->nframes) r->nbacking = r->nframes;
  return SNAPSHOT_OK;
}

static enum snapshot_status read_all(struct reading *r) {
  const struct quire_peek *h = &r->header;
  struct target_piece pieces[] = {
      {h->memmap, r->words_before, (size_t)r->nframes * 8},
      {h->hugepages, r->hugepages, (size_t)r->nhugepages * h->hugepage_stride},
      {r->backing_address, r->backing, r->nbacking * 4},
      {h->descriptors, r->descriptors, r->ndescriptors},
      {h->memmap, r->words, (size_t)r->nframes * 8},
  };
  return r->target->read(r->target, pieces, 5) ? SNAPSHOT_OK : SNAPSHOT_UNREADABLE;
}

/* ---- looking again ---- */

/* Where the descriptor of a word is in the region, and how much of it there is to read at most;
 * false when there is none. */
static bool descriptor_of(const struct reading *r, uint64_t word, uint64_t *at, size_t *length) {
  *at = (word >> 16) - r->header.descriptors;
  if (!reading_has_owner(word) || *at % DESC_LINE != 0 || *at >= r->ndescriptors) return false;
  size_t most = (word & 0xf) == SNAPSHOT_SLAB ? DESC_LINE + NUMBERS_SLOTS_MAX / 8 : DESC_LINE;
  *length = r->ndescriptors - *at < most ? r->ndescriptors - *at : most;
  return true;
}

struct again {
  uint64_t before, after;
  uint64_t at; /* of the descriptor in the region */
  size_t length;
  char descriptor[DESC_LINE + NUMBERS_SLOTS_MAX / 8];
};

/* One call for some frames: word, descriptor and word of each, in this order. */
static bool look_again(struct reading *r, const uint32_t *frames, unsigned n) {
  static struct again looks[TRIPLES];
  struct target_piece pieces[3 * TRIPLES] = {0};
  for (unsigned i = 0; i < n; i++) {
    struct again *look = &looks[i];
    uint64_t word = r->header.memmap + (uint64_t)frames[i] * 8;
    if (!descriptor_of(r, r->words[frames[i]], &look->at, &look->length))
      look->at = look->length = 0;
    pieces[3 * i] = (struct target_piece){word, &look->before, 8};
    pieces[3 * i + 1] =
        (struct target_piece){r->header.descriptors + look->at, look->descriptor, look->length};
    pieces[3 * i + 2] = (struct target_piece){word, &look->after, 8};
  }
  if (!r->target->read(r->target, pieces, 3 * n)) return false;
  for (unsigned i = 0; i < n; i++) {
    struct again *look = &looks[i];
    uint64_t expected = r->words[frames[i]];
    r->words[frames[i]] = look->after;
    r->sure[frames[i]] = look->before == expected && look->after == expected;
    if (r->sure[frames[i]]) memcpy(r->descriptors + look->at, look->descriptor, look->length);
  }
  return true;
}

/* Frames that are not sure, in batches. */
static bool look_at_doubtful(struct reading *r) {
  uint32_t frames[TRIPLES];
  unsigned n = 0, looked = 0;
  for (uint32_t i = 0; i < r->nframes && looked < AGAIN_MAX; i++) {
    if (r->sure[i]) continue;
    frames[n++] = i;
    looked++;
    if (n == TRIPLES && !look_again(r, frames, n)) return false;
    n %= TRIPLES;
  }
  return n == 0 || look_again(r, frames, n);
}

/* Takes sureness from frames whose descriptor does not hold them; how many are not sure then.
 * Neighbours mostly have one owner, which is looked at once. */
static uint64_t doubt(struct reading *r) {
  struct reading_owner owner;
  uint64_t n = 0, known = 0;
  for (uint32_t i = 0; i < r->nframes; i++) {
    uint64_t word = r->words[i] & READING_OWNER_MASK;
    if (r->sure[i] && reading_has_owner(word) &&
        (word != known || i - owner.run.first >= owner.run.nframes)) {
      r->sure[i] = reading_owner(r, i, &owner);
      known = r->sure[i] ? word : 0;
    }
    n += !r->sure[i];
  }
  return n;
}

static enum snapshot_status settle(struct reading *r) {
  for (uint32_t i = 0; i < r->nframes; i++) r->sure[i] = r->words[i] == r->words_before[i];
  for (int round = 0; round < ROUNDS && doubt(r) != 0; round++)
    if (!look_at_doubtful(r)) return SNAPSHOT_UNREADABLE;
  (void)doubt(r);
  return SNAPSHOT_OK;
}

/* ---- the whole ---- */

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static enum snapshot_status read_heap(struct reading *r, struct snapshot *out) {
  enum snapshot_status status = read_extent(r);
  if (status == SNAPSHOT_OK) status = allocate(r);
  if (status == SNAPSHOT_OK) status = read_all(r);
  if (status == SNAPSHOT_OK) status = settle(r);
  if (status == SNAPSHOT_OK) status = reading_draw(r, out);
  release(r);
  return status;
}

enum snapshot_status snapshot_read(struct target *target, struct snapshot *out) {
  struct reading r = {.target = target};
  uint64_t began = now_us();
  memset(out, 0, sizeof *out);
  enum snapshot_status status = snapshot_header(target, &r.header);
  if (status == SNAPSHOT_OK) status = snapshot_stats(target, &r.header, &out->numbers);
  r.numbers = &out->numbers;
  if (status == SNAPSHOT_OK) status = read_heap(&r, out);
  if (status != SNAPSHOT_OK) snapshot_free(out);
  out->base = r.header.base;
  out->took_us = now_us() - began;
  return status;
}

void snapshot_free(struct snapshot *snapshot) {
  free(snapshot->frames);
  free(snapshot->hugepages);
  free(snapshot->runs);
  memset(snapshot, 0, sizeof *snapshot);
}

const char *snapshot_type_name(unsigned type) {
  static const char *const names[SNAPSHOT_TYPES] = {"none", "free",  "slab",   "folio",
                                                    "meta", "owned", "poison", "reserved"};
  return type < SNAPSHOT_TYPES ? names[type] : "unknown";
}

/* ---- is it one? ---- */

static bool sound_frame(const struct snapshot *s, const struct snapshot_frame *f) {
  return (f->run == SNAPSHOT_NO_RUN || f->run < s->nruns) && f->memory < s->nframes &&
         f->type < SNAPSHOT_TYPES && f->flags < 2 * SNAPSHOT_UNSURE;
}

static bool sound_run(const struct snapshot *s, const struct snapshot_run *run) {
  return run->nframes > 0 && run->first < s->nframes && run->nframes <= s->nframes - run->first &&
         run->nguard < run->nframes && run->type < SNAPSHOT_TYPES &&
         run->free_slots <= run->slots && run->blocked <= run->slots - run->free_slots &&
         run->slots <= NUMBERS_SLOTS_MAX;
}

static bool sound_hugepage(const struct snapshot_hugepage *hp) {
  const uint16_t counts[] = {hp->used,  hp->resident, hp->zero,   hp->guests,
                             hp->homes, hp->frozen,   hp->pinned, hp->holes};
  for (unsigned i = 0; i < sizeof counts / sizeof counts[0]; i++)
    if (counts[i] > HUGEPAGE_FRAMES) return false;
  return true;
}

static bool sound_texts(const struct snapshot *s) {
  const struct snapshot_process *p = &s->process;
  return memchr(p->comm, 0, sizeof p->comm) != NULL &&
         memchr(p->cmdline, 0, sizeof p->cmdline) != NULL &&
         memchr(s->numbers.library, 0, sizeof s->numbers.library) != NULL;
}

bool snapshot_sound(const struct snapshot *s) {
  if (s->nframes != (uint64_t)s->nhugepages * HUGEPAGE_FRAMES || s->nruns > s->nframes ||
      s->numbers.nclasses > SNAPSHOT_CLASSES || s->numbers.noptions > SNAPSHOT_OPTIONS ||
      !sound_texts(s))
    return false;
  for (uint32_t i = 0; i < s->nframes; i++)
    if (!sound_frame(s, &s->frames[i])) return false;
  for (uint32_t i = 0; i < s->nruns; i++)
    if (!sound_run(s, &s->runs[i])) return false;
  for (uint32_t i = 0; i < s->nhugepages; i++)
    if (!sound_hugepage(&s->hugepages[i])) return false;
  return true;
}
