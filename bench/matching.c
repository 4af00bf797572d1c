/*
 * What the best matching that we can compute would leave of a sparse heap: no allocator and no
 * kernel are involved, only bitmaps of the sizes of sparse_heap.c that lost a share of their slots
 * at random.
 *
 * A heap of equally many objects of each size is cut into runs of frames. Frames without a live
 * slot are discarded. Runs of one size whose bitmaps are disjoint may share their frames: one is
 * the host, each other a guest, and each guest costs mappings. Two matchers:
 *
 *   greedy  the fullest run first, each into the fullest host that it fits, all hosts looked at
 *   better  starts from that; takes some groups apart and packs them again in another order, keeps
 *           what is no worse, for as long as it is given. It looks for fewer hosts, so it is for
 *           runs of one frame and for as many guests as there may be
 *
 * With a limit on guests, those that save most are taken, and each size gets the run length that
 * serves best at the price that the limit sets. No limit, and one run length: what that reaches.
 *
 * usage: matching [-m MiB] [-r FRAMES] [-g GUESTS] [-t SECONDS] [-s SEED] PERCENT
 *        matching -b FILE [-t SECONDS]
 *
 *   -b  bitmaps of a real heap (bitmaps.c) instead: single frames, each with others of the same
 *       size in which slots begin at the same offsets, by what lives in them to 8 bytes. A slot
 *       that lies in two frames has a part in each. Slots that quire never meshes stay where they
 *       are
 *   -r  run length, 1 to 16; 0 for the best of 1, 2, 4, 8, 16 for each size
 *   -g  the most guests
 *   -t  for the better matcher; 0 for none
 *
 * Of the sizes of sparse_heap.c, slots that lie in two runs are left out, and so is what a heap has
 * in caches.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bitmaps.h"
#include "memory.h"
#include "sparse_heap.h"

enum { FRAME = 4096, RUN_MOST = 16, RUN_LENGTHS = 5, WORDS_MOST = RUN_MOST * FRAME / 16 / 64 };
enum { TAKEN_MOST = 6, MEMBERS_MOST = 512 };
#define NONE UINT32_MAX

static const unsigned run_length[RUN_LENGTHS] = {1, 2, 4, 8, 16};

struct run {
  uint16_t frames; /* those with a live slot */
  uint16_t count;  /* live slots */
  uint32_t next;   /* of the same group */
};

struct group {
  uint32_t first; /* run */
  uint16_t count, frames;
};

/* All runs of one size, and what they were packed into. */
struct packing {
  unsigned size, length, slots, words;
  size_t nruns, ngroups, live;
  struct run *run;
  uint64_t *bits; /* of runs */
  struct group *group;
  uint64_t *all;              /* of groups: the union of their runs' */
  size_t saved[RUN_MOST + 1]; /* guests, by the frames that each saves */
  size_t discarded;           /* frames that remain when empty ones are gone */
};

static struct rng rng;

static uint64_t *bits_of(const struct packing *p, size_t run) { return p->bits + run * p->words; }

static uint64_t *all_of(const struct packing *p, size_t group) { return p->all + group * p->words; }

static bool disjoint(const uint64_t *a, const uint64_t *b, unsigned words) {
  for (unsigned w = 0; w < words; w++)
    if (a[w] & b[w]) return false;
  return true;
}

static void *room(size_t count, size_t size) { return checked(calloc(count + 1, size)); }

static void populate(struct packing *p, unsigned size, unsigned length, size_t objects,
                     unsigned percent) {
  memset(p, 0, sizeof(*p));
  p->size = size;
  p->length = length;
  p->slots = length * FRAME / size;
  p->words = (p->slots + 63) / 64;
  p->nruns = objects / p->slots;
  p->run = room(p->nruns, sizeof(*p->run));
  p->bits = room(p->nruns * p->words, sizeof(*p->bits));
  p->group = room(p->nruns, sizeof(*p->group));
  p->all = room(p->nruns * p->words, sizeof(*p->all));
  for (size_t r = 0; r < p->nruns; r++) {
    for (unsigned s = 0; s < p->slots; s++) {
      if (rng_below(&rng, 1000) < percent * 10) continue;
      bits_of(p, r)[s / 64] |= 1ull << s % 64;
      p->run[r].count++;
      unsigned begin = s * size / FRAME, end = (s * size + size - 1) / FRAME;
      p->run[r].frames |= (uint16_t)(1u << begin | 1u << end);
    }
    p->live += (size_t)p->run[r].count * size;
    p->discarded += (size_t)__builtin_popcount(p->run[r].frames);
  }
}

