/* Reads targets as the quire command does, with its objects.
 *
 *   reader equals PID FILE      a snapshot and the numbers of a stopped target are what FILE says
 *   reader live PID ROUNDS      snapshots of a target at work are sound, and plausible
 *   reader fuzz PID ROUNDS      garbage makes errors or sound snapshots, nothing worse
 *   reader fast PID             how long a snapshot took, and of how many frames (no verdict)
 *
 * Exits 0 when all is well, 1 with a line that says what is not. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc/stats.h"
#include "tools/quire/process.h"

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  putchar('\n');
  exit(1);
}

static void open_process(struct process *p, const char *pid) {
  char error[PROCESS_ERROR_MAX];
  if (process_open(p, (pid_t)atoi(pid), error) != STATUS_OK) fail("%s", error);
}

/* ---- equals ---- */

static bool number_in(const char *path, const char *name, uint64_t *out) {
  char line[256], found[64];
  unsigned long long value;
  bool seen = false;
  FILE *f = fopen(path, "r");
  if (f == NULL) fail("%s: %s", path, strerror(errno));
  while (!seen && fgets(line, sizeof line, f) != NULL)
    seen = sscanf(line, " %63s %llu", found, &value) == 2 && strcmp(found, name) == 0;
  fclose(f);
  *out = value;
  return seen;
}

static void expect(const char *path, const char *name, uint64_t value) {
  uint64_t said;
  if (!number_in(path, name, &said)) fail("the target says nothing of %s", name);
  if (said != value)
    fail("%s: %llu here, the target says %llu", name, (unsigned long long)value,
         (unsigned long long)said);
}

static unsigned compare_numbers(const struct snapshot *s, const char *path) {
  const struct stats_field *f;
  unsigned n = 0;
  for (; (f = stats_field(n)) != NULL; n++)
    expect(path, f->name, *(const uint64_t *)((const char *)&s->numbers.stats + f->offset));
  return n;
}

struct counted {
  uint64_t slabs, folios, slab_frames, folio_frames, slots, free_slots, resident;
  uint64_t used, dirty, holes, guests, homes, frozen, pinned, object_bytes;
};

static void count(const struct snapshot *s, struct counted *c) {
  memset(c, 0, sizeof *c);
  for (uint32_t i = 0; i < s->nframes; i++) {
    const struct snapshot_frame *f = &s->frames[i];
    bool used = f->flags & SNAPSHOT_USED, resident = f->flags & SNAPSHOT_RESIDENT;
    c->used += used;
    c->resident += resident;
    c->dirty += resident && !used;
    c->holes += (f->flags & SNAPSHOT_HOLE) != 0;
    c->guests += (f->flags & SNAPSHOT_GUEST) != 0;
    c->homes += (f->flags & SNAPSHOT_HOME) != 0;
    c->frozen += (f->flags & SNAPSHOT_FROZEN) != 0;
    c->pinned += (f->flags & SNAPSHOT_PINNED) != 0;
    c->slab_frames += f->type == SNAPSHOT_SLAB;
    c->folio_frames += f->type == SNAPSHOT_FOLIO;
  }
  for (uint32_t i = 0; i < s->nruns; i++) {
    const struct snapshot_run *run = &s->runs[i];
    c->slabs += run->type == SNAPSHOT_SLAB;
    c->folios += run->type == SNAPSHOT_FOLIO;
    c->slots += run->slots;
    c->free_slots += run->free_slots;
    if (run->type == SNAPSHOT_SLAB) c->object_bytes += run->object_size * run->free_slots;
  }
}

static void equals(struct process *p, const char *path) {
  struct snapshot s;
  struct counted c;
  char error[PROCESS_ERROR_MAX];
  if (process_snapshot(p, &s, error) != STATUS_OK) fail("%s", error);
  if (!snapshot_sound(&s)) fail("the snapshot is not sound");
  if (s.nunsure != 0) fail("%llu frames are unsure", (unsigned long long)s.nunsure);
  unsigned n = compare_numbers(&s, path);
  count(&s, &c);
  expect(path, "walk_slabs", c.slabs);
  expect(path, "walk_folios", c.folios);
  expect(path, "walk_slab_frames", c.slab_frames);
  expect(path, "walk_folio_frames", c.folio_frames);
  expect(path, "walk_slots", c.slots);
  expect(path, "walk_free_slots", c.free_slots);
  expect(path, "walk_resident", c.resident);
  expect(path, "frames_used", c.used);
  expect(path, "frames_dirty", c.dirty);
  expect(path, "frames_opened", s.nframes);
  expect(path, "hollow", c.holes);
  expect(path, "guests", c.guests);
  expect(path, "zone", c.homes);
  expect(path, "frozen", c.frozen);
  if (c.slabs == 0 || c.folios == 0) fail("there is nothing in the heap");
  printf("%u numbers and 15 counts are the same\n", n);
  snapshot_free(&s);
}

/* ---- live ---- */

/* What can't be, whatever the moment. */
static void check_plausible(const struct snapshot *s) {
  uint64_t blocked = 0;
  for (uint32_t i = 0; i < s->nframes; i++) {
    const struct snapshot_frame *f = &s->frames[i];
    if (f->flags & SNAPSHOT_UNSURE || f->run == SNAPSHOT_NO_RUN) continue;
    const struct snapshot_run *run = &s->runs[f->run];
    if (f->type != run->type || i - run->first >= run->nframes)
      fail("frame %u is not of its run", i);
    if (f->type == SNAPSHOT_SLAB && f->size_class != run->size_class)
      fail("frame %u is of class %u in a slab of %u", i, f->size_class, run->size_class);
  }
  for (uint32_t i = 0; i < s->nruns; i++) blocked += s->runs[i].blocked;
  if (blocked > 0 && s->numbers.stats.zone == 0) fail("guests without hosts");
}

