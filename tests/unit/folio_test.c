/* Folios on real memory: their contents are looked at. */
#include "page/folio.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "arch/sys.h"
#include "page/compact.h"
#include "page/hold.h"
#include "page/hugepage.h"
#include "page/poison.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/fake.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)256 * HUGEPAGE_SIZE)

enum { CLASS = 113 };

static void begin(void) { heap_begin(ARENA, false); }

static void end(void) {
  CU_ASSERT_TRUE(frames_consistent());
  heap_end();
}

static struct folio *get(size_t n) {
  bool zero;
  struct folio *folio = folio_alloc(n, 1, CLASS, false, &zero);
  CU_ASSERT_PTR_NOT_NULL_FATAL(folio);
  CU_ASSERT_TRUE(folio_consistent(folio));
  return folio;
}

static void fill(struct folio *folio, size_t from, size_t n) {
  uint64_t *words = folio_addr(folio);
  for (size_t i = from; i < from + n; i++) words[i * FRAME_SIZE / 8] = i * 0x9e3779b97f4a7c15u + 1;
}

static bool holds(const struct folio *folio, size_t n) {
  const uint64_t *words = folio_addr(folio);
  for (size_t i = 0; i < n; i++)
    if (words[i * FRAME_SIZE / 8] != i * 0x9e3779b97f4a7c15u + 1) return false;
  return true;
}

static void every_frame_names_the_folio(void) {
  begin();
  struct folio *folio = get(700);
  for (size_t i = 0; i < 700; i++) {
    memdesc_t d = memmap_get(pfn_add(folio->pfn, i));
    CU_ASSERT_EQUAL(memdesc_type(d), MEMDESC_FOLIO);
    CU_ASSERT_PTR_EQUAL(memdesc_owner(d), folio);
    CU_ASSERT_EQUAL(memdesc_class(d), CLASS);
  }
  CU_ASSERT_EQUAL(folio_size(folio), 700 * FRAME_SIZE);
  pfn_t pfn = folio->pfn;
  folio_free(folio);
  for (size_t i = 0; i < 700; i++)
    CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn_add(pfn, i))), MEMDESC_FREE);
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(folio_cache.nlive, 0);
  end();
}

static void alignments_are_kept(void) {
  begin();
  for (size_t align = 1; align <= 32 * HUGEPAGE_FRAMES; align *= 2) {
    bool zero;
    struct folio *folio = folio_alloc(3, align, CLASS, false, &zero);
    CU_ASSERT_PTR_NOT_NULL_FATAL(folio);
    CU_ASSERT_EQUAL((uintptr_t)folio_addr(folio) % (align * FRAME_SIZE), 0);
    memset(folio_addr(folio), 1, folio_size(folio));
  }
  end();
}

static void resizing_keeps_place_and_contents(void) {
  begin();
  struct folio *folio = get(100);
  void *at = folio_addr(folio);
  fill(folio, 0, 100);
  CU_ASSERT_TRUE(folio_resize(folio, 1500, CLASS));
  CU_ASSERT_PTR_EQUAL(folio_addr(folio), at);
  CU_ASSERT_TRUE(folio_consistent(folio));
  CU_ASSERT_TRUE(holds(folio, 100));
  fill(folio, 100, 1400);
  CU_ASSERT_TRUE(folio_resize(folio, 40, CLASS));
  CU_ASSERT_TRUE(folio_consistent(folio));
  CU_ASSERT_TRUE(holds(folio, 40));
  CU_ASSERT_EQUAL(frames_used(), 40);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn_add(folio->pfn, 40))), MEMDESC_FREE);
  CU_ASSERT_TRUE(folio_resize(folio, 40, CLASS));
  struct folio *next = get(1);
  CU_ASSERT_EQUAL(next->pfn.n, folio->pfn.n + 40);
  CU_ASSERT_FALSE(folio_resize(folio, 41, CLASS));
  CU_ASSERT_EQUAL(folio->nframes, 40);
  CU_ASSERT_TRUE(folio_consistent(folio));
  end();
}

static void classes_change_everywhere(void) {
  begin();
  struct folio *folio = get(30);
  CU_ASSERT_TRUE(folio_resize(folio, 30, 90));
  CU_ASSERT_TRUE(folio_consistent(folio));
  CU_ASSERT_EQUAL(memdesc_class(memmap_get(pfn_add(folio->pfn, 29))), 90);
  end();
}