static void release(struct packing *p) {
  free(p->run);
  free(p->bits);
  free(p->group);
  free(p->all);
}

static void join(struct packing *p, size_t group, uint32_t run) {
  struct group *g = &p->group[group];

  for (unsigned w = 0; w < p->words; w++) all_of(p, group)[w] |= bits_of(p, run)[w];
  g->count += p->run[run].count;
  g->frames |= p->run[run].frames;
  p->run[run].next = g->first;
  g->first = run;
}

static void begin_group(struct packing *p, size_t group, uint32_t run) {
  memset(all_of(p, group), 0, p->words * sizeof(uint64_t));
  p->group[group] = (struct group){.first = NONE};
  join(p, group, run);
}

/* ---- greedy ---- */

/* Groups by their count, as lists, so that the fullest that may fit is met first. */
static void greedy(struct packing *p) {
  uint32_t *with_count = room(p->slots + 1u, sizeof(*with_count));
  uint32_t *after = room(p->nruns, sizeof(*after));
  size_t *start = room(p->slots + 2u, sizeof(*start));
  uint32_t *sorted = room(p->nruns, sizeof(*sorted));

  for (unsigned c = 0; c <= p->slots; c++) with_count[c] = NONE;
  for (size_t r = 0; r < p->nruns; r++) start[p->slots - p->run[r].count + 1]++;
  for (unsigned c = 0; c <= p->slots; c++) start[c + 1] += start[c];
  for (size_t r = 0; r < p->nruns; r++) sorted[start[p->slots - p->run[r].count]++] = (uint32_t)r;

  for (size_t i = 0; i < p->nruns; i++) {
    uint32_t run = sorted[i], *link = NULL;
    unsigned count = p->run[run].count;
    bool found = false;

    if (count == 0) break;
    for (unsigned c = p->slots - count; c > 0 && !found; c--)
      for (link = &with_count[c]; *link != NONE; link = &after[*link])
        if ((found = disjoint(all_of(p, *link), bits_of(p, run), p->words))) break;
    uint32_t group = found ? *link : (uint32_t)p->ngroups;
    if (found) {
      unsigned more = (unsigned)__builtin_popcount(p->run[run].frames & ~p->group[group].frames);
      p->saved[(unsigned)__builtin_popcount(p->run[run].frames) - more]++;
      *link = after[group];
      join(p, group, run);
    } else {
      begin_group(p, p->ngroups++, run);
    }
    unsigned now = p->group[group].count;
    after[group] = with_count[now];
    with_count[now] = group;
  }
  free(with_count);
  free(after);
  free(start);
  free(sorted);
}

/* ---- better ---- */

static size_t frames_left(const struct packing *p) {
  size_t frames = 0;

  for (size_t g = 0; g < p->ngroups; g++) frames += (size_t)__builtin_popcount(p->group[g].frames);
  return frames;
}

/* The union bitmaps of what is being packed, beside the packing until it is known to be better. */
struct trial {
  uint64_t all[TAKEN_MOST][WORDS_MOST];
  unsigned count[TAKEN_MOST], ngroups;
  uint8_t group_of[MEMBERS_MOST];
};

/* Packs the members in their order, each into the fullest group of the trial that it fits; false
 * when that takes more groups than there were. */
