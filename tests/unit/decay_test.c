/* Giving memory back, and hugepages: a clock set by hand and a kernel that refuses on demand. */
#include <errno.h>

#include "arch/sys.h"
#include "page/frames.h"
#include "page/hugepage.h"
#include "tests/unit/check.h"
#include "tests/unit/fake.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

enum { DECAY_MS = 1000, SLOT_MS = DECAY_MS / 8 };

static void begin(void) { heap_begin(ARENA, true); }

static void end(void) {
  CU_ASSERT_TRUE(frames_consistent());
  heap_end();
}

static pfn_t get(size_t n, enum frames_kind kind) {
  struct frames_run run = {0};
  CU_ASSERT_EQUAL_FATAL(frames_alloc(n, 1, kind, &run), 0);
  return run.pfn;
}

static struct frames_stats stats_now(void) {
  struct frames_stats stats;
  frames_stats(&stats);
  return stats;
}

static size_t dirty(void) { return stats_now().free_resident; }

static uint64_t step(uint64_t ms) {
  fake.now += ms;
  uint64_t next = frames_decay(fake.now);
  CU_ASSERT_TRUE(frames_consistent());
  return next;
}

/* Steps of an eighth for as long as decay takes. */
static void let_decay(void) {
  for (int i = 0; i < 10; i++) (void)step(SLOT_MS);
}

static void freed_frames_stay_for_the_decay_time(void) {
  begin();
  pfn_t a = get(2000, FRAMES_FOLIO);
  (void)step(0);
  frames_free(a, 2000);
  CU_ASSERT_EQUAL(dirty(), 2000);
  for (int i = 0; i < 7; i++) {
    CU_ASSERT_NOT_EQUAL(step(SLOT_MS), UINT64_MAX); /* wants to be called again */
    CU_ASSERT_EQUAL(dirty(), 2000);
  }
  (void)step(SLOT_MS);
  (void)step(SLOT_MS);
  CU_ASSERT_EQUAL(dirty(), 0);
  CU_ASSERT_EQUAL(stats_now().discarded, 2000);
  CU_ASSERT_EQUAL(step(SLOT_MS), UINT64_MAX); /* nothing left to do */
  end();
}

/* A program that needs its memory again within the decay time keeps it: no call to the kernel at
 * all. */
static void demand_keeps_what_comes_again(void) {
  begin();
  (void)step(0);
  pfn_t a = get(2048, FRAMES_FOLIO);
  for (int i = 0; i < 40; i++) {
    frames_free(a, 2048);
    (void)step(SLOT_MS * 2);
    (void)step(SLOT_MS * 3);
    a = get(2048, FRAMES_FOLIO);
  }
  CU_ASSERT_EQUAL(stats_now().discards, 0);
  /* Half of it from now on: the other half goes, and no more. */
  frames_free(pfn_add(a, 1024), 1024);
  let_decay();
  CU_ASSERT_EQUAL(dirty(), 0);
  CU_ASSERT_EQUAL(stats_now().used, 1024);
  end();
}

static void a_long_pause_counts_as_all_its_slots(void) {
  begin();
  (void)step(0);
  frames_free(get(600, FRAMES_FOLIO), 600);
  (void)step(SLOT_MS);
  (void)step(100 * DECAY_MS);
  CU_ASSERT_EQUAL(dirty(), 0);
  end();
}

static void no_decay_time_discards_at_each_tick(void) {
  begin();
  heap_configure(FRAMES_HUGE_NEVER, 0, 0);
  frames_free(get(600, FRAMES_FOLIO), 600);
  CU_ASSERT_TRUE(frames_decay_due());
  (void)step(0);
  CU_ASSERT_EQUAL(dirty(), 0);
  end();
}

static void due_says_when_a_step_is_worth_while(void) {
  begin();
  CU_ASSERT_FALSE(frames_decay_due()); /* nothing is dirty */
  pfn_t a = get(100, FRAMES_FOLIO);
  (void)step(0);
  frames_free(a, 100);
  CU_ASSERT_FALSE(frames_decay_due());
  fake.now += SLOT_MS;
  CU_ASSERT_TRUE(frames_decay_due());
  end();
}