static void moving_takes_the_contents_along(void) {
  static const size_t targets[] = {3000, 512, 1024, 5000};
  for (unsigned i = 0; i < array_size(targets); i++) {
    begin();
    struct folio *folio = get(1024), *blocker = get(1);
    fill(folio, 0, 1024);
    pfn_t from = folio->pfn;
    size_t kept = size_min(1024, targets[i]);
    struct folio *moved = folio_move(folio, targets[i], 88);
    CU_ASSERT_PTR_NOT_NULL_FATAL(moved);
    CU_ASSERT_NOT_EQUAL(moved->pfn.n, from.n);
    CU_ASSERT_EQUAL(moved->nframes, targets[i]);
    CU_ASSERT_EQUAL(moved->size_class, 88);
    CU_ASSERT_TRUE(folio_consistent(moved));
    CU_ASSERT_TRUE(holds(moved, kept));
    CU_ASSERT_EQUAL(memdesc_type(memmap_get(from)), MEMDESC_FREE);
    CU_ASSERT_EQUAL(frames_used(), targets[i] + 1);
    /* Where it was there is memory again that reads as zeros, and says so. */
    struct frames_run run;
    CU_ASSERT_EQUAL(frames_alloc(512, 1, FRAMES_FOLIO, &run), 0);
    const char *p = arena_addr(run.pfn);
    for (size_t k = 0; run.zero && k < 512 * FRAME_SIZE; k += 509) CU_ASSERT_EQUAL(p[k], 0);
    (void)blocker;
    end();
  }
}

static void refused_move_leaves_all_as_it_was(void) {
  begin();
  struct folio *folio = get(600);
  fill(folio, 0, 600);
  fake.refuse[FAKE_MOVE] = -ENOMEM;
  CU_ASSERT_PTR_NULL(folio_move(folio, 2000, 88));
  CU_ASSERT_TRUE(folio_consistent(folio));
  CU_ASSERT_TRUE(holds(folio, 600));
  CU_ASSERT_EQUAL(frames_used(), 600);
  CU_ASSERT_EQUAL(folio_cache.nlive, 1);
  fake.refuse[FAKE_MOVE] = 0;
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM; /* no room to move to */
  CU_ASSERT_PTR_NULL(folio_move(folio, 200 * HUGEPAGE_FRAMES, 88));
  CU_ASSERT_TRUE(holds(folio, 600));
  end();
}