static bool pack(const struct packing *p, const uint32_t *member, unsigned nmembers, unsigned most,
                 struct trial *trial) {
  trial->ngroups = 0;
  for (unsigned m = 0; m < nmembers; m++) {
    const uint64_t *bits = bits_of(p, member[m]);
    unsigned best = most;

    for (unsigned g = 0; g < trial->ngroups; g++)
      if ((best == most || trial->count[g] > trial->count[best]) &&
          disjoint(trial->all[g], bits, p->words))
        best = g;
    if (best == most) {
      if (trial->ngroups == most) return false;
      best = trial->ngroups++;
      trial->count[best] = 0;
      memset(trial->all[best], 0, p->words * sizeof(uint64_t));
    }
    for (unsigned w = 0; w < p->words; w++) trial->all[best][w] |= bits[w];
    trial->count[best] += p->run[member[m]].count;
    trial->group_of[m] = (uint8_t)best;
  }
  return true;
}

static void remove_group(struct packing *p, size_t group) {
  size_t last = --p->ngroups;

  if (group == last) return;
  p->group[group] = p->group[last];
  memcpy(all_of(p, group), all_of(p, last), p->words * sizeof(uint64_t));
}

/* Uneven groups are worth as much as the sum of squares says: the emptiest will go next. */
static void repack_some(struct packing *p) {
  uint32_t member[MEMBERS_MOST], taken[TAKEN_MOST];
  unsigned nmembers = 0, ntaken = 0, want = 2 + (unsigned)rng_below(&rng, TAKEN_MOST - 1);
  static struct trial trial;
  uint64_t squares = 0, now = 0;

  for (unsigned tries = 0; ntaken < want && tries < 4 * want; tries++) {
    uint32_t group = (uint32_t)rng_below(&rng, p->ngroups);
    uint32_t other = (uint32_t)rng_below(&rng, p->ngroups);
    unsigned before = nmembers;
    bool known = false;

    if (ntaken == 0 && p->group[other].count < p->group[group].count) group = other;
    for (unsigned t = 0; t < ntaken; t++) known |= taken[t] == group;
    if (known) continue;
    uint32_t run = p->group[group].first;
    for (; run != NONE && nmembers < MEMBERS_MOST; run = p->run[run].next) member[nmembers++] = run;
    if (run != NONE) { /* too many for one trial */
      nmembers = before;
      continue;
    }
    taken[ntaken++] = group;
    squares += (uint64_t)p->group[group].count * p->group[group].count;
  }
  if (ntaken < 2) return;
  for (unsigned m = nmembers; m-- > 1;) {
    unsigned other = (unsigned)rng_below(&rng, m + 1);
    uint32_t swap = member[m];
    member[m] = member[other];
    member[other] = swap;
  }
  if (!pack(p, member, nmembers, ntaken, &trial)) return;
  for (unsigned g = 0; g < trial.ngroups; g++) now += (uint64_t)trial.count[g] * trial.count[g];
  if (trial.ngroups == ntaken && now < squares) return;

  for (unsigned g = 0; g < trial.ngroups; g++) {
    p->group[taken[g]] = (struct group){.first = NONE};
    memset(all_of(p, taken[g]), 0, p->words * sizeof(uint64_t));
  }
  for (unsigned m = 0; m < nmembers; m++) join(p, taken[trial.group_of[m]], member[m]);
  /* From the highest on, since removing moves the last into the gap. */
  for (unsigned g = trial.ngroups; g < ntaken; g++)
    for (unsigned h = g + 1; h < ntaken; h++)
      if (taken[h] > taken[g]) {
        uint32_t swap = taken[g];
        taken[g] = taken[h];
        taken[h] = swap;
      }
  for (unsigned g = trial.ngroups; g < ntaken; g++) remove_group(p, taken[g]);
}

static void improve(struct packing *p, double seconds) {
  uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);

  while (now_ns() < end)
    for (int i = 0; i < 256 && p->ngroups > 1; i++) repack_some(p);
}

/* ---- a limit on guests ---- */

/* What one size wins by a run length when each guest has that price, in frames. */
static double worth(const struct packing *p, const struct packing *shortest, double price,
                    size_t *guests) {
  double sum = (double)shortest->discarded - (double)p->discarded;

  *guests = 0;
  for (unsigned saved = 1; saved <= RUN_MOST; saved++) {
    if (saved <= price) continue;
    sum += (double)p->saved[saved] * (saved - price);
    *guests += p->saved[saved];
  }
  return sum;
}