/* Empty hugepages first, whole; then holes of the emptiest; nearly full ones are left alone. */
static void the_cheapest_goes_first(void) {
  begin();
  (void)step(0);
  pfn_t full = get(HUGEPAGE_FRAMES, FRAMES_FOLIO), sparse = get(HUGEPAGE_FRAMES, FRAMES_FOLIO),
        gone = get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
  frames_free(pfn_add(full, 10), 2);
  frames_free(pfn_add(sparse, 1), 500);
  frames_free(gone, HUGEPAGE_FRAMES);
  unsigned from = fake.logged;
  let_decay();
  CU_ASSERT_EQUAL(fake_logged(FAKE_DISCARD, from), 2);
  CU_ASSERT_PTR_EQUAL(fake.log[from].p, arena_addr(gone));
  CU_ASSERT_EQUAL(fake.log[from].length, HUGEPAGE_SIZE);
  CU_ASSERT_PTR_EQUAL(fake.log[from + 1].p, arena_addr(pfn_add(sparse, 1)));
  CU_ASSERT_EQUAL(fake.log[from + 1].length, 500 * FRAME_SIZE);
  CU_ASSERT_EQUAL(dirty(), 2);
  /* By force, those too. */
  CU_ASSERT_EQUAL(frames_purge(0), 2);
  CU_ASSERT_EQUAL(dirty(), 0);
  end();
}

static void purge_keeps_what_it_is_told_to(void) {
  begin();
  pfn_t a = get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
  for (unsigned i = 0; i < HUGEPAGE_FRAMES; i += 2) frames_free(pfn_add(a, i), 1);
  CU_ASSERT_EQUAL(dirty(), 256);
  CU_ASSERT_EQUAL(frames_purge(56), 200);
  CU_ASSERT_EQUAL(dirty(), 56);
  CU_ASSERT_EQUAL(frames_purge(1000), 0);
  CU_ASSERT_EQUAL(frames_purge(0), 56);
  CU_ASSERT_EQUAL(stats_now().discarded, 256);
  end();
}

