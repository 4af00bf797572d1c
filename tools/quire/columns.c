/* A snapshot as columns of bytes, and what differs from one to the next.
 *
 * In this order, little-endian, for n frames, h = n / 512 hugepages and m runs:
 *
 *   n x u8   type, then size class, occupancy, fill, each for all frames
 *   n x u16  flags, then guests
 *   n x u32  memory: the frame that has its memory, less its own number
 *   n x u32  run: 0 for none; else 1 + the zigzag of its index less that of the frame before that
 *            has one (0 before there is one)
 *   h x 20   struct snapshot_hugepage
 *   m x 40   struct snapshot_run, but `first` less that of the run before
 *            struct snapshot_numbers
 *
 * So neighbours look alike, and a run that comes or goes changes only itself: zlib finds little in
 * what differs. A delta is the exclusive or of each column with that of the snapshot before, as far
 * as that goes; of a run, of all but `first` with the run before that began at the same frame. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/quire/recording.h"

enum { HUGEPAGE_FRAMES = 512, RUN_BYTES = 40, RUN_FIRST = 4, FRAME_BYTES = 16 };

_Static_assert(sizeof(struct snapshot_run) == RUN_BYTES, "the format says 40");
_Static_assert(sizeof(struct snapshot_hugepage) == 20, "the format says 20");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are written as they are");

/* Where each column begins. */
struct places {
  uint64_t flags, guests, memory, run, hugepages, runs, numbers, size;
};

static struct places places_of(uint32_t nframes, uint32_t nruns) {
  struct places p;
  uint64_t n = nframes;
  p.flags = 4 * n;
  p.guests = p.flags + 2 * n;
  p.memory = p.guests + 2 * n;
  p.run = p.memory + 4 * n;
  p.hugepages = p.run + 4 * n;
  p.runs = p.hugepages + n / HUGEPAGE_FRAMES * sizeof(struct snapshot_hugepage);
  p.numbers = p.runs + (uint64_t)nruns * RUN_BYTES;
  p.size = p.numbers + sizeof(struct snapshot_numbers);
  return p;
}

uint64_t columns_size(uint32_t nframes, uint32_t nruns) {
  if (nframes % HUGEPAGE_FRAMES != 0 || nruns > nframes) return 0;
  return places_of(nframes, nruns).size;
}

bool columns_reserve(struct columns *c, uint64_t size) {
  if (size <= c->capacity) return true;
  uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  if (size > memory / 4) return false;
  uint8_t *bytes = realloc(c->bytes, size);
  if (bytes == NULL) return false;
  c->bytes = bytes;
  c->capacity = size;
  return true;
}

void columns_free(struct columns *c) {
  free(c->bytes);
  free(c->run_at);
  memset(c, 0, sizeof *c);
}

/* ---- numbers of 16 and 32 bits at any place ---- */

static void put16(uint8_t *at, uint64_t index, uint16_t value) {
  memcpy(at + index * 2, &value, 2);
}
static void put32(uint8_t *at, uint64_t index, uint32_t value) {
  memcpy(at + index * 4, &value, 4);
}
static uint16_t get16(const uint8_t *at, uint64_t index) {
  uint16_t value;
  memcpy(&value, at + index * 2, 2);
  return value;
}
static uint32_t get32(const uint8_t *at, uint64_t index) {
  uint32_t value;
  memcpy(&value, at + index * 4, 4);
  return value;
}

static uint32_t zigzag(uint32_t difference) {
  return difference << 1 ^ (uint32_t)((int32_t)difference >> 31);
}
static uint32_t unzigzag(uint32_t coded) { return coded >> 1 ^ -(coded & 1); }

/* ---- from a snapshot ---- */

static void frames_from(const struct snapshot *s, const struct places *p, uint8_t *out) {
  uint64_t n = s->nframes;
  uint32_t before = 0;
  for (uint32_t i = 0; i < n; i++) {
    const struct snapshot_frame *f = &s->frames[i];
    out[i] = f->type;
    out[n + i] = f->size_class;
    out[2 * n + i] = f->occupancy;
    out[3 * n + i] = f->fill;
    put16(out + p->flags, i, f->flags);
    put16(out + p->guests, i, f->guests);
    put32(out + p->memory, i, f->memory - i);
    put32(out + p->run, i, f->run == SNAPSHOT_NO_RUN ? 0 : 1 + zigzag(f->run - before));
    if (f->run != SNAPSHOT_NO_RUN) before = f->run;
  }
}

bool columns_index(struct columns *c) {
  const uint8_t *runs = c->bytes + places_of(c->nframes, c->nruns).runs;
  uint32_t *run_at = realloc(c->run_at, (size_t)c->nframes * 4 + 4);
  uint32_t first = 0;
  if (run_at == NULL) return false;
  c->run_at = run_at;
  memset(run_at, 0xff, (size_t)c->nframes * 4);
  for (uint32_t i = 0; i < c->nruns; i++) {
    first += get32(runs + (size_t)i * RUN_BYTES, 0);
    if (first < c->nframes) run_at[first] = i;
  }
  return true;
}