static void exhaustion_is_null(void) {
  bool zero;
  begin();
  CU_ASSERT_PTR_NULL(folio_alloc(ARENA / FRAME_SIZE + 1, 1, CLASS, false, &zero));
  CU_ASSERT_PTR_NULL(folio_alloc(SIZE_MAX >> 12, 1, CLASS, false, &zero));
  CU_ASSERT_PTR_NULL(folio_alloc(1, (size_t)1 << 45, CLASS, false, &zero));
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  CU_ASSERT_PTR_NULL(folio_alloc(1, 1, CLASS, false, &zero));
  CU_ASSERT_EQUAL(folio_cache.nlive, 0);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static struct folio *guarded;

static void write_to_the_end(void) { memset(folio_addr(guarded), 1, folio_size(guarded)); }
static void write_past_the_end(void) {
  ((volatile char *)folio_addr(guarded))[folio_size(guarded)] = 1;
}

static void guards_fault(void) {
  bool zero;
  begin();
  guarded = folio_alloc(20, 1, CLASS, true, &zero);
  CU_ASSERT_PTR_NOT_NULL_FATAL(guarded);
  CU_ASSERT_TRUE(folio_consistent(guarded));
  CU_ASSERT_EQUAL(folio_size(guarded), 20 * FRAME_SIZE);
  CU_ASSERT_TRUE(child_lives(write_to_the_end));
  CU_ASSERT_TRUE(child_dies(write_past_the_end));
  CU_ASSERT_FALSE(folio_resize(guarded, 30, CLASS)); /* it would grow into its guard */
  CU_ASSERT_PTR_NULL(folio_move(guarded, 30, CLASS));
  pfn_t pfn = guarded->pfn;
  folio_free(guarded);
  CU_ASSERT_EQUAL(frames_used(), 0);
  /* The guard's frames can be used again. */
  struct folio *next = get(40);
  CU_ASSERT_EQUAL(next->pfn.n, pfn.n);
  memset(folio_addr(next), 1, folio_size(next));
  end();
}

static void refused_guard_is_done_without(void) {
  bool zero;
  begin();
  fake.refuse[FAKE_CLOSE] = -ENOMEM; /* too many mappings */
  struct folio *folio = folio_alloc(20, 1, CLASS, true, &zero);
  CU_ASSERT_PTR_NOT_NULL_FATAL(folio);
  memset(folio_addr(folio), 1, folio_size(folio));
  folio_free(folio);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void guards_cover_system_pages(void) {
  bool zero;
  begin();
  sys_set_page_size(64 << 10);
  struct folio *folio = folio_alloc(3, 1, CLASS, true, &zero);
  CU_ASSERT_PTR_NOT_NULL_FATAL(folio);
  CU_ASSERT_EQUAL(folio->nguard, 16);
  CU_ASSERT_EQUAL((uintptr_t)folio_addr(folio) % (64 << 10), 0);
  CU_ASSERT_EQUAL(folio_size(folio) % (64 << 10), 0);
  CU_ASSERT_TRUE(folio_size(folio) >= 3 * FRAME_SIZE);
  folio_free(folio);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void fresh_folios_are_zero(void) {
  bool zero = false;
  begin();
  struct folio *folio = folio_alloc(512, 1, CLASS, false, &zero);
  CU_ASSERT_TRUE(zero);
  const char *p = folio_addr(folio);
  for (size_t i = 0; i < folio_size(folio); i += 61) CU_ASSERT_EQUAL(p[i], 0);
  memset(folio_addr(folio), 0xff, folio_size(folio));
  folio_free(folio);
  folio = folio_alloc(512, 1, CLASS, false, &zero);
  CU_ASSERT_FALSE(zero);
  folio_free(folio);
  (void)frames_purge(0);
  folio = folio_alloc(512, 1, CLASS, false, &zero);
  CU_ASSERT_TRUE(zero);
  p = folio_addr(folio);
  for (size_t i = 0; i < folio_size(folio); i += 61) CU_ASSERT_EQUAL(p[i], 0);
  end();
}

/* Purging gives memory back to the kernel, and not only in the books. */
static void purged_memory_is_gone(void) {
  begin();
  struct folio *folio = get(1000);
  memset(folio_addr(folio), 1, folio_size(folio));
  const void *p = folio_addr(folio);
  CU_ASSERT_EQUAL(fake_resident(p, 1000 * FRAME_SIZE), 1000 * FRAME_SIZE);
  folio_free(folio);
  CU_ASSERT_EQUAL(frames_purge(0), 1000);
  CU_ASSERT_EQUAL(fake_resident(p, 1000 * FRAME_SIZE), 0);
  end();
}

/* ---- compaction's part ---- */

static const struct owner_ops *ops(void) { return folio_cache.ops; }

static unsigned flags_of(const struct folio *folio, size_t i) {
  return memdesc_flags(memmap_get(pfn_add(folio->pfn, i)));
}

static void isolated_folios_stay_as_they_are(void) {
  begin();
  struct folio *folio = get(600);
  struct migration m = {0};
  pfn_t pfn = folio->pfn;
  fill(folio, 0, 600);
  CU_ASSERT_EQUAL(ops()->isolate(folio, pfn_add(pfn, 599)), OWNER_DONE);
  CU_ASSERT_EQUAL(ops()->isolate(folio, pfn), OWNER_BUSY);
  CU_ASSERT_EQUAL(flags_of(folio, 0), MEMDESC_ISOLATED);
  CU_ASSERT_EQUAL(flags_of(folio, 599), MEMDESC_ISOLATED);
  CU_ASSERT_EQUAL(ops()->dirty(folio), ~(uint64_t)0);
  CU_ASSERT_EQUAL(ops()->migrate(folio, &m), OWNER_NEVER);
  CU_ASSERT_FALSE(folio_resize(folio, 700, CLASS));
  CU_ASSERT_FALSE(folio_resize(folio, 100, CLASS));
  CU_ASSERT_FALSE(folio_resize(folio, 600, 90));
  CU_ASSERT_PTR_NULL(folio_move(folio, 700, CLASS));
  CU_ASSERT_EQUAL(folio_pin(folio, pfn), -EBUSY);
  ops()->put_back(folio);
  CU_ASSERT_EQUAL(flags_of(folio, 0), 0);
  CU_ASSERT_TRUE(holds(folio, 600));
  CU_ASSERT_TRUE(folio_resize(folio, 700, CLASS));
  CU_ASSERT_TRUE(folio_consistent(folio));
  CU_ASSERT_TRUE(folio_free(folio));
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void dirty_has_a_bit_per_frame(void) {
  begin();
  struct folio *folio = get(5);
  CU_ASSERT_EQUAL(ops()->isolate(folio, folio->pfn), OWNER_DONE);
  CU_ASSERT_EQUAL(ops()->dirty(folio), 0x1f);
  ops()->put_back(folio);
  end();
}

static void freed_while_isolated_it_goes_when_put_back(void) {
  begin();
  struct folio *folio = get(30);
  pfn_t pfn = folio->pfn;
  CU_ASSERT_EQUAL(ops()->isolate(folio, pfn), OWNER_DONE);
  CU_ASSERT_TRUE(folio_free(folio));
  CU_ASSERT_FALSE(folio_free(folio)); /* a double free is seen all the same */
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn)), MEMDESC_FOLIO);
  CU_ASSERT_EQUAL(frames_used(), 30);
  ops()->put_back(folio);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn)), MEMDESC_FREE);
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(folio_cache.nlive, 0);
  CU_ASSERT_FALSE(folio_free(folio));
  end();
}

