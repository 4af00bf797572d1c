/* Millions of random steps against models that are too simple to be wrong.
 *
 * Frames: a byte per frame says who has it, another whether anything was written there since the
 * kernel last gave zeros. The fake kernel tells the model of every discard and move, so memory that
 * the allocator calls zero, frees too early or forgets to give back is found out, with no memory
 * behind the addresses at all.
 *
 * Objects: malloc's family on real memory, each object filled with a pattern of its own.
 *
 * QUIRE_SEED repeats a run, QUIRE_STEPS lengthens it. */
#include <errno.h>
#include <string.h>

#include "alloc/options.h"
#include "alloc/tcache.h"
#include "arch/sys.h"
#include "page/hugepage.h"
#include "quire.h"
#include "slab/bin.h"
#include "tests/unit/check.h"
#include "tests/unit/fake.h"
#include "tests/unit/random.h"

/* ---- frames ---- */

enum { HUGEPAGES = 48, FRAMES = HUGEPAGES * HUGEPAGE_FRAMES, RUNS = 500 };

struct run {
  pfn_t pfn;
  size_t n;
  enum frames_kind kind;
};

static struct {
  uint8_t used[FRAMES];    /* handed out */
  uint8_t written[FRAMES]; /* holds something other than zeros, perhaps */
  struct run runs[RUNS];
  size_t nruns, nused;
  bool zeroing; /* a discard of used frames is what is wanted now */
  const char *wrong;
  uint64_t step, wrong_step;
} model;

static void complain(const char *what) {
  if (model.wrong != NULL) return;
  model.wrong = what;
  model.wrong_step = model.step;
}

static void kernel_did(enum fake_call call, char *p, char *to, size_t length) {
  if (!arena_contains(p) || arena.base == 0) return;
  uint32_t at = arena_pfn(p).n, n = (uint32_t)(length / FRAME_SIZE);
  switch (call) {
  case FAKE_DISCARD:
  case FAKE_REFRESH:
    for (uint32_t i = at; i < at + n; i++) {
      if (model.used[i] && !model.zeroing) complain("discarded a frame in use");
      model.written[i] = 0;
    }
    break;
  case FAKE_REFRESH_HUGETLB:
    for (uint32_t i = at; i < at + n; i++)
      if (model.used[i]) complain("remapped a frame in use");
    memset(model.written + at, 0, n);
    break;
  case FAKE_MOVE:
    memcpy(model.written + arena_pfn(to).n, model.written + at, n);
    memset(model.written + at, 0, n);
    break;
  default:
    break;
  }
}

static void took(pfn_t pfn, size_t n, bool zero) {
  if ((uint64_t)pfn.n + n > (uint64_t)arena.opened * HUGEPAGE_FRAMES) {
    complain("handed out frames that are not open");
    return;
  }
  for (size_t i = pfn.n; i < pfn.n + n; i++) {
    if (model.used[i]) complain("handed out a frame in use");
    if (zero && model.written[i]) complain("called a written frame zero");
    model.used[i] = 1;
    model.written[i] = 1;
  }
  model.nused += n;
}

static void gave(pfn_t pfn, size_t n) {
  memset(model.used + pfn.n, 0, n);
  model.nused -= n;
}

static size_t length_of(struct random *r) {
  switch (random_below(r, 8)) {
  case 0:
    return 1 + random_below(r, 2000);
  case 1:
    return 400 + random_below(r, 200);
  case 2:
    return 1;
  default:
    return 1 + random_below(r, 64);
  }
}

static void step_alloc(struct random *r) {
  struct frames_run run;
  size_t n = length_of(r), align = random_below(r, 4) == 0 ? (size_t)1 << random_below(r, 12) : 1;
  enum frames_kind kind = random_below(r, 2) == 0 ? FRAMES_SLAB : FRAMES_FOLIO;
  if (model.nruns == RUNS) return;
  int err = frames_alloc(n, align, kind, &run);
  if (err != 0) {
    if (err != -ENOMEM) complain("failed with another error than ENOMEM");
    return;
  }
  if (run.nframes != n) complain("handed out another number of frames");
  if (((uintptr_t)arena_addr(run.pfn) & (align * FRAME_SIZE - 1)) != 0) complain("misaligned");
  took(run.pfn, n, run.zero);
  model.runs[model.nruns++] = (struct run){run.pfn, n, kind};
}

static void drop(size_t i) { model.runs[i] = model.runs[--model.nruns]; }

static void step_free(struct random *r, size_t i) {
  struct run *run = &model.runs[i];
  size_t n = random_below(r, 3) == 0 ? 1 + random_below(r, run->n) : run->n;
  pfn_t at = pfn_add(run->pfn, run->n - n);
  gave(at, n);
  frames_free(at, n);
  run->n -= n;
  if (run->n == 0) drop(i);
}

