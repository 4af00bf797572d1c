/* Lockless peekers against allocation and free at full speed: what the protocol of memdesc.h lets
 * them accept must be true. A peeker here never takes the owner, so it reads everything twice
 * instead. */
#include <pthread.h>
#include <string.h>

#include "page/folio.h"
#include "page/hold.h"
#include "page/hugepage.h"
#include "slab/slab.h"
#include "tests/unit/check.h"
#include "tests/unit/fake.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)16 * HUGEPAGE_SIZE)

enum { WRITERS = 2, PEEKERS = 2, HELD = 24 };

/* Reading what others write without a lock is the point; the sanitizer need not be told each time.
 */
#ifdef __SANITIZE_THREAD__
#define peeking __attribute__((no_sanitize("thread")))
#else
#define peeking
#endif

static uint64_t steps;
static uint32_t running;

static void *write_always(void *arg) {
  struct random r = {(uintptr_t)arg};
  struct slab *slabs[HELD] = {NULL};
  struct folio *folios[HELD] = {NULL};
  for (uint64_t i = 0; i < steps; i++) {
    size_t at = random_below(&r, HELD);
    bool zero;
    if (random_below(&r, 2) == 0) {
      if (slabs[at] != NULL) slab_destroy(slabs[at]);
      slabs[at] = slab_new((unsigned)random_below(&r, SLAB_CLASSES));
    } else {
      if (folios[at] != NULL) folio_free(folios[at]);
      unsigned c = SLAB_CLASSES + (unsigned)random_below(&r, 8);
      folios[at] = folio_alloc(size_classes[c].nframes, 1, c, false, &zero);
    }
  }
  for (size_t i = 0; i < HELD; i++) {
    if (slabs[i] != NULL) slab_destroy(slabs[i]);
    if (folios[i] != NULL) folio_free(folios[i]);
  }
  sub_relaxed(&running, 1);
  return NULL;
}

struct seen {
  uint64_t slabs, folios, frees, lost, wrong;
  const char *what;
};

static void wrong(struct seen *seen, const char *what) {
  seen->wrong++;
  seen->what = what;
}

peeking static noinline void copy(void *to, const void *from, size_t size) {
  const volatile uint64_t *words = from;
  uint64_t *out = to;
  for (size_t i = 0; i < size / 8; i++) out[i] = words[i];
}

/* False when the owner changed meanwhile. */
peeking static noinline bool read_owner(pfn_t pfn, memdesc_t d, void *to, size_t size) {
  uint64_t again[8];
  copy(to, memdesc_owner(d), size);
  fence_acquire();
  copy(again, memdesc_owner(d), size);
  fence_acquire();
  return memmap_peek(pfn).word == d.word && memcmp(again, to, size) == 0;
}

static void peek_slab(pfn_t pfn, memdesc_t d, struct seen *seen) {
  union {
    struct slab slab;
    uint64_t words[8];
  } got;
  bool same = read_owner(pfn, d, &got, sizeof got.words);
  const struct slab *s = &got.slab;
  /* Type stability: true of a stale pointer, too. */
  if (s->desc.cache != &slab_cache_small && s->desc.cache != &slab_cache_large)
    wrong(seen, "a slab's memory held something else");
  if (!same) {
    seen->lost++;
    return;
  }
  seen->slabs++;
  if (s->size_class != memdesc_class(d)) wrong(seen, "slab of another class");
  if (pfn.n - s->pfn.n >= s->nframes) wrong(seen, "slab of other frames");
  if (s->nslots != size_classes[s->size_class].nslots) wrong(seen, "slab with other slots");
  if (s->nfree > s->nslots) wrong(seen, "slab with too many free");
}

/* Between two looks a folio may be freed, and its descriptor be given the same frames again: then
 * what was read is of the one that was there, and it has an owner by now. */
peeking static noinline bool is_gone(pfn_t pfn, memdesc_t d) {
  const struct folio *folio = memdesc_owner(d);
  bool gone = hold_state(&folio->refs) == HOLD_GONE;
  fence_acquire();
  return gone && memmap_peek(pfn).word == d.word;
}

static void peek_folio(pfn_t pfn, memdesc_t d, struct seen *seen) {
  union {
    struct folio folio;
    uint64_t words[8];
  } got;
  bool same = read_owner(pfn, d, &got, sizeof got.words);
  const struct folio *f = &got.folio;
  if (f->desc.cache != &folio_cache) wrong(seen, "a folio's memory held something else");
  if (!same) {
    seen->lost++;
    return;
  }
  seen->folios++;
  if (f->size_class != memdesc_class(d)) wrong(seen, "folio of another class");
  if (pfn.n - f->pfn.n >= f->nframes) wrong(seen, "folio of other frames");
  if (f->nframes != size_classes[f->size_class].nframes) wrong(seen, "folio of another length");
  if (hold_state(&f->refs) == HOLD_GONE && is_gone(pfn, d)) wrong(seen, "folio without an owner");
}

static void peek_at(pfn_t pfn, struct seen *seen) {
  memdesc_t d = memmap_peek(pfn);
  switch (memdesc_type(d)) {
  case MEMDESC_NONE:
    if (d.word != 0) wrong(seen, "an unused frame has an owner");
    break;
  case MEMDESC_FREE:
    seen->frees++;
    if (memdesc_owner(d) != &arena.hugepages[pfn_hugepage(pfn).n])
      wrong(seen, "another's hugepage");
    break;
  case MEMDESC_SLAB:
    peek_slab(pfn, d, seen);
    break;
  case MEMDESC_FOLIO:
    peek_folio(pfn, d, seen);
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
    uint32_t at = (uint32_t)random_below(&r, ARENA / FRAME_SIZE);
    for (uint32_t i = 0; i < 64 && at + i < ARENA / FRAME_SIZE; i++) peek_at((pfn_t){at + i}, seen);
  }
  return NULL;
}

static void what_peekers_accept_is_true(void) {
  pthread_t writers[WRITERS], peekers[PEEKERS];
  static struct seen seen[PEEKERS];
  heap_begin(ARENA, true);
  steps = test_steps(400000);
  running = WRITERS;
  for (int i = 0; i < PEEKERS; i++) pthread_create(&peekers[i], NULL, peek_always, &seen[i]);
  for (uintptr_t i = 0; i < WRITERS; i++)
    pthread_create(&writers[i], NULL, write_always, (void *)(i + 1));
  for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
  struct seen sum = {0};
  for (int i = 0; i < PEEKERS; i++) {
    pthread_join(peekers[i], NULL);
    sum.slabs += seen[i].slabs;
    sum.folios += seen[i].folios;
    sum.lost += seen[i].lost;
    if (seen[i].wrong > 0)
      printf("%llu times: %s\n", (unsigned long long)seen[i].wrong, seen[i].what);
    CU_ASSERT_EQUAL(seen[i].wrong, 0);
  }
  printf("accepted %llu slabs and %llu folios, let go %llu\n", (unsigned long long)sum.slabs,
         (unsigned long long)sum.folios, (unsigned long long)sum.lost);
  CU_ASSERT_TRUE(sum.slabs > 0);
  CU_ASSERT_TRUE(sum.folios > 0);
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_TRUE(frames_consistent());
  heap_end();
}

static const struct unit_test tests[] = {
    {"what_peekers_accept_is_true", what_peekers_accept_is_true},
    {0},
};

int main(void) { return unit_main("peeker", tests); }
