#include "page/arena.h"

#include <errno.h>

#include "arch/sys.h"
#include "page/hugepage.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/fake.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

static void reserves_what_was_asked_for(void) {
  heap_begin(ARENA, false);
  CU_ASSERT_EQUAL(arena.size, ARENA);
  CU_ASSERT_EQUAL(arena.nhugepages, 64);
  CU_ASSERT_EQUAL(arena.base % HUGEPAGE_SIZE, 0);
  CU_ASSERT_EQUAL(arena.opened, 0);
  CU_ASSERT_TRUE(arena_contains((void *)arena.base));
  CU_ASSERT_TRUE(arena_contains((void *)(arena.base + ARENA - 1)));
  CU_ASSERT_FALSE(arena_contains((void *)(arena.base + ARENA)));
  CU_ASSERT_FALSE(arena_contains((void *)(arena.base - 1)));
  CU_ASSERT_FALSE(arena_contains(NULL));
  heap_end();
}

/* free() of any address in the arena loads its word before it knows anything about it. */
static void memmap_is_readable_before_anything_is_opened(void) {
  heap_begin(ARENA, false);
  unsigned wrong = 0;
  for (uint32_t n = 0; n < arena.nhugepages * HUGEPAGE_FRAMES; n++)
    wrong += memmap_get((pfn_t){n}).word != 0;
  CU_ASSERT_EQUAL(wrong, 0);
  heap_end();
}

static void made_up_base_is_aligned(void) {
  heap_begin(ARENA, true);
  CU_ASSERT_EQUAL(arena.base % HUGEPAGE_SIZE, 0);
  CU_ASSERT_EQUAL(arena_pfn((char *)arena_addr((pfn_t){12345}) + 4095).n, 12345);
  CU_ASSERT_PTR_EQUAL(hugepage_addr((hpn_t){3}), arena_addr((pfn_t){3 * HUGEPAGE_FRAMES}));
  heap_end();
}

static void refusals_halve_the_reservation(void) {
  fake_install();
  fake.reserve_most = (size_t)1 << 30;
  CU_ASSERT_EQUAL(arena_init((size_t)8 << 30), 0);
  CU_ASSERT_TRUE(arena.size <= (size_t)1 << 30 && arena.size >= (size_t)1 << 28);
  heap_end();
}

static size_t mapped;

static void count_mapped(enum fake_call call, unused char *p, unused char *to, size_t length) {
  if (call == FAKE_RESERVE) mapped += length;
  if (call == FAKE_UNRESERVE) mapped -= length;
}

static void total_refusal_is_enomem_and_keeps_nothing(void) {
  fake_install();
  fake.refuse[FAKE_RESERVE] = -ENOMEM;
  CU_ASSERT_EQUAL(arena_init(0), -ENOMEM);
  CU_ASSERT_EQUAL(arena.base, 0);
  fake.refuse[FAKE_RESERVE] = 0;
  /* The tables can be had, but never be read. */
  fake.refuse[FAKE_OPEN_READ] = -ENOMEM;
  mapped = 0;
  fake.seen = count_mapped;
  CU_ASSERT_EQUAL(arena_init((size_t)4 << 30), -ENOMEM);
  CU_ASSERT_EQUAL(mapped, 0);
  CU_ASSERT_EQUAL(arena.base, 0);
  fake_remove();
}

/* Each call of the start refused in turn: either it gets by without, or nothing stays mapped. */
static void every_refusal_of_the_start_is_survived(void) {
  for (unsigned n = 1; n <= 12; n++) {
    fake_install();
    fake.made_up_from = (size_t)128 << 20;
    fake.refuse_at = n;
    int err = arena_init((size_t)1 << 30);
    CU_ASSERT_TRUE(err == 0 || err == -ENOMEM);
    if (err == 0) {
      CU_ASSERT_TRUE(arena.size >= (size_t)1 << 28);
      heap_end();
      continue;
    }
    fake_remove();
  }
}

static void limited(void) {
  struct rlimit limit = {(size_t)1 << 30, (size_t)1 << 30};
  if (setrlimit(RLIMIT_AS, &limit) != 0 || sys_address_space_limit() != limit.rlim_cur) _exit(77);
  child_check(arena_init(0) == 0);
  child_check(arena.size < (size_t)1 << 30);
  child_check(arena.size >= (size_t)1 << 28);
  child_check(arena_open(1) == 0);
  *(volatile char *)arena.base = 1;
}