/* The best run length of each size at this price; returns the guests that it takes. */
static size_t choose(struct packing (*p)[RUN_LENGTHS], unsigned lengths, double price,
                     unsigned *chosen) {
  size_t sum = 0;

  for (unsigned c = 0; c < SPARSE_SIZES; c++) {
    double best = -1e300;
    size_t taken = 0;
    for (unsigned l = 0; l < lengths; l++) {
      size_t guests;
      double value = worth(&p[c][l], &p[c][0], price, &guests);
      if (value <= best) continue;
      best = value;
      chosen[c] = l;
      taken = guests;
    }
    sum += taken;
  }
  return sum;
}

/* Takes `limit` guests, those that save most first; returns the frames that they save. */
static size_t spend(struct packing (*p)[RUN_LENGTHS], const unsigned *chosen, size_t limit,
                    size_t *guests) {
  size_t frames = 0;

  *guests = 0;
  for (unsigned saved = RUN_MOST; saved > 0; saved--)
    for (unsigned c = 0; c < SPARSE_SIZES; c++) {
      size_t take = p[c][chosen[c]].saved[saved];
      if (take > limit - *guests) take = limit - *guests;
      *guests += take;
      frames += take * saved;
    }
  return frames;
}

/* ---- bitmaps of a real heap ---- */

/* Frames alike: of one size, with slots that begin at the same offsets. MESHED_MOST:
 * COMPACT_SLOT_MAX of page/compact.h. */
enum { UNIT = 8, UNITS = FRAME / UNIT, KINDS_MOST = 1024, MESHED_MOST = 3584 };

struct measured {
  struct slab_bitmap *slab; /* each followed by its words */
  size_t bytes;
};

static struct slab_bitmap *next_slab(struct slab_bitmap *s) {
  return (struct slab_bitmap *)((char *)(s + 1) + (s->slots + 63) / 64 * 8);
}

static bool read_measured(const char *path, struct measured *out) {
  FILE *f = fopen(path, "rb");
  size_t most = 1 << 20;

  if (f == NULL) return perror(path), false;
  out->slab = checked(malloc(most));
  out->bytes = 0;
  for (size_t n; (n = fread((char *)out->slab + out->bytes, 1, most - out->bytes, f)) > 0;) {
    out->bytes += n;
    if (out->bytes == most) out->slab = checked(realloc(out->slab, most *= 2));
  }
  fclose(f);
  char *end = (char *)out->slab + out->bytes;
  for (struct slab_bitmap *s = out->slab; (char *)s < end; s = next_slab(s))
    if ((char *)(s + 1) > end || s->size == 0 || s->slots == 0 || (char *)next_slab(s) > end ||
        (uint64_t)s->size * s->slots > (uint64_t)s->frames * FRAME)
      return fprintf(stderr, "%s: not bitmaps\n", path), false;
  return true;
}

static bool is_taken(const struct slab_bitmap *s, unsigned slot) {
  const uint64_t *words = (const uint64_t *)(const void *)(s + 1);
  return words[slot / 64] >> slot % 64 & 1;
}

/* What lives in a frame of a slab, a bit for each unit. Bytes. */
static size_t look_at_frame(const struct slab_bitmap *s, unsigned frame, uint64_t *bits) {
  size_t begin = (size_t)frame * FRAME, end = begin + FRAME, live = 0;

  memset(bits, 0, UNITS / 8);
  for (size_t slot = begin / s->size; slot < s->slots && slot * s->size < end; slot++) {
    if (!is_taken(s, (unsigned)slot)) continue;
    size_t from = slot * s->size > begin ? slot * s->size : begin;
    size_t to = (slot + 1) * s->size < end ? (slot + 1) * s->size : end;
    live += to - from;
    for (size_t u = (from - begin) / UNIT; u < (to - begin + UNIT - 1) / UNIT; u++)
      bits[u / 64] |= 1ull << u % 64;
  }
  return live;
}

static uint32_t offset_of(const struct slab_bitmap *s, unsigned frame) {
  return (uint32_t)((size_t)frame * FRAME % s->size);
}

struct kind {
  uint32_t size, offset;
  size_t nframes;
  struct packing packing;
};

