/* Folios on real memory: their contents are looked at. */
#include "page/folio.h"

#include <errno.h>
#include <string.h>

#include "arch/sys.h"
#include "page/hugepage.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/fake.h"

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
  CU_ASSERT_TRUE(folio_resize(folio, 1500));
  CU_ASSERT_PTR_EQUAL(folio_addr(folio), at);
  CU_ASSERT_TRUE(folio_consistent(folio));
  CU_ASSERT_TRUE(holds(folio, 100));
  fill(folio, 100, 1400);
  CU_ASSERT_TRUE(folio_resize(folio, 40));
  CU_ASSERT_TRUE(folio_consistent(folio));
  CU_ASSERT_TRUE(holds(folio, 40));
  CU_ASSERT_EQUAL(frames_used(), 40);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn_add(folio->pfn, 40))), MEMDESC_FREE);
  CU_ASSERT_TRUE(folio_resize(folio, 40));
  struct folio *next = get(1);
  CU_ASSERT_EQUAL(next->pfn.n, folio->pfn.n + 40);
  CU_ASSERT_FALSE(folio_resize(folio, 41));
  CU_ASSERT_EQUAL(folio->nframes, 40);
  CU_ASSERT_TRUE(folio_consistent(folio));
  end();
}

static void classes_change_everywhere(void) {
  begin();
  struct folio *folio = get(30);
  folio_set_class(folio, 90);
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
  CU_ASSERT_FALSE(folio_resize(guarded, 30)); /* it would grow into its guard */
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
    {0},
};

int main(void) { return unit_main("folio", tests); }