bool columns_from(const struct snapshot *s, struct columns *out) {
  struct places p = places_of(s->nframes, s->nruns);
  if (!columns_reserve(out, p.size)) return false;
  out->nframes = s->nframes;
  out->nruns = s->nruns;
  out->size = p.size;
  frames_from(s, &p, out->bytes);
  memcpy(out->bytes + p.hugepages, s->hugepages, p.runs - p.hugepages);
  memcpy(out->bytes + p.runs, s->runs, p.numbers - p.runs);
  memcpy(out->bytes + p.numbers, &s->numbers, sizeof s->numbers);
  for (uint32_t i = s->nruns; i-- > 1;)
    put32(out->bytes + p.runs + (size_t)i * RUN_BYTES, 0, s->runs[i].first - s->runs[i - 1].first);
  return columns_index(out);
}

/* ---- to a snapshot ---- */

static void frames_to(const uint8_t *in, const struct places *p, struct snapshot *out) {
  uint64_t n = out->nframes;
  uint32_t before = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t run = get32(in + p->run, i);
    if (run != 0) before += unzigzag(run - 1);
    out->frames[i] = (struct snapshot_frame){
        .run = run == 0 ? SNAPSHOT_NO_RUN : before,
        .memory = get32(in + p->memory, i) + i,
        .type = in[i],
        .size_class = in[n + i],
        .occupancy = in[2 * n + i],
        .fill = in[3 * n + i],
        .flags = get16(in + p->flags, i),
        .guests = get16(in + p->guests, i),
    };
  }
}

bool columns_to(const struct columns *c, struct snapshot *out) {
  struct places p = places_of(c->nframes, c->nruns);
  memset(out, 0, sizeof *out);
  out->nframes = c->nframes;
  out->nruns = c->nruns;
  out->nhugepages = c->nframes / HUGEPAGE_FRAMES;
  out->frames = malloc((size_t)c->nframes * sizeof *out->frames + 1);
  out->hugepages = malloc(p.runs - p.hugepages + 1);
  out->runs = malloc(p.numbers - p.runs + 1);
  bool ok = out->frames != NULL && out->hugepages != NULL && out->runs != NULL;
  if (ok) {
    frames_to(c->bytes, &p, out);
    memcpy(out->hugepages, c->bytes + p.hugepages, p.runs - p.hugepages);
    memcpy(out->runs, c->bytes + p.runs, p.numbers - p.runs);
    memcpy(&out->numbers, c->bytes + p.numbers, sizeof out->numbers);
    for (uint32_t i = 1; i < c->nruns; i++) out->runs[i].first += out->runs[i - 1].first;
    ok = snapshot_sound(out);
  }
  if (!ok) snapshot_free(out);
  return ok;
}

/* ---- differences ---- */

/* Of n bytes of a column whose predecessor has m. */
static void mix(uint8_t *bytes, const uint8_t *before, uint64_t n, uint64_t m) {
  for (uint64_t i = 0; i < n && i < m; i++) bytes[i] ^= before[i];
}

/* `first` of each run must be a difference (not mixed) in c. */
static void mix_runs(uint8_t *runs, uint32_t nruns, const struct columns *before) {
  const uint8_t *old = before->bytes + places_of(before->nframes, before->nruns).runs;
  uint32_t first = 0;
  for (uint32_t i = 0; i < nruns; i++) {
    uint8_t *run = runs + (size_t)i * RUN_BYTES;
    first += get32(run, 0);
    if (first >= before->nframes || before->run_at[first] == SNAPSHOT_NO_RUN) continue;
    const uint8_t *same = old + (size_t)before->run_at[first] * RUN_BYTES;
    mix(run + RUN_FIRST, same + RUN_FIRST, RUN_BYTES - RUN_FIRST, RUN_BYTES - RUN_FIRST);
  }
}

void columns_mix(struct columns *c, const struct columns *before) {
  struct places p = places_of(c->nframes, c->nruns);
  struct places q = places_of(before->nframes, before->nruns);
  uint64_t n = c->nframes, m = before->nframes;
  for (unsigned i = 0; i < 4; i++) mix(c->bytes + i * n, before->bytes + i * m, n, m);
  mix(c->bytes + p.flags, before->bytes + q.flags, 2 * n, 2 * m);
  mix(c->bytes + p.guests, before->bytes + q.guests, 2 * n, 2 * m);
  mix(c->bytes + p.memory, before->bytes + q.memory, 4 * n, 4 * m);
  mix(c->bytes + p.run, before->bytes + q.run, 4 * n, 4 * m);
  mix(c->bytes + p.hugepages, before->bytes + q.hugepages, p.runs - p.hugepages,
      q.runs - q.hugepages);
  mix(c->bytes + p.numbers, before->bytes + q.numbers, p.size - p.numbers, q.size - q.numbers);
  mix_runs(c->bytes + p.runs, c->nruns, before);
}