static struct kind kinds[KINDS_MOST];
static size_t nkinds;

static struct kind *kind_of(const struct slab_bitmap *s, unsigned frame) {
  size_t i = 0;
  while (i < nkinds && (kinds[i].size != s->size || kinds[i].offset != offset_of(s, frame))) i++;
  if (i == KINDS_MOST) return NULL;
  if (i == nkinds) kinds[nkinds++] = (struct kind){.size = s->size, .offset = offset_of(s, frame)};
  return &kinds[i];
}

static void add_frame(struct packing *p, const uint64_t *bits, size_t live) {
  size_t r = p->nruns++;
  memcpy(bits_of(p, r), bits, UNITS / 8);
  for (unsigned w = 0; w < UNITS / 64; w++)
    p->run[r].count += (uint16_t)__builtin_popcountll(bits[w]);
  p->run[r].frames = 1;
  p->live += live;
  p->discarded++;
}

/* All frames in which something lives: those of slots that are meshed by their kind, the others
 * counted. False when there are too many kinds. */
static bool sort_frames(const struct measured *m, size_t *large, size_t *large_live) {
  char *end = (char *)m->slab + m->bytes;
  uint64_t bits[UNITS / 64];

  for (int pass = 0; pass < 2; pass++) {
    for (struct slab_bitmap *s = m->slab; (char *)s < end; s = next_slab(s))
      for (unsigned frame = 0; frame < s->frames; frame++) {
        size_t live = look_at_frame(s, frame, bits);
        if (live == 0) continue;
        if (s->size > MESHED_MOST) {
          if (pass == 0) {
            (*large)++;
            *large_live += live;
          }
          continue;
        }
        struct kind *kind = kind_of(s, frame);
        if (kind == NULL) return false;
        if (pass == 0)
          kind->nframes++;
        else
          add_frame(&kind->packing, bits, live);
      }
    for (size_t i = 0; pass == 0 && i < nkinds; i++) {
      size_t n = kinds[i].nframes;
      kinds[i].packing = (struct packing){.size = UNIT,
                                          .length = 1,
                                          .slots = UNITS,
                                          .words = UNITS / 64,
                                          .run = room(n, sizeof(struct run)),
                                          .bits = room(n, UNITS / 8),
                                          .group = room(n, sizeof(struct group)),
                                          .all = room(n, UNITS / 8)};
    }
  }
  return true;
}

static size_t frames_to_hold(size_t bytes) { return (bytes + FRAME - 1) / FRAME; }

/* In frames: all that the slabs have, without the empty ones, and by each matcher. */
static int match_measured(const char *path, double seconds) {
  struct measured m;
  size_t all = 0, live = 0, large = 0, discard, by_greedy, better, sum_of_gaps = 0;
  size_t gaps[KINDS_MOST] = {0};

  if (!read_measured(path, &m)) return 1;
  char *end = (char *)m.slab + m.bytes;
  for (struct slab_bitmap *s = m.slab; (char *)s < end; s = next_slab(s)) all += s->frames;
  if (!sort_frames(&m, &large, &live))
    return fprintf(stderr, "%s: more than %d kinds of frames\n", path, KINDS_MOST), 1;
  discard = by_greedy = better = large;
  for (size_t i = 0; i < nkinds; i++) {
    struct packing *p = &kinds[i].packing;
    greedy(p);
    size_t least = frames_to_hold(p->live), now = frames_left(p);
    live += p->live;
    discard += p->discarded;
    by_greedy += now;
    gaps[i] = now > least && p->ngroups > 1 ? now - least : 0;
    sum_of_gaps += gaps[i];
  }
  /* Time where there is something to be found. */
  for (size_t i = 0; i < nkinds; i++) {
    struct packing *p = &kinds[i].packing;
    if (seconds > 0 && gaps[i] > 0) improve(p, seconds * (double)gaps[i] / (double)sum_of_gaps);
    better += frames_left(p);
    release(p);
  }
  free(m.slab);
  printf("{\"frames\": %zu, \"live\": %zu, \"discard\": %zu, \"greedy\": %zu, \"better\": %zu, "
         "\"bound\": %zu, \"large\": %zu}\n",
         all, live, discard, by_greedy, better, frames_to_hold(live), large);
  return 0;
}

