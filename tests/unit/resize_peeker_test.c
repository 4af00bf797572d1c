/* Lockless peekers against folios that grow and shrink in place and change their class, at full
 * speed, through alloc/peek.h: what it accepts must be true of one folio at some moment of its
 * life.
 *
 * So that a peeker can tell, a folio's length names its maker and its place: with u units of PLACES
 * frames it has u * PLACES + place + 1, u is first / ROOM modulo SITES (0 while it is new), and the
 * place decides its classes. */
#include "alloc/peek.h"

#include <pthread.h>
#include <stdio.h>

#include "page/folio.h"
#include "page/hugepage.h"
#include "slab/size_class.h"
#include "tests/unit/check.h"
#include "tests/unit/fake.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)8 * HUGEPAGE_SIZE)
#define FRAMES ((uint32_t)(ARENA / FRAME_SIZE))

enum { WRITERS = 2, PEEKERS = 2, HELD = 8, PLACES = WRITERS * HELD, SITES = 4 };

/* A folio begins at a multiple of ROOM frames, and wants up to twice as many. */
enum { ROOM = 128, LENGTHS = 2 * ROOM / PLACES / SITES };

_Static_assert(CACHED_CLASSES - SLAB_CLASSES >= 2 * PLACES, "each place has two classes");

static uint64_t steps;
static uint32_t running;

static unsigned site_of(pfn_t first) { return first.n / ROOM % SITES; }

static unsigned class_for(unsigned place, uint64_t which) {
  return SLAB_CLASSES + place + (which != 0 ? PLACES : 0);
}

/* ---- those who change ---- */

struct writer {
  unsigned number;
  struct random random;
  struct folio *folios[HELD];
  uint64_t grown, refused, shrunk, classed, wrong;
};

/* Short, since the length is chosen before the place is known. */
static struct folio *make(struct writer *w, unsigned place) {
  bool zero;
  struct folio *folio =
      folio_alloc(place + 1, ROOM, class_for(place, random_below(&w->random, 2)), false, &zero);
  if (folio == NULL) w->wrong++;
  return folio;
}

static void resize(struct writer *w, struct folio *folio, unsigned place) {
  uint64_t units = random_below(&w->random, LENGTHS) * SITES + site_of(folio->pfn);
  size_t old = folio->nframes, nframes = place + 1 + units * PLACES;
  if (!folio_resize(folio, nframes, folio->size_class))
    w->refused++;
  else if (nframes > old)
    w->grown++;
  else if (nframes < old)
    w->shrunk++;
  if (folio->nframes != nframes && folio->nframes != old) w->wrong++;
}

static void *write_always(void *arg) {
  struct writer *w = arg;
  for (uint64_t i = 0; i < steps; i++) {
    unsigned at = (unsigned)random_below(&w->random, HELD), place = w->number * HELD + at;
    struct folio *folio = w->folios[at];
    uint64_t what = random_below(&w->random, 16);
    if (folio == NULL) {
      w->folios[at] = make(w, place);
    } else if (what == 0) {
      folio_free(folio);
      w->folios[at] = NULL;
    } else if (what < 6) {
      unsigned size_class = class_for(place, random_below(&w->random, 2));
      if (!folio_resize(folio, folio->nframes, size_class)) w->wrong++;
      w->classed++;
    } else {
      resize(w, folio, place);
    }
  }
  sub_relaxed(&running, 1);
  return NULL;
}

/* ---- those who look ---- */

struct seen {
  uint64_t folios, lost, wrong;
  const char *what;
};

static void wrong(struct seen *seen, const char *what) {
  seen->wrong++;
  seen->what = what;
}