/* The frame was found by its memdesc, and has changed hands since. */
static void stale_pointers_are_seen(void) {
  begin();
  struct folio *folio = get(30), *other = get(30);
  pfn_t pfn = folio->pfn, elsewhere = other->pfn;
  CU_ASSERT_EQUAL(ops()->isolate(folio, elsewhere), OWNER_BUSY);
  CU_ASSERT_EQUAL(hold_state(&folio->refs), HOLD_LIVE);
  CU_ASSERT_EQUAL(folio_pin(folio, elsewhere), -EINVAL);
  CU_ASSERT_EQUAL(flags_of(folio, 0), 0);
  CU_ASSERT_TRUE(folio_free(folio));
  CU_ASSERT_EQUAL(ops()->isolate(folio, pfn), OWNER_BUSY);
  CU_ASSERT_EQUAL(folio_pin(folio, pfn), -EINVAL);
  CU_ASSERT_EQUAL(ops()->poison(folio, pfn), OWNER_BUSY);
  end();
}

static void pinned_folios_stay_where_they_are(void) {
  begin();
  struct folio *folio = get(600);
  pfn_t pfn = folio->pfn;
  CU_ASSERT_EQUAL(folio_pin(folio, pfn_add(pfn, 20)), 0);
  CU_ASSERT_EQUAL(folio_pin(folio, pfn), 0);
  CU_ASSERT_EQUAL(flags_of(folio, 0), MEMDESC_PINNED);
  CU_ASSERT_EQUAL(flags_of(folio, 599), MEMDESC_PINNED);
  CU_ASSERT_EQUAL(pin_frames(), 600);
  CU_ASSERT_EQUAL(ops()->isolate(folio, pfn), OWNER_PINNED);
  CU_ASSERT_FALSE(folio_resize(folio, 700, CLASS));
  CU_ASSERT_PTR_NULL(folio_move(folio, 700, CLASS));
  folio_unpin(folio);
  CU_ASSERT_EQUAL(ops()->isolate(folio, pfn), OWNER_PINNED);
  folio_unpin(folio);
  CU_ASSERT_EQUAL(flags_of(folio, 599), 0);
  CU_ASSERT_EQUAL(pin_frames(), 0);
  folio_unpin(folio); /* one too many does no harm */
  CU_ASSERT_EQUAL(ops()->isolate(folio, pfn), OWNER_DONE);
  ops()->put_back(folio);
  CU_ASSERT_EQUAL(folio_pin(folio, pfn), 0);
  CU_ASSERT_TRUE(folio_free(folio)); /* takes its pins along */
  CU_ASSERT_EQUAL(pin_frames(), 0);
  CU_ASSERT_EQUAL(memdesc_flags(memmap_get(pfn)), 0);
  end();
}

static void pins_are_bounded(void) {
  begin();
  struct folio *folio = get(1);
  folio->refs = HOLD_LIVE | (uint32_t)HOLD_PINS_MAX << HOLD_PIN_SHIFT;
  CU_ASSERT_EQUAL(folio_pin(folio, folio->pfn), -EOVERFLOW);
  CU_ASSERT_EQUAL(hold_pins(&folio->refs), HOLD_PINS_MAX);
  folio->refs = HOLD_LIVE;
  end();
}

