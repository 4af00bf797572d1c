/* Placement of frames, in arenas of made-up addresses. What is given back, and when, is
 * decay_test.c's. */
#include "page/frames.h"

#include <errno.h>

#include "arch/sys.h"
#include "page/hugepage.h"
#include "tests/unit/check.h"
#include "tests/unit/fake.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

static void begin(void) { heap_begin(ARENA, true); }

static void end(void) {
  CU_ASSERT_TRUE(frames_consistent());
  heap_end();
}

static pfn_t get_aligned(size_t n, size_t align, enum frames_kind kind) {
  struct frames_run run = {.pfn = {UINT32_MAX}};
  CU_ASSERT_EQUAL_FATAL(frames_alloc(n, align, kind, &run), 0);
  CU_ASSERT_EQUAL(run.nframes, n);
  return run.pfn;
}

static pfn_t get(size_t n, enum frames_kind kind) { return get_aligned(n, 1, kind); }

static unsigned hugepage_of(pfn_t pfn) { return pfn_hugepage(pfn).n; }

static void one_frame_opens_a_hugepage(void) {
  struct frames_run run;
  struct frames_stats stats;
  begin();
  CU_ASSERT_EQUAL_FATAL(frames_alloc(1, 1, FRAMES_SLAB, &run), 0);
  CU_ASSERT_TRUE(run.zero);
  frames_stats(&stats);
  CU_ASSERT_EQUAL(stats.used, 1);
  CU_ASSERT_EQUAL(stats.hugepages, 1);
  CU_ASSERT_EQUAL(stats.opened, (size_t)arena.opened * HUGEPAGE_FRAMES);
  frames_free(run.pfn, 1);
  frames_stats(&stats);
  CU_ASSERT_EQUAL(stats.used, 0);
  CU_ASSERT_EQUAL(stats.hugepages, 0);
  CU_ASSERT_EQUAL(stats.free_resident, 1);
  CU_ASSERT_EQUAL(stats.peak_used, 1);
  end();
}

static void fullest_that_fits_is_chosen(void) {
  begin();
  pfn_t a = get(300, FRAMES_SLAB), b = get(300, FRAMES_SLAB), c = get(300, FRAMES_SLAB);
  CU_ASSERT_NOT_EQUAL(hugepage_of(a), hugepage_of(b));
  CU_ASSERT_NOT_EQUAL(hugepage_of(b), hugepage_of(c));
  frames_free(pfn_add(a, 50), 250); /* the lowest address is the emptiest */
  frames_free(pfn_add(b, 200), 100);
  CU_ASSERT_EQUAL(hugepage_of(get(10, FRAMES_SLAB)), hugepage_of(c));
  CU_ASSERT_EQUAL(hugepage_of(get(200, FRAMES_SLAB)), hugepage_of(c));
  /* c holds 510 now: 10 fit into b, the next fullest; what fits nowhere else goes to a. */
  CU_ASSERT_EQUAL(hugepage_of(get(10, FRAMES_SLAB)), hugepage_of(b));
  CU_ASSERT_EQUAL(hugepage_of(get(400, FRAMES_SLAB)), hugepage_of(a));
  CU_ASSERT_EQUAL(hugepage_of(get(2, FRAMES_SLAB)), hugepage_of(c));
  end();
}

/* Of equally full hugepages the one whose free run is hardly long enough. */
static void tightest_run_is_chosen(void) {
  begin();
  pfn_t a = get(HUGEPAGE_FRAMES, FRAMES_SLAB), b = get(HUGEPAGE_FRAMES, FRAMES_SLAB);
  frames_free(pfn_add(a, 100), 60);
  for (unsigned i = 0; i < 60; i += 20) frames_free(pfn_add(b, 100 + 2 * i), 20);
  CU_ASSERT_EQUAL(hugepage_of(get(15, FRAMES_SLAB)), hugepage_of(b));
  CU_ASSERT_EQUAL(get(60, FRAMES_SLAB).n, pfn_add(a, 100).n);
  end();
}

static void kinds_are_kept_apart(void) {
  begin();
  pfn_t slab = get(1, FRAMES_SLAB), folio = get(1, FRAMES_FOLIO);
  CU_ASSERT_NOT_EQUAL(hugepage_of(slab), hugepage_of(folio));
  for (int i = 0; i < 200; i++) {
    CU_ASSERT_EQUAL(hugepage_of(get(1, FRAMES_SLAB)), hugepage_of(slab));
    CU_ASSERT_EQUAL(hugepage_of(get(1, FRAMES_FOLIO)), hugepage_of(folio));
  }
  end();
}

/* An empty hugepage belongs to no kind. */
static void empty_ones_change_kind(void) {
  begin();
  pfn_t a = get(5, FRAMES_SLAB);
  frames_free(a, 5);
  pfn_t b = get(5, FRAMES_FOLIO);
  CU_ASSERT_EQUAL(hugepage_of(a), hugepage_of(b));
  CU_ASSERT_EQUAL(arena.hugepages[hugepage_of(b)].kind, FRAMES_FOLIO);
  end();
}