static void rlimit_as_makes_it_smaller(void) {
  if (SANITIZED) {
    unit_skip("a sanitizer needs terabytes of address space");
    return;
  }
  int status = child_status(limited);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
    unit_skip("the address space can't be limited here");
  else
    CU_ASSERT_EQUAL(status, 0);
}

/* A peeker that sees `opened` may read words and descriptors up to it. */
static void tables_are_opened_before_frames(void) {
  heap_begin(ARENA, false);
  unsigned from = fake.logged;
  CU_ASSERT_EQUAL(arena_open(1), 0);
  CU_ASSERT_TRUE(arena.opened >= 1);
  bool tables = false;
  for (unsigned i = from; i < fake.logged; i++) {
    if (fake.log[i].call != FAKE_OPEN_WRITE) continue;
    bool of_frames = arena_contains(fake.log[i].p);
    CU_ASSERT_TRUE(tables || !of_frames);
    tables = tables || !of_frames;
  }
  *(char *)arena.base = 1;
  CU_ASSERT_EQUAL(arena.hugepages[0].longest, HUGEPAGE_FRAMES);
  heap_end();
}

static void opening_goes_on_to_the_end(void) {
  heap_begin(ARENA, false);
  uint32_t before = 0;
  while (arena.opened < arena.nhugepages) {
    CU_ASSERT_EQUAL_FATAL(arena_open(1), 0);
    CU_ASSERT_TRUE_FATAL(arena.opened > before);
    before = arena.opened;
    arena.memmap[arena.opened * HUGEPAGE_FRAMES - 1].word = 1;
    ((char *)hugepage_addr((hpn_t){arena.opened - 1}))[HUGEPAGE_SIZE - 1] = 1;
    CU_ASSERT_EQUAL(arena.hugepages[arena.opened - 1].nused, 0);
  }
  CU_ASSERT_EQUAL(arena_open(1), -ENOMEM);
  heap_end();
}

/* Large steps fail near the limit of strict overcommit; small ones may still be had. */
static void strict_overcommit_gets_what_is_left(void) {
  heap_begin(ARENA, true);
  CU_ASSERT_EQUAL(arena_open(32), 0);
  fake.commit_most = fake.committed + HUGEPAGE_SIZE + (256 << 10);
  CU_ASSERT_EQUAL(arena_open(1), 0);
  CU_ASSERT_EQUAL(arena.opened, 33);
  uint32_t opened = arena.opened;
  CU_ASSERT_EQUAL(arena_open(1), -ENOMEM);
  CU_ASSERT_EQUAL(arena.opened, opened);
  fake.commit_most = 0;
  CU_ASSERT_EQUAL(arena_open(1), 0);
  CU_ASSERT_TRUE(arena.opened > opened);
  heap_end();
}

/* Every open refused once: nothing is lost, and the same call succeeds the next time. */
static void refused_opens_change_nothing(void) {
  heap_begin(ARENA, false);
  for (unsigned n = 1; n <= 3; n++) {
    uint32_t opened = arena.opened;
    fake.refuse_at = fake.total + n;
    if (arena_open(20) != 0) CU_ASSERT_EQUAL(arena.opened, opened);
    fake.refuse_at = 0;
    CU_ASSERT_EQUAL(arena_open(1), 0);
    arena.memmap[arena.opened * HUGEPAGE_FRAMES - 1].word = 1;
    *(char *)hugepage_addr((hpn_t){arena.opened - 1}) = 1;
  }
  heap_end();
}