int main(int argc, char **argv) {
  const char *measured = NULL;
  static struct packing packing[SPARSE_SIZES][RUN_LENGTHS];
  size_t mib = 1024, limit = SIZE_MAX, fixed = 0, seed = 3, objects = 0;
  double seconds = 0;
  int option;

  while ((option = getopt(argc, argv, "b:m:r:g:t:s:")) != -1) {
    if (option == '?') return 2;
    if (option == 'b') measured = optarg;
    if (option == 'm') mib = strtoul(optarg, NULL, 10);
    if (option == 'r') fixed = strtoul(optarg, NULL, 10);
    if (option == 'g') limit = strtoul(optarg, NULL, 10);
    if (option == 't') seconds = strtod(optarg, NULL);
    if (option == 's') seed = strtoul(optarg, NULL, 10);
  }
  if (measured != NULL && optind == argc) return match_measured(measured, seconds);
  if (optind != argc - 1 || fixed > RUN_MOST || mib == 0) {
    fputs("usage: matching [-m MiB] [-r FRAMES] [-g GUESTS] [-t SECONDS] [-s SEED] PERCENT\n"
          "       matching -b FILE [-t SECONDS]\n",
          stderr);
    return 2;
  }
  if (seconds > 0 && (fixed != 1 || limit != SIZE_MAX)) {
    fputs("matching: the better matcher is for -r 1 and without -g\n", stderr);
    return 2;
  }
  unsigned percent = (unsigned)strtoul(argv[optind], NULL, 10);
  unsigned lengths = fixed != 0 ? 1 : RUN_LENGTHS, chosen[SPARSE_SIZES] = {0};
  rng = rng_seed(seed);
  for (unsigned c = 0; c < SPARSE_SIZES; c++) objects += sparse_size[c];
  objects = (mib << 20) / objects;

  size_t live = 0, before = 0, all = 0, bound = 0, unlimited = 0, better = 0;
  for (unsigned c = 0; c < SPARSE_SIZES; c++)
    for (unsigned l = 0; l < lengths; l++) {
      struct packing *p = &packing[c][l];
      populate(p, sparse_size[c], fixed != 0 ? (unsigned)fixed : run_length[l], objects, percent);
      greedy(p);
      if (l == 0) {
        live += p->live;
        all += p->nruns * p->length;
        before += p->discarded;
        bound += (p->live / p->size + p->slots - 1) / p->slots * p->length;
        unlimited += frames_left(p);
      }
      if (seconds > 0) {
        improve(p, seconds * sparse_size[c] / 5320.0);
        better += frames_left(p);
      }
      release(p);
    }

  /* The lowest price at which the limit is kept; what is left of the limit then goes to guests that
   * are worth exactly the price. */
  double low = 0, high = RUN_MOST;
  if (choose(packing, lengths, 0, chosen) > limit) {
    for (int i = 0; i < 50; i++) {
      double middle = (low + high) / 2;
      if (choose(packing, lengths, middle, chosen) > limit)
        low = middle;
      else
        high = middle;
    }
    choose(packing, lengths, high, chosen);
  }
  size_t guests, left = 0;
  for (unsigned c = 0; c < SPARSE_SIZES; c++) left += packing[c][chosen[c]].discarded;
  left -= spend(packing, chosen, limit, &guests);

  const double unit = (double)FRAME / (double)live;
  printf("{\"percent\": %u, \"live\": %zu, \"was\": %.4f, \"discard\": %.4f, \"greedy\": %.4f, "
         "\"guests\": %zu, \"bound\": %.4f",
         percent, live, (double)all * unit, (double)before * unit, (double)left * unit, guests,
         (double)bound * unit);
  if (fixed != 0 && limit == SIZE_MAX && unlimited != left)
    return fprintf(stderr, "matching: %zu frames by groups, %zu by guests\n", unlimited, left), 1;
  if (seconds > 0) printf(", \"better\": %.4f", (double)better * unit);
  puts("}");
  return 0;
}