static void check_folio(pfn_t pfn, const struct peeked *p, struct seen *seen) {
  unsigned place = (unsigned)(p->nframes - 1) % PLACES, c = memdesc_class(p->word);
  seen->folios++;
  if (load_relaxed(&((const struct desc *)p->owner)->cache) != &folio_cache)
    wrong(seen, "a folio's owner is something else");
  if ((size_t)pfn.n - p->first.n >= p->nframes) wrong(seen, "a folio without the frame");
  if (p->object_size != p->nframes << FRAME_SHIFT) wrong(seen, "two lengths");
  if (p->nguard != 0 || p->slots != 0 || p->free_slots != 0 || p->pinned)
    wrong(seen, "a folio with a guard, slots or a pin");
  if (c != class_for(place, 0) && c != class_for(place, 1))
    wrong(seen, "a length of another class");
  if (p->first.n % ROOM != 0) wrong(seen, "a folio at a place that nobody asked for");
  if (p->nframes > PLACES && (p->nframes - 1) / PLACES % SITES != site_of(p->first))
    wrong(seen, "a length of another folio");
}

static void look(pfn_t pfn, struct seen *seen) {
  struct peeked p;
  if (!peek_frame(pfn, &p)) {
    seen->lost++;
    return;
  }
  switch (memdesc_type(p.word)) {
  case MEMDESC_NONE:
  case MEMDESC_FREE:
    if (p.owner != NULL || p.nframes != 0) wrong(seen, "a free frame has an owner");
    break;
  case MEMDESC_FOLIO:
    check_folio(pfn, &p, seen);
    break;
  default:
    wrong(seen, "a type that nobody sets");
    break;
  }
}

static void *peek_always(void *arg) {
  struct seen *seen = arg;
  struct random r = {(uintptr_t)arg};
  while (load_relaxed(&running) > 0) {
    uint32_t at = (uint32_t)random_below(&r, FRAMES);
    for (uint32_t i = 0; i < 64 && at + i < FRAMES; i++) look((pfn_t){at + i}, seen);
  }
  for (uint32_t at = 0; at < FRAMES; at++) look((pfn_t){at}, seen); /* what is left, at rest */
  return NULL;
}

/* ---- */

static void end_of(struct writer *w) {
  CU_ASSERT_EQUAL(w->wrong, 0);
  CU_ASSERT_TRUE(w->grown > 0);
  CU_ASSERT_TRUE(w->shrunk > 0);
  CU_ASSERT_TRUE(w->classed > 0);
  for (unsigned i = 0; i < HELD; i++) {
    if (w->folios[i] == NULL) continue;
    CU_ASSERT_TRUE(folio_consistent(w->folios[i]));
    folio_free(w->folios[i]);
  }
}

static void peekers_see_folios_as_they_are_or_were(void) {
  pthread_t writers[WRITERS], peekers[PEEKERS];
  static struct seen seen[PEEKERS];
  static struct writer w[WRITERS];
  struct seen sum = {0};
  heap_begin(ARENA, true);
  steps = test_steps(3000000);
  running = WRITERS;
  for (unsigned i = 0; i < PEEKERS; i++) pthread_create(&peekers[i], NULL, peek_always, &seen[i]);
  for (unsigned i = 0; i < WRITERS; i++) {
    w[i].number = i;
    w[i].random = (struct random){i + 1};
    pthread_create(&writers[i], NULL, write_always, &w[i]);
  }
  for (unsigned i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
  for (unsigned i = 0; i < PEEKERS; i++) {
    pthread_join(peekers[i], NULL);
    sum.folios += seen[i].folios;
    sum.lost += seen[i].lost;
    if (seen[i].wrong > 0)
      printf("%llu times: %s\n", (unsigned long long)seen[i].wrong, seen[i].what);
    CU_ASSERT_EQUAL(seen[i].wrong, 0);
  }
  for (unsigned i = 0; i < WRITERS; i++) {
    printf("grown %llu times, refused %llu, shrunk %llu, reclassed %llu\n",
           (unsigned long long)w[i].grown, (unsigned long long)w[i].refused,
           (unsigned long long)w[i].shrunk, (unsigned long long)w[i].classed);
    end_of(&w[i]);
  }
  printf("accepted %llu folios, let go %llu\n", (unsigned long long)sum.folios,
         (unsigned long long)sum.lost);
  CU_ASSERT_TRUE(sum.folios > 0);
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_TRUE(frames_consistent());
  heap_end();
}

static const struct unit_test tests[] = {
    {"peekers_see_folios_as_they_are_or_were", peekers_see_folios_as_they_are_or_were},
    {0},
};

int main(void) { return unit_main("resize_peeker", tests); }