/* As on memory that is locked: nothing is lost, nothing is called zero, and the pass ends. */
static void refused_discards_leave_frames_dirty(void) {
  struct frames_run run;
  begin();
  (void)step(0);
  pfn_t a = get(3 * HUGEPAGE_FRAMES, FRAMES_FOLIO);
  frames_free(pfn_add(a, 100), 2 * HUGEPAGE_FRAMES);
  fake.refuse[FAKE_DISCARD] = -EINVAL;
  let_decay();
  CU_ASSERT_EQUAL(frames_purge(0), 0);
  CU_ASSERT_EQUAL(dirty(), 2 * HUGEPAGE_FRAMES);
  CU_ASSERT_TRUE(stats_now().discard_failures > 0);
  CU_ASSERT_EQUAL(stats_now().discarded, 0);
  CU_ASSERT_EQUAL(frames_alloc(HUGEPAGE_FRAMES, 1, FRAMES_FOLIO, &run), 0);
  CU_ASSERT_FALSE(run.zero);
  frames_free(run.pfn, HUGEPAGE_FRAMES);
  fake.refuse[FAKE_DISCARD] = 0;
  CU_ASSERT_EQUAL(frames_purge(0), 2 * HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(frames_alloc(HUGEPAGE_FRAMES, 1, FRAMES_FOLIO, &run), 0);
  CU_ASSERT_TRUE(run.zero);
  end();
}

static bool allocated_meanwhile;
static unsigned discards_seen;

/* While a discard is under way the lock is free: others allocate, but never what is being
 * discarded. */
static void allocate_during(enum fake_call call, char *p, unused char *to, size_t length) {
  if (call != FAKE_DISCARD || discards_seen++ > 0) return;
  for (int i = 0; i < 40; i++) {
    struct frames_run run;
    if (frames_alloc(100, 1, FRAMES_FOLIO, &run) != 0) return;
    char *at = arena_addr(run.pfn);
    if (at < p + length && p < at + 100 * FRAME_SIZE) return;
    frames_free(run.pfn, 100);
  }
  allocated_meanwhile = true;
}

static void frames_being_discarded_are_set_aside(void) {
  for (int partial = 0; partial < 2; partial++) {
    begin();
    pfn_t a = get(2 * HUGEPAGE_FRAMES, FRAMES_FOLIO);
    frames_free(pfn_add(a, partial ? 10 : 0), HUGEPAGE_FRAMES - (partial ? 10 : 0));
    discards_seen = 0;
    allocated_meanwhile = false;
    fake.seen = allocate_during;
    (void)frames_purge(0);
    fake.seen = NULL;
    CU_ASSERT_TRUE(allocated_meanwhile);
    end();
  }
}

static void zeroed_frames_stay_used(void) {
  begin();
  pfn_t a = get(100, FRAMES_FOLIO);
  CU_ASSERT_EQUAL(frames_zero(a, 100), 0);
  CU_ASSERT_EQUAL(stats_now().used, 100);
  fake.refuse[FAKE_DISCARD] = -EINVAL;
  CU_ASSERT_EQUAL(frames_zero(a, 100), -EINVAL);
  frames_free(a, 100);
  CU_ASSERT_EQUAL(dirty(), 100); /* they may have been written after */
  end();
}

static void moved_hugepages_get_a_fresh_mapping(void) {
  begin();
  pfn_t a = get(HUGEPAGE_FRAMES, FRAMES_FOLIO), b = get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
  CU_ASSERT_EQUAL(frames_move(a, b, HUGEPAGE_FRAMES), 0);
  frames_free_zero(a, HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(stats_now().moves, 1);
  CU_ASSERT_EQUAL(dirty(), 0); /* a holds no memory any more */
  frames_free(b, HUGEPAGE_FRAMES);
  unsigned from = fake.logged;
  CU_ASSERT_EQUAL(frames_purge(0), HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(fake_logged(FAKE_REFRESH, from), 1);
  CU_ASSERT_EQUAL(fake_logged(FAKE_DISCARD, from), 0);
  end();
}

static void refused_moves_change_nothing(void) {
  begin();
  pfn_t a = get(100, FRAMES_FOLIO), b = get(100, FRAMES_FOLIO);
  fake.refuse[FAKE_MOVE] = -ENOMEM;
  CU_ASSERT_EQUAL(frames_move(a, b, 100), -ENOMEM);
  CU_ASSERT_EQUAL(stats_now().moves, 0);
  frames_free(a, 100);
  CU_ASSERT_EQUAL(dirty(), 100);
  end();
}

/* ---- system pages larger than a frame ---- */

static void large_system_pages_are_discarded_whole(void) {
  static const unsigned units[] = {4, 16};
  for (unsigned i = 0; i < array_size(units); i++) {
    unsigned unit = units[i];
    begin();
    sys_set_page_size(unit * (size_t)FRAME_SIZE);
    pfn_t a = get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
    frames_free(pfn_add(a, 1), unit - 1);            /* no whole page */
    frames_free(pfn_add(a, 4 * unit + 1), 3 * unit); /* two whole ones, and edges */
    unsigned from = fake.logged;
    CU_ASSERT_EQUAL(frames_purge(0), 2 * unit);
    CU_ASSERT_EQUAL(dirty(), 2 * unit - 1);
    CU_ASSERT_EQUAL(fake_logged(FAKE_DISCARD, from), 1);
    CU_ASSERT_PTR_EQUAL(fake.log[from].p, arena_addr(pfn_add(a, 5 * unit)));
    CU_ASSERT_EQUAL(fake.log[from].length, 2 * unit * (size_t)FRAME_SIZE);
    /* Moves and zeroing are for whole system pages only. */
    pfn_t b = get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
    CU_ASSERT_EQUAL(frames_move(b, pfn_add(b, 4 * unit), unit + 1), -EINVAL);
    CU_ASSERT_EQUAL(frames_move(pfn_add(b, 1), pfn_add(b, 4 * unit), unit), -EINVAL);
    CU_ASSERT_EQUAL(frames_zero(pfn_add(b, 1), unit), -EINVAL);
    CU_ASSERT_EQUAL(frames_zero(b, unit), 0);
    end();
  }
}

static void every_call_is_on_system_pages(enum fake_call call, char *p, char *to, size_t length) {
  if (call == FAKE_RESERVE) return;
  CU_ASSERT_EQUAL(length % (64 << 10), 0);
  if (!arena_contains(p)) return; /* tables are real here, and so on this machine's pages */
  CU_ASSERT_EQUAL((uintptr_t)p % (64 << 10), 0);
  CU_ASSERT_EQUAL((uintptr_t)to % (64 << 10), 0);
}

static void calls_keep_to_system_pages(void) {
  fake_install();
  sys_set_page_size(64 << 10);
  fake.made_up_from = ARENA;
  heap_configure(FRAMES_HUGE_AUTO, 4 << 20, DECAY_MS);
  CU_ASSERT_EQUAL_FATAL(arena_init(ARENA), 0);
  fake.seen = every_call_is_on_system_pages;
  for (size_t n = 1; n < 3000; n = n * 3 / 2 + 1) {
    pfn_t a = get(n, n % 2 == 0 ? FRAMES_SLAB : FRAMES_FOLIO);
    frames_free(pfn_add(a, n / 3), n - n / 3);
    let_decay();
    (void)frames_purge(0);
  }
  end();
}

/* ---- hugepages ---- */

static unsigned advised_huge; /* hugepages that the kernel was asked to back whole */

static void count_advice(enum fake_call call, unused char *p, char *to, size_t length) {
  if (call == FAKE_ADVISE_HUGE && to != NULL) advised_huge += (unsigned)(length / HUGEPAGE_SIZE);
}

static void begin_huge(enum frames_huge huge, size_t threshold) {
  begin();
  heap_configure(huge, threshold, DECAY_MS);
  advised_huge = 0;
  fake.seen = count_advice;
}

static void never_asks_for_none(void) {
  begin_huge(FRAMES_HUGE_NEVER, 0);
  for (int i = 0; i < 40; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  CU_ASSERT_EQUAL(advised_huge, 0);
  CU_ASSERT_EQUAL(stats_now().huge_advised, 0);
  CU_ASSERT_EQUAL(fake.calls[FAKE_POPULATE], 0);
  end();
}

static void always_asks_from_the_first_on(void) {
  begin_huge(FRAMES_HUGE_ALWAYS, SIZE_MAX);
  (void)get(1, FRAMES_SLAB);
  CU_ASSERT_TRUE(advised_huge >= 1);
  CU_ASSERT_EQUAL(stats_now().huge_advised, advised_huge);
  end();
}

static void auto_waits_for_the_threshold(void) {
  begin_huge(FRAMES_HUGE_AUTO, 16 << 20);
  for (int i = 0; i < 8; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
  CU_ASSERT_EQUAL(advised_huge, 0);
  for (int i = 0; i < 8; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
  CU_ASSERT_TRUE(advised_huge >= 7);
  end();
}

static void hugepages_that_are_none_make_it_back_off(void) {
  begin_huge(FRAMES_HUGE_AUTO, 0);
  fake.populate_faults = 512;
  for (int i = 0; i < 10; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  CU_ASSERT_TRUE(stats_now().huge_fallbacks >= 3);
  unsigned before = advised_huge;
  uint64_t fallbacks = stats_now().huge_fallbacks;
  for (int i = 0; i < 10; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
  CU_ASSERT_EQUAL(advised_huge, before);
  fake.now += 60000; /* it asks again, and now the kernel has some */
  fake.populate_faults = 1;
  for (int i = 0; i < 10; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  CU_ASSERT_TRUE(advised_huge > before);
  CU_ASSERT_EQUAL(stats_now().huge_fallbacks, fallbacks);
  end();
}

static void hugepages_that_take_long_make_it_back_off(void) {
  begin_huge(FRAMES_HUGE_AUTO, 0);
  fake.populate_us = 5000;
  for (int i = 0; i < 10; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  CU_ASSERT_TRUE(stats_now().huge_stalls >= 1);
  unsigned before = advised_huge;
  for (int i = 0; i < 10; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  CU_ASSERT_EQUAL(advised_huge, before);
  fake.now += 60000;
  fake.populate_us = 100;
  for (int i = 0; i < 10; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  CU_ASSERT_TRUE(advised_huge > before);
  end();
}

static void refused_advice_is_no_failure(void) {
  begin_huge(FRAMES_HUGE_ALWAYS, 0);
  fake.refuse[FAKE_ADVISE_HUGE] = -EINVAL; /* a kernel without transparent hugepages */
  fake.refuse[FAKE_POPULATE] = -EINVAL;
  for (int i = 0; i < 10; i++) (void)get(300, FRAMES_SLAB);
  CU_ASSERT_EQUAL(stats_now().huge_advised, 0);
  CU_ASSERT_EQUAL(stats_now().used, 3000);
  end();
}

static void hugetlb_comes_from_the_pool(void) {
  begin_huge(FRAMES_HUGE_HUGETLB, 0);
  pfn_t a = get(100, FRAMES_FOLIO);
  CU_ASSERT_TRUE(fake.calls[FAKE_REFRESH_HUGETLB] >= 1);
  CU_ASSERT_TRUE((arena.hugepages[pfn_hugepage(a).n].flags & HUGEPAGE_HUGETLB) != 0);
  CU_ASSERT_EQUAL(advised_huge, 0);
  /* The pool's pages can't be broken or moved. */
  frames_free(pfn_add(a, 50), 50);
  CU_ASSERT_EQUAL(frames_purge(0), 0);
  CU_ASSERT_EQUAL(frames_move(a, pfn_add(a, 10), 10), -EINVAL);
  end();
}

static void empty_pool_falls_back(void) {
  begin_huge(FRAMES_HUGE_HUGETLB, 0);
  fake.refuse[FAKE_REFRESH_HUGETLB] = -ENOMEM;
  pfn_t a = get(100, FRAMES_FOLIO);
  CU_ASSERT_TRUE((arena.hugepages[pfn_hugepage(a).n].flags & HUGEPAGE_HUGETLB) == 0);
  CU_ASSERT_TRUE(advised_huge >= 1);
  frames_free(pfn_add(a, 50), 50);
  CU_ASSERT_EQUAL(frames_purge(0), 50);
  end();
}

/* What filled while it had small pages is collapsed later, once each. */
static void filled_hugepages_are_collapsed(void) {
  begin_huge(FRAMES_HUGE_AUTO, 16 << 20);
  for (int i = 0; i < 5; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  CU_ASSERT_FALSE(frames_collapse_one()); /* below the threshold */
  for (int i = 0; i < 10; i++) (void)get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  CU_ASSERT_TRUE(frames_collapse_one());
  int more = 0;
  while (more < 100 && frames_collapse_one()) more++;
  CU_ASSERT_TRUE(more < 15);
  CU_ASSERT_EQUAL(fake.calls[FAKE_COLLAPSE], (unsigned)more + 1);
  end();
}

static const struct unit_test tests[] = {
    {"freed_frames_stay_for_the_decay_time", freed_frames_stay_for_the_decay_time},
    {"demand_keeps_what_comes_again", demand_keeps_what_comes_again},
    {"a_long_pause_counts_as_all_its_slots", a_long_pause_counts_as_all_its_slots},
    {"no_decay_time_discards_at_each_tick", no_decay_time_discards_at_each_tick},
    {"due_says_when_a_step_is_worth_while", due_says_when_a_step_is_worth_while},
    {"the_cheapest_goes_first", the_cheapest_goes_first},
    {"purge_keeps_what_it_is_told_to", purge_keeps_what_it_is_told_to},
    {"refused_discards_leave_frames_dirty", refused_discards_leave_frames_dirty},
    {"frames_being_discarded_are_set_aside", frames_being_discarded_are_set_aside},
    {"zeroed_frames_stay_used", zeroed_frames_stay_used},
    {"moved_hugepages_get_a_fresh_mapping", moved_hugepages_get_a_fresh_mapping},
    {"refused_moves_change_nothing", refused_moves_change_nothing},
    {"large_system_pages_are_discarded_whole", large_system_pages_are_discarded_whole},
    {"calls_keep_to_system_pages", calls_keep_to_system_pages},
    {"never_asks_for_none", never_asks_for_none},
    {"always_asks_from_the_first_on", always_asks_from_the_first_on},
    {"auto_waits_for_the_threshold", auto_waits_for_the_threshold},
    {"hugepages_that_are_none_make_it_back_off", hugepages_that_are_none_make_it_back_off},
    {"hugepages_that_take_long_make_it_back_off", hugepages_that_take_long_make_it_back_off},
    {"refused_advice_is_no_failure", refused_advice_is_no_failure},
    {"hugetlb_comes_from_the_pool", hugetlb_comes_from_the_pool},
    {"empty_pool_falls_back", empty_pool_falls_back},
    {"filled_hugepages_are_collapsed", filled_hugepages_are_collapsed},
    {0},
};

int main(void) { return unit_main("decay", tests); }