static void words_are_set_and_cleared(void) {
  heap_begin(ARENA, true);
  CU_ASSERT_EQUAL(arena_open(2), 0);
  pfn_t at = {510};
  memmap_set(at, 4, memdesc_make(MEMDESC_SLAB, 7, (void *)4096));
  for (unsigned i = 0; i < 4; i++) {
    CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn_add(at, i))), MEMDESC_SLAB);
    CU_ASSERT_PTR_EQUAL(memdesc_owner(memmap_get(pfn_add(at, i))), (void *)4096);
  }
  CU_ASSERT_EQUAL(memmap_get((pfn_t){509}).word, 0);
  CU_ASSERT_EQUAL(memmap_get((pfn_t){514}).word, 0);
  memmap_reclass(at, 4, 99);
  CU_ASSERT_EQUAL(memdesc_class(memmap_get(pfn_add(at, 3))), 99);
  CU_ASSERT_PTR_EQUAL(memdesc_owner(memmap_get(pfn_add(at, 3))), (void *)4096);
  memmap_clear(at, 4, MEMDESC_SLAB);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(at)), MEMDESC_FREE);
  CU_ASSERT_PTR_EQUAL(memdesc_owner(memmap_get(at)), &arena.hugepages[0]);
  CU_ASSERT_PTR_EQUAL(memdesc_owner(memmap_get(pfn_add(at, 2))), &arena.hugepages[1]);
  heap_end();
}

static void clear_wrong_type(void) { memmap_clear((pfn_t){0}, 1, MEMDESC_FOLIO); }

static size_t run_length;
static void clear_run(void) { memmap_clear((pfn_t){0}, run_length, MEMDESC_SLAB); }
static void set_over_type(void) { memmap_set((pfn_t){0}, 1, memdesc_make(MEMDESC_FOLIO, 0, NULL)); }

static void wrong_transitions_are_fatal(void) {
  heap_begin(ARENA, true);
  CU_ASSERT_EQUAL(arena_open(1), 0);
  memmap_set((pfn_t){0}, 1, memdesc_make(MEMDESC_SLAB, 1, NULL));
  CU_ASSERT_TRUE(child_dies(clear_wrong_type));
  if (DEBUG_CHECKS) CU_ASSERT_TRUE(child_dies(set_over_type));
  heap_end();
}

/* One frame of another type, anywhere in a run of any length. */
static void each_frame_of_a_run_is_looked_at(void) {
  enum { LONGEST = 9 };
  heap_begin(ARENA, false);
  CU_ASSERT_EQUAL(arena_open(1), 0);
  for (run_length = 1; run_length <= LONGEST; run_length++) {
    memmap_set((pfn_t){0}, run_length, memdesc_make(MEMDESC_SLAB, 1, NULL));
    CU_ASSERT_TRUE(child_lives(clear_run));
    for (uint32_t i = 0; i < run_length; i++) {
      memmap_clear((pfn_t){i}, 1, MEMDESC_SLAB);
      memmap_set((pfn_t){i}, 1, memdesc_make(MEMDESC_FOLIO, 1, NULL));
      CU_ASSERT_TRUE(child_dies(clear_run));
      memmap_clear((pfn_t){i}, 1, MEMDESC_FOLIO);
      memmap_set((pfn_t){i}, 1, memdesc_make(MEMDESC_SLAB, 1, NULL));
    }
    memmap_clear((pfn_t){0}, run_length, MEMDESC_SLAB);
  }
  heap_end();
}

static const struct unit_test tests[] = {
    {"reserves_what_was_asked_for", reserves_what_was_asked_for},
    {"memmap_is_readable_before_anything_is_opened", memmap_is_readable_before_anything_is_opened},
    {"made_up_base_is_aligned", made_up_base_is_aligned},
    {"refusals_halve_the_reservation", refusals_halve_the_reservation},
    {"total_refusal_is_enomem_and_keeps_nothing", total_refusal_is_enomem_and_keeps_nothing},
    {"every_refusal_of_the_start_is_survived", every_refusal_of_the_start_is_survived},
    {"rlimit_as_makes_it_smaller", rlimit_as_makes_it_smaller},
    {"tables_are_opened_before_frames", tables_are_opened_before_frames},
    {"opening_goes_on_to_the_end", opening_goes_on_to_the_end},
    {"strict_overcommit_gets_what_is_left", strict_overcommit_gets_what_is_left},
    {"refused_opens_change_nothing", refused_opens_change_nothing},
    {"words_are_set_and_cleared", words_are_set_and_cleared},
    {"wrong_transitions_are_fatal", wrong_transitions_are_fatal},
    {"each_frame_of_a_run_is_looked_at", each_frame_of_a_run_is_looked_at},
    {0},
};

int main(void) { return unit_main("arena", tests); }