/* Memory that is there already comes before memory that would have to be faulted in. */
static void warm_hugepages_come_before_cold_ones(void) {
  begin();
  pfn_t whole[8];
  for (int i = 0; i < 8; i++) whole[i] = get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
  for (int i = 0; i < 8; i++) frames_free(whole[i], HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(frames_purge(0), 8 * HUGEPAGE_FRAMES);
  pfn_t far = get_aligned(5 * HUGEPAGE_FRAMES, 1, FRAMES_FOLIO);
  pfn_t warm = get(HUGEPAGE_FRAMES, FRAMES_FOLIO);
  frames_free(warm, HUGEPAGE_FRAMES);
  frames_free(far, 4 * HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(frames_purge(HUGEPAGE_FRAMES) % HUGEPAGE_FRAMES, 0);
  unsigned left = UINT32_MAX;
  for (unsigned n = 0; n < arena.opened; n++)
    if (arena.hugepages[n].state == HUGEPAGE_EMPTY && arena.hugepages[n].nresident != 0) left = n;
  CU_ASSERT_NOT_EQUAL_FATAL(left, UINT32_MAX);
  CU_ASSERT_EQUAL(hugepage_of(get(1, FRAMES_SLAB)), left);
  end();
}

static void long_runs_span_hugepages(void) {
  begin();
  size_t n = 3 * HUGEPAGE_FRAMES + 5;
  pfn_t a = get(n, FRAMES_FOLIO);
  CU_ASSERT_EQUAL(pfn_index(a), 0);
  CU_ASSERT_EQUAL(frames_used(), n);
  /* The rest of the last one is for others of its kind only. */
  CU_ASSERT_EQUAL(hugepage_of(get(1, FRAMES_FOLIO)), hugepage_of(a) + 3);
  CU_ASSERT_NOT_EQUAL(hugepage_of(get(1, FRAMES_SLAB)), hugepage_of(a) + 3);
  CU_ASSERT_TRUE(frames_consistent());
  frames_free(a, n);
  CU_ASSERT_EQUAL(frames_used(), 2);
  end();
}

static void runs_may_be_freed_in_parts(void) {
  begin();
  pfn_t a = get(2 * HUGEPAGE_FRAMES, FRAMES_FOLIO);
  frames_free(pfn_add(a, 100), HUGEPAGE_FRAMES); /* over a hugepage's edge */
  CU_ASSERT_TRUE(frames_consistent());
  CU_ASSERT_EQUAL(frames_used(), HUGEPAGE_FRAMES);
  frames_free(a, 100);
  frames_free(pfn_add(a, HUGEPAGE_FRAMES + 100), HUGEPAGE_FRAMES - 100);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void all_alignments_are_kept(void) {
  heap_begin((size_t)16 << 30, true);
  for (size_t align = 1; align <= (1u << 30) / FRAME_SIZE; align *= 2) {
    static const size_t lengths[] = {1, 3, 511, 512, 513, 1600};
    for (unsigned i = 0; i < array_size(lengths); i++) {
      pfn_t pfn = get_aligned(lengths[i], align, FRAMES_FOLIO);
      CU_ASSERT_EQUAL((uintptr_t)arena_addr(pfn) % (align * FRAME_SIZE), 0);
      if (i % 2 == 0) frames_free(pfn, lengths[i]);
    }
    CU_ASSERT_TRUE(frames_consistent());
  }
  heap_end();
}

static void impossible_requests_are_enomem(void) {
  struct frames_run run;
  begin();
  CU_ASSERT_EQUAL(frames_alloc((size_t)1 << 40, 1, FRAMES_FOLIO, &run), -ENOMEM);
  CU_ASSERT_EQUAL(frames_alloc(64 * HUGEPAGE_FRAMES + 1, 1, FRAMES_FOLIO, &run), -ENOMEM);
  CU_ASSERT_EQUAL(frames_alloc(1, (size_t)1 << 40, FRAMES_FOLIO, &run), -ENOMEM);
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(frames_alloc(64 * HUGEPAGE_FRAMES, 1, FRAMES_FOLIO, &run), 0);
  CU_ASSERT_EQUAL(frames_alloc(1, 1, FRAMES_SLAB, &run), -ENOMEM);
  CU_ASSERT_TRUE(frames_consistent());
  frames_free((pfn_t){0}, 64 * HUGEPAGE_FRAMES);
  CU_ASSERT_EQUAL(frames_alloc(1, 1, FRAMES_SLAB, &run), 0);
  end();
}

static void refused_opening_is_enomem_and_passes(void) {
  struct frames_run run;
  begin();
  (void)get(1, FRAMES_SLAB);
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  CU_ASSERT_EQUAL(frames_alloc(40 * HUGEPAGE_FRAMES, 1, FRAMES_FOLIO, &run), -ENOMEM);
  CU_ASSERT_TRUE(frames_consistent());
  (void)get(1, FRAMES_SLAB); /* what is open already still serves */
  fake.refuse[FAKE_OPEN_WRITE] = 0;
  CU_ASSERT_EQUAL(frames_alloc(40 * HUGEPAGE_FRAMES, 1, FRAMES_FOLIO, &run), 0);
  end();
}

static void runs_grow_in_place(void) {
  bool zero = false;
  begin();
  pfn_t a = get(10, FRAMES_FOLIO);
  CU_ASSERT_TRUE(frames_extend(a, 10, 20, FRAMES_FOLIO, &zero));
  CU_ASSERT_TRUE(zero);
  CU_ASSERT_EQUAL(frames_used(), 30);
  /* Over the hugepage's end, into empty neighbours, and over the end of what is open. */
  CU_ASSERT_TRUE(frames_extend(a, 30, 2 * HUGEPAGE_FRAMES, FRAMES_FOLIO, &zero));
  size_t n = 30 + 2 * HUGEPAGE_FRAMES;
  CU_ASSERT_TRUE(frames_consistent());
  size_t more = (size_t)(arena.opened + 3) * HUGEPAGE_FRAMES - a.n - n;
  CU_ASSERT_TRUE(frames_extend(a, n, more, FRAMES_FOLIO, &zero));
  CU_ASSERT_EQUAL(frames_used(), n + more);
  frames_free(a, n + more);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void runs_do_not_grow_over_others(void) {
  bool zero;
  begin();
  pfn_t a = get(10, FRAMES_FOLIO), b = get(10, FRAMES_FOLIO);
  CU_ASSERT_EQUAL(b.n, a.n + 10);
  CU_ASSERT_FALSE(frames_extend(a, 10, 1, FRAMES_FOLIO, &zero));
  /* Not into a hugepage of the other kind. */
  CU_ASSERT_TRUE(frames_extend(b, 10, HUGEPAGE_FRAMES - 20, FRAMES_FOLIO, &zero));
  pfn_t slab = get(1, FRAMES_SLAB);
  CU_ASSERT_EQUAL_FATAL(hugepage_of(slab), hugepage_of(b) + 1);
  frames_free(slab, 1);
  pfn_t slabs = get(100, FRAMES_SLAB);
  frames_free(slabs, 50);
  CU_ASSERT_FALSE(frames_extend(b, HUGEPAGE_FRAMES - 10, 10, FRAMES_FOLIO, &zero));
  /* Not over the end of the arena. */
  CU_ASSERT_FALSE(frames_extend(slabs, 100, 64 * HUGEPAGE_FRAMES, FRAMES_SLAB, &zero));
  /* Not when the kernel refuses. */
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  size_t beyond = (size_t)(arena.opened + 1) * HUGEPAGE_FRAMES - slabs.n - 100;
  CU_ASSERT_FALSE(frames_extend(slabs, 100, beyond, FRAMES_SLAB, &zero));
  end();
}

static void zero_is_told_by_what_was_written(void) {
  struct frames_run run;
  bool zero;
  begin();
  pfn_t a = get(10, FRAMES_FOLIO);
  frames_free(a, 10);
  CU_ASSERT_EQUAL(frames_alloc(20, 1, FRAMES_FOLIO, &run), 0);
  CU_ASSERT_EQUAL(run.pfn.n, a.n);
  CU_ASSERT_FALSE(run.zero);
  frames_free(run.pfn, 20);
  frames_free(get(10, FRAMES_FOLIO), 10);
  pfn_t head = get(5, FRAMES_FOLIO);
  CU_ASSERT_TRUE(frames_extend(head, 5, 5, FRAMES_FOLIO, &zero));
  CU_ASSERT_FALSE(zero);
  CU_ASSERT_TRUE(frames_extend(head, 10, 100, FRAMES_FOLIO, &zero));
  CU_ASSERT_FALSE(zero);
  CU_ASSERT_TRUE(frames_extend(head, 110, 100, FRAMES_FOLIO, &zero));
  CU_ASSERT_TRUE(zero);
  frames_free_zero(head, 210);
  CU_ASSERT_EQUAL(frames_alloc(210, 1, FRAMES_FOLIO, &run), 0);
  CU_ASSERT_TRUE(run.zero);
  end();
}

static const struct unit_test tests[] = {
    {"one_frame_opens_a_hugepage", one_frame_opens_a_hugepage},
    {"fullest_that_fits_is_chosen", fullest_that_fits_is_chosen},
    {"tightest_run_is_chosen", tightest_run_is_chosen},
    {"kinds_are_kept_apart", kinds_are_kept_apart},
    {"empty_ones_change_kind", empty_ones_change_kind},
    {"warm_hugepages_come_before_cold_ones", warm_hugepages_come_before_cold_ones},
    {"long_runs_span_hugepages", long_runs_span_hugepages},
    {"runs_may_be_freed_in_parts", runs_may_be_freed_in_parts},
    {"all_alignments_are_kept", all_alignments_are_kept},
    {"impossible_requests_are_enomem", impossible_requests_are_enomem},
    {"refused_opening_is_enomem_and_passes", refused_opening_is_enomem_and_passes},
    {"runs_grow_in_place", runs_grow_in_place},
    {"runs_do_not_grow_over_others", runs_do_not_grow_over_others},
    {"zero_is_told_by_what_was_written", zero_is_told_by_what_was_written},
    {0},
};

int main(void) { return unit_main("frames", tests); }