static void live(struct process *p, int rounds) {
  struct snapshot s;
  char error[PROCESS_ERROR_MAX];
  uint64_t frames = 0, unsure = 0, changes = 0, last = 0;
  for (int i = 0; i < rounds; i++) {
    if (process_snapshot(p, &s, error) != STATUS_OK) fail("%s", error);
    if (!snapshot_sound(&s)) fail("round %d: the snapshot is not sound", i);
    check_plausible(&s);
    frames += s.nframes;
    unsure += s.nunsure;
    changes += s.numbers.stats.frames_used != last;
    last = s.numbers.stats.frames_used;
    snapshot_free(&s);
  }
  if (unsure * 50 > frames)
    fail("%llu of %llu frames are unsure", (unsigned long long)unsure, (unsigned long long)frames);
  if (changes < 2) fail("the target does nothing");
  printf("%d snapshots, %llu of %llu frames unsure\n", rounds, (unsigned long long)unsure,
         (unsigned long long)frames);
}

/* ---- fuzz ---- */

/* What a target reads, and then not quite. */
struct liar {
  struct target target;
  struct target *truth;
  uint32_t random;
  unsigned rate; /* one piece in so many is spoiled */
};

static uint32_t next(struct liar *l) {
  l->random = l->random * 1664525 + 1013904223;
  return l->random >> 8;
}

static void spoil(struct liar *l, char *bytes, size_t n) {
  static const uint64_t favourites[] = {
      0, 1, 63, 64, 511, 512, 1024, 0xffff, 0x7fffffff, 0xffffffff, UINT64_MAX, (uint64_t)1 << 47};
  unsigned times = 1 + next(l) % 8;
  while (times-- > 0) {
    size_t at = next(l) % n;
    uint64_t value = favourites[next(l) % (sizeof favourites / sizeof favourites[0])];
    size_t length = n - at < 8 ? n - at : 1u << next(l) % 4;
    switch (next(l) % 4) {
    case 0:
      bytes[at] ^= (char)(1 << next(l) % 8);
      break;
    case 1:
      memcpy(bytes + at, &value, length);
      break;
    case 2: /* from elsewhere in the same piece */
      length = n - at < 64 ? n - at : 64;
      memmove(bytes + at, bytes + next(l) % (n - length + 1), length);
      break;
    default:
      for (size_t i = at; i < n && i < at + 256; i++) bytes[i] = (char)next(l);
    }
  }
}

static bool lie(struct target *target, const struct target_piece *pieces, unsigned n) {
  struct liar *l = (struct liar *)target;
  if (next(l) % (8 * l->rate) == 0) {
    errno = EFAULT;
    return false;
  }
  bool ok = l->truth->read(l->truth, pieces, n);
  /* What a lie led to is nowhere: anything may be read there as well. */
  if (!ok && next(l) % 2 == 0) return false;
  for (unsigned i = 0; i < n; i++) {
    if (pieces[i].size == 0) continue;
    if (!ok) memset(pieces[i].buffer, (int)next(l), pieces[i].size);
    if (!ok || next(l) % l->rate == 0) spoil(l, pieces[i].buffer, pieces[i].size);
  }
  return true;
}

static void fuzz(struct process *p, int rounds) {
  unsigned outcomes[8] = {0};
  for (int i = 0; i < rounds; i++) {
    struct liar l = {{lie, p->target.header}, &p->target, (uint32_t)i * 2654435761u, 0};
    struct snapshot s;
    l.rate = 1u << i % 8;
    enum snapshot_status status = snapshot_read(&l.target, &s);
    if ((unsigned)status >= 8) fail("round %d: status %d", i, (int)status);
    outcomes[status]++;
    if (status != SNAPSHOT_OK) continue;
    if (!snapshot_sound(&s)) fail("round %d: the snapshot is not sound", i);
    snapshot_free(&s);
  }
  printf("%d corrupted targets: %u snapshots, %u unreadable, %u garbage, %u of other versions, "
         "%u not ready, %u too large\n",
         rounds, outcomes[SNAPSHOT_OK], outcomes[SNAPSHOT_UNREADABLE], outcomes[SNAPSHOT_GARBAGE],
         outcomes[SNAPSHOT_VERSION], outcomes[SNAPSHOT_NOT_READY], outcomes[SNAPSHOT_NO_MEMORY]);
  if (outcomes[SNAPSHOT_OK] == 0 || outcomes[SNAPSHOT_GARBAGE] == 0)
    fail("the fuzzer reaches too little");
}

static void fast(struct process *p) {
  char error[PROCESS_ERROR_MAX];
  struct snapshot s;
  uint64_t best = UINT64_MAX, frames = 0;
  for (int i = 0; i < 10; i++) {
    if (process_snapshot(p, &s, error) != STATUS_OK) fail("%s", error);
    if (s.took_us < best) best = s.took_us;
    frames = s.nframes;
    snapshot_free(&s);
  }
  printf("%llu frames in %llu us\n", (unsigned long long)frames, (unsigned long long)best);
}

int main(int argc, char **argv) {
  static struct process p;
  if (argc < 3) fail("usage: reader equals|live|fuzz|fast PID ...");
  open_process(&p, argv[2]);
  if (strcmp(argv[1], "equals") == 0 && argc == 4)
    equals(&p, argv[3]);
  else if (strcmp(argv[1], "live") == 0 && argc == 4)
    live(&p, atoi(argv[3]));
  else if (strcmp(argv[1], "fuzz") == 0 && argc == 4)
    fuzz(&p, atoi(argv[3]));
  else if (strcmp(argv[1], "fast") == 0)
    fast(&p);
  else
    fail("usage: reader equals|live|fuzz|fast PID ...");
  return 0;
}