/* What compaction sets aside can't be pinned until it is back. */
static void no_pin_where_the_backing_changes(void) {
  begin();
  struct frames_run run;
  CU_ASSERT_EQUAL(frames_alloc(8, 1, FRAMES_SLAB, &run), 0);
  hpn_t hpn = pfn_hugepage(run.pfn);
  CU_ASSERT_EQUAL(pin_check(run.pfn, 8), 0);
  frames_lock_discard();
  CU_ASSERT_TRUE(frames_isolate(hpn));
  CU_ASSERT_EQUAL(pin_check(run.pfn, 8), -EBUSY);
  frames_restore(hpn, false);
  frames_unlock_discard();
  CU_ASSERT_EQUAL(pin_check(run.pfn, 8), 0);
  frames_free(run.pfn, 8);
  end();
}

static pfn_t watched;
static int checked;
static void pin_meanwhile(enum fake_call call, unused char *p, unused char *to,
                          unused size_t length) {
  if (call == FAKE_COLLAPSE) checked = pin_check(watched, 1);
}

static void no_pin_where_pages_are_put_together(void) {
  begin();
  struct folio *folio = get(HUGEPAGE_FRAMES);
  hpn_t hpn = pfn_hugepage(folio->pfn);
  CU_ASSERT_EQUAL(folio_pin(folio, folio->pfn), 0);
  CU_ASSERT_EQUAL(frames_collapse(hpn), -EBUSY);
  CU_ASSERT_EQUAL(fake.calls[FAKE_COLLAPSE], 0);
  folio_unpin(folio);
  watched = folio->pfn;
  checked = 0;
  fake.seen = pin_meanwhile;
  (void)frames_collapse(hpn);
  CU_ASSERT_EQUAL(fake.calls[FAKE_COLLAPSE], 1);
  CU_ASSERT_EQUAL(checked, -EBUSY);
  CU_ASSERT_EQUAL(pin_check(watched, 1), 0);
  end();
}

static uintptr_t shared[2]; /* folios that live, and perhaps those that just died */
static uint32_t owners_running;

/* The owner of folio i: allocates, resizes and frees it at full speed. */
static void *own(void *arg) {
  uintptr_t *mine = arg;
  struct random r = {(uintptr_t)(mine - shared) + 7};
  struct folio *folio = NULL;
  for (uint64_t i = 0; i < test_steps(100000); i++) {
    bool zero;
    if (folio == NULL) {
      folio = folio_alloc(1 + random_below(&r, 8), 1, CLASS, false, &zero);
      store_release(mine, (uintptr_t)folio);
    } else if (random_below(&r, 3) == 0) {
      if (!folio_free(folio)) return "double free";
      folio = NULL;
    } else {
      size_t n = 1 + random_below(&r, 8);
      if (folio_resize(folio, n, CLASS) && folio->nframes != n) return "not resized";
    }
  }
  if (folio != NULL) (void)folio_free(folio);
  (void)sub_relaxed(&owners_running, 1);
  return NULL;
}

/* Between isolate and put_back its frames and its length are its own and stand still. */
static const char *isolate_once(struct folio *folio) {
  struct owner_view view;
  ops()->describe(folio, &view);
  pfn_t pfn = view.first;
  if (ops()->isolate(folio, pfn) != OWNER_DONE) return NULL;
  uint32_t n = folio->nframes; /* it may be another than was meant, around the same frame */
  const char *wrong = pfn.n - folio->pfn.n < n ? NULL : "another place";
  pfn = folio->pfn;
  for (uint32_t i = 0; i < n; i++) {
    memdesc_t d = memmap_peek(pfn_add(pfn, i));
    if (memdesc_type(d) != MEMDESC_FOLIO || memdesc_owner(d) != folio) wrong = "not its frame";
    if ((memdesc_flags(d) & MEMDESC_ISOLATED) == 0) wrong = "not isolated";
  }
  if (folio->nframes != n || folio->pfn.n != pfn.n) wrong = "length changed";
  ops()->put_back(folio);
  return wrong;
}

static void *isolate_always(void *arg) {
  struct random r = {99};
  const char *wrong = NULL;
  (void)arg;
  while (load_relaxed(&owners_running) != 0 && wrong == NULL) {
    struct folio *folio = (void *)load_acquire(&shared[random_below(&r, 2)]);
    if (folio != NULL) wrong = isolate_once(folio);
  }
  return (void *)wrong;
}

static void owners_and_compaction_keep_apart(void) {
  pthread_t threads[3];
  begin();
  shared[0] = shared[1] = 0;
  store_relaxed(&owners_running, 2);
  pthread_create(&threads[0], NULL, own, &shared[0]);
  pthread_create(&threads[1], NULL, own, &shared[1]);
  pthread_create(&threads[2], NULL, isolate_always, NULL);
  for (int i = 0; i < 3; i++) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    if (wrong != NULL) printf("thread %d: %s\n", i, (const char *)wrong);
    CU_ASSERT_PTR_NULL(wrong);
  }
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(folio_cache.nlive, 0);
  end();
}