static void step_extend(struct random *r, size_t i) {
  struct run *run = &model.runs[i];
  size_t more = length_of(r);
  bool zero = false;
  if (!frames_extend(run->pfn, run->n, more, run->kind, &zero)) return;
  took(pfn_add(run->pfn, run->n), more, zero);
  run->n += more;
}

static void step_move(struct random *r, size_t i) {
  struct frames_run to;
  struct run *run = &model.runs[i];
  if (frames_alloc(run->n, 1, run->kind, &to) != 0) return;
  took(to.pfn, to.nframes, to.zero);
  if (frames_move(run->pfn, to.pfn, run->n) == 0) {
    gave(run->pfn, run->n);
    frames_free_zero(run->pfn, run->n);
    run->pfn = to.pfn;
  } else {
    gave(to.pfn, to.nframes);
    frames_free(to.pfn, to.nframes);
  }
  (void)r;
}

static void step_zero(size_t i) {
  struct run *run = &model.runs[i];
  model.zeroing = true;
  int err = frames_zero(run->pfn, run->n);
  model.zeroing = false;
  if (err == 0) {
    for (size_t k = 0; k < run->n; k++)
      if (model.written[run->pfn.n + k]) complain("zeroed frames hold something");
    memset(model.written + run->pfn.n, 1, run->n); /* and are written to again */
  }
}

static void step_kernel(struct random *r) {
  static const enum fake_call calls[] = {FAKE_DISCARD,  FAKE_ADVISE_HUGE, FAKE_MOVE,
                                         FAKE_POPULATE, FAKE_REFRESH,     FAKE_OPEN_WRITE};
  enum fake_call call = calls[random_below(r, array_size(calls))];
  fake.refuse[call] = random_below(r, 3) != 0 ? 0 : call == FAKE_OPEN_WRITE ? -ENOMEM : -EINVAL;
  fake.populate_faults = random_below(r, 2) == 0 ? 1 : 512;
}

static void step_frames(struct random *r) {
  size_t kind = random_below(r, 100), i = model.nruns > 0 ? random_below(r, model.nruns) : 0;
  if (kind < 42 || model.nruns == 0)
    step_alloc(r);
  else if (kind < 84)
    step_free(r, i);
  else if (kind < 90)
    step_extend(r, i);
  else if (kind < 92)
    step_move(r, i);
  else if (kind < 93)
    step_zero(i);
  else if (kind < 98) {
    fake.now += random_below(r, 200);
    (void)frames_decay(fake.now);
  } else if (random_below(r, 8) == 0)
    (void)frames_purge(random_below(r, 4000));
  else if (random_below(r, 4) == 0)
    (void)frames_collapse_one();
  else
    step_kernel(r);
}

static void compare_frames(void) {
  struct frames_stats stats;
  frames_stats(&stats);
  if (!frames_consistent()) complain("inconsistent");
  if (stats.used != model.nused) complain("miscounted");
  for (uint32_t n = 0; n < arena.opened; n++) {
    const struct hugepage *hp = &arena.hugepages[n];
    for (unsigned i = 0; i < HUGEPAGE_FRAMES; i++) {
      uint32_t at = n * HUGEPAGE_FRAMES + i;
      bool used = hp->used[i / 64] >> i % 64 & 1, resident = hp->resident[i / 64] >> i % 64 & 1;
      if (used != model.used[at]) complain("disagrees about who has a frame");
      if (!used && model.written[at] && !resident)
        complain("forgot memory that it could give back");
    }
  }
}

static void frames_agree_with_model(void) {
  static const enum frames_huge modes[] = {FRAMES_HUGE_NEVER, FRAMES_HUGE_AUTO, FRAMES_HUGE_ALWAYS,
                                           FRAMES_HUGE_HUGETLB};
  struct random r = {test_seed()};
  uint64_t steps = test_steps(2000000) / array_size(modes);
  for (unsigned m = 0; m < array_size(modes); m++) {
    memset(&model, 0, sizeof model);
    heap_begin((size_t)HUGEPAGES * HUGEPAGE_SIZE, true);
    heap_configure(modes[m], 8 << 20, random_below(&r, 2) * 1000);
    fake.seen = kernel_did;
    for (model.step = 0; model.step < steps && model.wrong == NULL; model.step++) {
      step_frames(&r);
      if (model.step % 4096 == 0) compare_frames();
    }
    while (model.nruns > 0) {
      struct run last = model.runs[model.nruns - 1];
      gave(last.pfn, last.n);
      frames_free(last.pfn, last.n);
      drop(model.nruns - 1);
    }
    memset(fake.refuse, 0, sizeof fake.refuse);
    (void)frames_purge(0);
    compare_frames();
    for (uint32_t i = 0; i < arena.opened * HUGEPAGE_FRAMES; i++)
      if (model.written[i]) complain("kept memory after a purge of everything");
    if (model.wrong != NULL)
      printf("mode %u, step %llu: %s\n", m, (unsigned long long)model.wrong_step, model.wrong);
    CU_ASSERT_PTR_NULL(model.wrong);
    heap_end();
  }
}