/* ---- failed memory ---- */

static void failed_frames_go_for_good(void) {
  begin();
  struct folio *folio = get(30);
  pfn_t pfn = folio->pfn, bad = pfn_add(pfn, 17);
  CU_ASSERT_EQUAL(poison_frame(bad), OWNER_NEVER);
  CU_ASSERT_EQUAL(poison_frame(bad), OWNER_NEVER);
  CU_ASSERT_EQUAL(poison_frame(pfn), OWNER_NEVER);
  CU_ASSERT_EQUAL(poison_noted(), 2);
  CU_ASSERT_FALSE(folio_resize(folio, 20, CLASS));
  CU_ASSERT_TRUE(folio_consistent(folio));
  CU_ASSERT_TRUE(folio_free(folio));
  CU_ASSERT_EQUAL(poison_noted(), 0);
  CU_ASSERT_EQUAL(poison_frames(), 2);
  CU_ASSERT_EQUAL(frames_used(), 2);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(bad)), MEMDESC_POISON);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn)), MEMDESC_POISON);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn_add(pfn, 1))), MEMDESC_FREE);
  CU_ASSERT_EQUAL(poison_frame(bad), OWNER_DONE);
  /* Whatever is allocated now lies elsewhere. */
  for (int i = 0; i < 1000; i++) {
    struct folio *next = get(1 + (size_t)i % 5);
    CU_ASSERT_TRUE(next->pfn.n + next->nframes <= pfn.n || next->pfn.n > pfn.n);
    CU_ASSERT_TRUE(next->pfn.n + next->nframes <= bad.n || next->pfn.n > bad.n);
  }
  end();
}

static void failed_free_frames_are_never_used(void) {
  begin();
  struct folio *folio = get(2);
  pfn_t pfn = folio->pfn, bad = pfn_add(pfn, 1);
  CU_ASSERT_TRUE(folio_free(folio));
  CU_ASSERT_EQUAL(poison_frame(bad), OWNER_DONE);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(bad)), MEMDESC_POISON);
  CU_ASSERT_EQUAL(frames_used(), 1);
  folio = get(2);
  CU_ASSERT_NOT_EQUAL(folio->pfn.n, pfn.n);
  pfn_t beyond = {arena.opened * HUGEPAGE_FRAMES};
  CU_ASSERT_EQUAL(poison_frame(beyond), OWNER_BUSY);
  (void)frames_purge(0);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(bad)), MEMDESC_POISON);
  end();
}

static const struct unit_test tests[] = {
    {"every_frame_names_the_folio", every_frame_names_the_folio},
    {"alignments_are_kept", alignments_are_kept},
    {"resizing_keeps_place_and_contents", resizing_keeps_place_and_contents},
    {"classes_change_everywhere", classes_change_everywhere},
    {"moving_takes_the_contents_along", moving_takes_the_contents_along},
    {"refused_move_leaves_all_as_it_was", refused_move_leaves_all_as_it_was},
    {"exhaustion_is_null", exhaustion_is_null},
    {"guards_fault", guards_fault},
    {"refused_guard_is_done_without", refused_guard_is_done_without},
    {"guards_cover_system_pages", guards_cover_system_pages},
    {"fresh_folios_are_zero", fresh_folios_are_zero},
    {"purged_memory_is_gone", purged_memory_is_gone},
    {"isolated_folios_stay_as_they_are", isolated_folios_stay_as_they_are},
    {"dirty_has_a_bit_per_frame", dirty_has_a_bit_per_frame},
    {"freed_while_isolated_it_goes_when_put_back", freed_while_isolated_it_goes_when_put_back},
    {"stale_pointers_are_seen", stale_pointers_are_seen},
    {"pinned_folios_stay_where_they_are", pinned_folios_stay_where_they_are},
    {"pins_are_bounded", pins_are_bounded},
    {"no_pin_where_the_backing_changes", no_pin_where_the_backing_changes},
    {"no_pin_where_pages_are_put_together", no_pin_where_pages_are_put_together},
    {"owners_and_compaction_keep_apart", owners_and_compaction_keep_apart},
    {"failed_frames_go_for_good", failed_frames_go_for_good},
    {"failed_free_frames_are_never_used", failed_free_frames_are_never_used},
    {0},
};

int main(void) { return unit_main("folio", tests); }