/* ---- objects ---- */

enum { OBJECTS = 3000 };

struct object {
  unsigned char *p;
  size_t size;
  unsigned char tag;
};

/* Large objects are marked at both ends and once a frame. */
static void fill(const struct object *o) {
  if (o->size <= 8192) {
    memset(o->p, o->tag, o->size);
    return;
  }
  for (size_t i = 0; i < o->size; i += FRAME_SIZE)
    o->p[i] = (unsigned char)(o->tag + i / FRAME_SIZE);
  o->p[o->size - 1] = o->tag;
}

static bool intact_up_to(const struct object *o, size_t size) {
  if (o->size <= 8192) {
    for (size_t i = 0; i < size; i++)
      if (o->p[i] != o->tag) return false;
    return true;
  }
  for (size_t i = 0; i < size && i < o->size - 1; i += FRAME_SIZE)
    if (o->p[i] != (unsigned char)(o->tag + i / FRAME_SIZE)) return false;
  return size < o->size || o->p[o->size - 1] == o->tag;
}

static bool intact(const struct object *o) { return intact_up_to(o, o->size); }

static bool is_zero(const unsigned char *p, size_t size) {
  for (size_t i = 0; i<size; i += size> 8192 ? 509 : 1)
    if (p[i] != 0) return false;
  return true;
}

static size_t object_size(struct random *r) {
  switch (random_below(r, 64)) {
  case 0:
    return random_size(r, 23);
  case 1:
    return 60000 + random_below(r, 12000);
  case 2:
    return (1 << 20) - 5000 + random_below(r, 10000);
  default:
    return random_size(r, 11);
  }
}

static void give_back(void) {
  tcache_flush();
  (void)bin_trim(true);
  (void)frames_purge(0);
}

static void step_object(struct random *r, struct object *o) {
  size_t size = object_size(r);
  if (o->p == NULL) {
    size_t align = 16, how = random_below(r, 8);
    if (how == 0)
      o->p = quire_calloc(1, size);
    else if (how == 1)
      o->p = quire_aligned_alloc(align = (size_t)1 << random_below(r, 16), size);
    else
      o->p = quire_malloc(size);
    if (o->p == NULL) {
      complain("no memory");
      return;
    }
    if (how == 0 && !is_zero(o->p, size)) complain("calloc gave what is not zero");
    if (how != 1 && size < 16) align = 8;
    if ((uintptr_t)o->p % align != 0) complain("misaligned");
    if (quire_usable_size(o->p) < size) complain("too small");
  } else {
    if (!intact(o)) complain("somebody wrote into an object");
    if (random_below(r, 4) != 0) {
      quire_free(o->p);
      *o = (struct object){0};
      return;
    }
    if (size == 0) size = 1; /* would free it */
    unsigned char *p = quire_realloc(o->p, size);
    if (p == NULL) {
      complain("no memory for a realloc");
      return;
    }
    o->p = p;
    if (!intact_up_to(o, size < o->size ? size : o->size)) complain("realloc lost contents");
  }
  o->size = size;
  o->tag = (unsigned char)(1 + random_below(r, 255));
  fill(o);
}

static bool all_consistent(void) {
  bool ok = frames_consistent() && tcache_consistent();
  for (unsigned c = 0; c < SLAB_CLASSES; c++) ok = ok && bin_consistent(c);
  return ok;
}

static void objects_agree_with_model(void) {
  static struct object objects[OBJECTS];
  struct random r = {test_seed()};
  uint64_t steps = test_steps(3000000);
  memset(&model, 0, sizeof model);
  /* What is counted here must not be on its way through another thread's hands. */
  quire_free(quire_malloc(1));
  options.background = CHOICE_BACKGROUND_OFF;
  for (model.step = 0; model.step < steps && model.wrong == NULL; model.step++) {
    step_object(&r, &objects[random_below(&r, OBJECTS)]);
    if (model.step % 65536 == 0 && !all_consistent()) complain("inconsistent");
    if (model.step % 300000 == 0) give_back();
    if (model.step % 5000 == 0) (void)frames_decay(model.step / 10);
  }
  for (size_t i = 0; i < OBJECTS; i++) {
    if (objects[i].p != NULL && !intact(&objects[i])) complain("somebody wrote into an object");
    quire_free(objects[i].p);
  }
  give_back();
  if (!all_consistent()) complain("inconsistent");
  if (frames_used() != 0) complain("frames are left over");
  if (model.wrong != NULL)
    printf("step %llu: %s\n", (unsigned long long)model.wrong_step, model.wrong);
  CU_ASSERT_PTR_NULL(model.wrong);
}

static const struct unit_test tests[] = {
    {"frames_agree_with_model", frames_agree_with_model},
    {"objects_agree_with_model", objects_agree_with_model},
    {0},
};

int main(void) { return unit_main("property", tests); }
