#include "slab/bin.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "page/folio.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/elsewhere.h"
#include "tests/unit/fake.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)256 * HUGEPAGE_SIZE)

enum { CLASS = 12 }; /* 192 bytes, 170 slots in 8 frames */

static void begin(void) { heap_begin(ARENA, true); }

static void end(void) {
  for (unsigned c = 0; c < SLAB_CLASSES; c++) CU_ASSERT_TRUE(bin_consistent(c));
  CU_ASSERT_TRUE(frames_consistent());
  heap_end();
}

static struct bin_stats stats_of(unsigned c) {
  struct bin_stats stats;
  bin_stats(c, &stats);
  return stats;
}

/* Exactly n objects, as many calls as that takes. */
static void get(unsigned c, void **out, unsigned n) {
  while (n > 0) {
    unsigned got = bin_refill(c, out, n);
    CU_ASSERT_TRUE_FATAL(got >= 1 && got <= n);
    out += got;
    n -= got;
  }
}

static void put_now(unsigned c, void **objects, unsigned n) {
  for (unsigned i = 0; i < n; i++) bin_free_now(c, objects[i]);
}

static void refill_makes_a_slab(void) {
  void *out[8];
  begin();
  get(CLASS, out, 8);
  struct bin_stats stats = stats_of(CLASS);
  CU_ASSERT_EQUAL(stats.nslabs, 1);
  CU_ASSERT_EQUAL(stats.free_slots, size_classes[CLASS].nslots - 8u);
  CU_ASSERT_EQUAL(stats.frames, size_classes[CLASS].nframes);
  for (int i = 0; i < 8; i++) CU_ASSERT_EQUAL(bin_check(CLASS, out[i]), SLAB_OK);
  end();
}

static void fullest_slab_serves_first(void) {
  enum { N = 170 };
  static void *a[N], *b[N], *c[N], *more[30];
  begin();
  CU_ASSERT_EQUAL_FATAL(size_classes[CLASS].nslots, N);
  get(CLASS, a, N);
  get(CLASS, b, N);
  get(CLASS, c, N);
  CU_ASSERT_EQUAL(stats_of(CLASS).nfull, 3);
  put_now(CLASS, a, 150);
  put_now(CLASS, b, 20);
  put_now(CLASS, c, 100);
  CU_ASSERT_EQUAL(stats_of(CLASS).nfull, 0);
  struct slab *fullest = memdesc_owner(memmap_get(arena_pfn(b[0])));
  get(CLASS, more, 20);
  for (int i = 0; i < 20; i++)
    CU_ASSERT_PTR_EQUAL(memdesc_owner(memmap_get(arena_pfn(more[i]))), fullest);
  struct slab *next = memdesc_owner(memmap_get(arena_pfn(c[0])));
  get(CLASS, more, 30);
  for (int i = 0; i < 30; i++)
    CU_ASSERT_PTR_EQUAL(memdesc_owner(memmap_get(arena_pfn(more[i]))), next);
  end();
}

static void empty_slabs_go_but_one(void) {
  enum { N = 170 * 5 };
  static void *all[N];
  begin();
  get(CLASS, all, N);
  CU_ASSERT_EQUAL(stats_of(CLASS).nslabs, 5);
  put_now(CLASS, all, N);
  CU_ASSERT_EQUAL(stats_of(CLASS).nslabs, 1);
  CU_ASSERT_EQUAL(frames_used(), size_classes[CLASS].nframes);
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(stats_of(CLASS).nslabs, 0);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

/* What one thread alone gives back is free for every class at once. */
static void a_lone_thread_needs_no_transfer(void) {
  void *out[32];
  begin();
  get(CLASS, out, 32);
  size_t free_slots = stats_of(CLASS).free_slots;
  bin_flush(CLASS, out, 32);
  CU_ASSERT_EQUAL(stats_of(CLASS).transfer, 0);
  CU_ASSERT_EQUAL(stats_of(CLASS).free_slots, free_slots + 32);
  end();
}

/* What one thread flushes another gets, the very objects, and no slab is touched. */
static void transfer_hands_whole_batches_over(void) {
  void *out[32], *in[32];
  begin();
  get(CLASS, out, 32);
  size_t free_slots = stats_of(CLASS).free_slots;
  flush_elsewhere(CLASS, out, 32);
  CU_ASSERT_EQUAL(stats_of(CLASS).transfer, 32);
  CU_ASSERT_EQUAL(stats_of(CLASS).free_slots, free_slots);
  CU_ASSERT_EQUAL(bin_transfer_bytes(), 32 * class_size(CLASS));
  CU_ASSERT_EQUAL(bin_refill(CLASS, in, 32), 32);
  for (int i = 0; i < 32; i++) {
    bool found = false;
    for (int k = 0; k < 32; k++) found = found || in[k] == out[i];
    CU_ASSERT_TRUE(found);
  }
  CU_ASSERT_EQUAL(stats_of(CLASS).transfer, 0);
  end();
}

static void transfer_is_bounded(void) {
  enum { N = 2000 };
  static void *all[N];
  static const unsigned classes[] = {0, 5, CLASS, 60, 80};
  for (unsigned i = 0; i < array_size(classes); i++) {
    unsigned c = classes[i];
    begin();
    get(c, all, N);
    for (unsigned k = 0; k < N; k += 50) flush_elsewhere(c, all + k, 50);
    CU_ASSERT_TRUE(stats_of(c).transfer <= 1024);
    CU_ASSERT_TRUE(bin_transfer_bytes() <= 64 << 10);
    CU_ASSERT_TRUE(stats_of(c).transfer >= 1);
    end();
  }
}

/* Unless everything is to go, only what lay unused since the last look goes. */
static void trim_takes_what_was_of_no_use(void) {
  void *out[64];
  begin();
  get(CLASS, out, 64);
  flush_elsewhere(CLASS, out, 64);
  CU_ASSERT_TRUE(bin_trim(false)); /* the first look sees it full */
  get(CLASS, out, 10);
  flush_elsewhere(CLASS, out, 10);
  (void)bin_trim(false);
  CU_ASSERT_TRUE(stats_of(CLASS).transfer <= 10 || stats_of(CLASS).transfer == 64);
  for (int i = 0; i < 4; i++) (void)bin_trim(false);
  CU_ASSERT_EQUAL(stats_of(CLASS).transfer, 0);
  CU_ASSERT_FALSE(bin_trim(false));
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

/* A folio's memory is worth more elsewhere than its making costs. */
static void flushed_folios_are_freed(void) {
  unsigned c = SLAB_CLASSES + 3;
  void *a;
  begin();
  CU_ASSERT_EQUAL(bin_refill(c, &a, 1), 1);
  memdesc_t d = memmap_get(arena_pfn(a));
  CU_ASSERT_EQUAL(memdesc_type(d), MEMDESC_FOLIO);
  CU_ASSERT_EQUAL(folio_size(memdesc_owner(d)), class_size(c));
  flush_elsewhere(c, &a, 1);
  CU_ASSERT_EQUAL(stats_of(c).transfer, 0);
  CU_ASSERT_EQUAL(frames_used(), 0);
  end();
}

static void memory_that_ran_out_is_no_object(void) {
  void *p;
  begin();
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  CU_ASSERT_EQUAL(bin_refill(CLASS, &p, 1), 0);
  CU_ASSERT_EQUAL(bin_refill(SLAB_CLASSES + 3, &p, 1), 0);
  fake.refuse[FAKE_OPEN_WRITE] = 0;
  CU_ASSERT_EQUAL(bin_refill(CLASS, &p, 1), 1);
  end();
}

/* ---- misuse: the handler doesn't return, so it leaves the child with what it was told ---- */

static void *victim;

static void leave(const void *p, enum bin_misuse what) { _exit(p == victim ? 10 + (int)what : 9); }

static int told(void (*run)(void)) {
  int status = child_status(run);
  return WIFEXITED(status) ? WEXITSTATUS(status) - 10 : -1;
}

static void free_twice(void) {
  bin_free_now(CLASS, victim);
  bin_free_now(CLASS, victim);
}

static void free_victim(void) { bin_free_now(CLASS, victim); }
static void free_folio(void) { bin_free_now(SLAB_CLASSES + 1, victim); }

static void free_folio_twice(void) {
  bin_free_now(SLAB_CLASSES + 1, victim);
  bin_free_now(SLAB_CLASSES + 1, victim);
}

static void misuse_is_told(void) {
  void *p, *folio;
  begin();
  bin_misuse_fn *before = bin_misuse_handler;
  bin_misuse_handler = leave;
  get(CLASS, &p, 1);
  get(SLAB_CLASSES + 1, &folio, 1);
  victim = p;
  CU_ASSERT_EQUAL(told(free_twice), MISUSE_DOUBLE_FREE);
  victim = (char *)p + 16;
  CU_ASSERT_EQUAL(told(free_victim), MISUSE_INTERIOR);
  victim = arena_addr((pfn_t){arena.opened * HUGEPAGE_FRAMES - 1});
  CU_ASSERT_EQUAL(told(free_victim), MISUSE_NOT_ALLOCATED);
  void *other;
  get(CLASS + 1, &other, 1);
  victim = other;
  CU_ASSERT_EQUAL(told(free_victim), MISUSE_WRONG_CLASS);
  victim = folio;
  CU_ASSERT_EQUAL(told(free_folio_twice), MISUSE_DOUBLE_FREE);
  victim = (char *)folio + FRAME_SIZE;
  CU_ASSERT_EQUAL(told(free_folio), MISUSE_INTERIOR);
  CU_ASSERT_EQUAL(bin_check(CLASS, p), SLAB_OK);
  CU_ASSERT_EQUAL(bin_check(CLASS, (char *)p + 1), SLAB_INTERIOR);
  CU_ASSERT_EQUAL(bin_check(CLASS + 1, p), SLAB_DOUBLE_FREE);
  bin_misuse_handler = before;
  end();
}

/* ---- threads ---- */

static uint64_t steps;

/* Objects carry no memory here, so ownership is kept beside: one byte per slot address. */
static uint8_t *owned;

static bool claim(void *p, uint8_t from, uint8_t to) {
  uint8_t *at = &owned[((uintptr_t)p - arena.base) / 16];
  return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void *hammer(void *arg) {
  static const unsigned classes[] = {1, 4, CLASS, 60, SLAB_CLASSES + 2};
  struct random r = {(uintptr_t)arg};
  void *held[256];
  unsigned class_held[256], n = 0;
  uintptr_t wrong = 0;
  for (uint64_t i = 0; i < steps; i++) {
    unsigned batch = 1 + (unsigned)random_below(&r, 20);
    if (n + batch <= 256 && random_below(&r, 2) == 0) {
      unsigned c = classes[random_below(&r, array_size(classes))];
      unsigned got = bin_refill(c, held + n, batch);
      for (unsigned k = 0; k < got; k++, n++) {
        class_held[n] = c;
        wrong += !claim(held[n], 0, 1); /* handed out twice */
      }
    } else {
      for (; batch > 0 && n > 0; batch--, n--) {
        wrong += !claim(held[n - 1], 1, 0);
        bin_flush(class_held[n - 1], &held[n - 1], 1);
      }
    }
    if (i % 1024 == 0) (void)bin_trim(i % 2048 == 0);
  }
  for (; n > 0; n--) {
    wrong += !claim(held[n - 1], 1, 0);
    bin_flush(class_held[n - 1], &held[n - 1], 1);
  }
  return (void *)wrong;
}

static void no_object_is_handed_out_twice(void) {
  pthread_t threads[4];
  void *wrong;
  begin();
  steps = test_steps(100000);
  owned = calloc(ARENA / 16, 1);
  for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], &wrong);
    CU_ASSERT_PTR_NULL(wrong);
  }
  for (unsigned c = 0; c < SLAB_CLASSES; c++) CU_ASSERT_TRUE(bin_consistent(c));
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_used(), 0);
  free(owned);
  end();
}

static const struct unit_test tests[] = {
    {"refill_makes_a_slab", refill_makes_a_slab},
    {"fullest_slab_serves_first", fullest_slab_serves_first},
    {"empty_slabs_go_but_one", empty_slabs_go_but_one},
    {"a_lone_thread_needs_no_transfer", a_lone_thread_needs_no_transfer},
    {"transfer_hands_whole_batches_over", transfer_hands_whole_batches_over},
    {"transfer_is_bounded", transfer_is_bounded},
    {"trim_takes_what_was_of_no_use", trim_takes_what_was_of_no_use},
    {"flushed_folios_are_freed", flushed_folios_are_freed},
    {"memory_that_ran_out_is_no_object", memory_that_ran_out_is_no_object},
    {"misuse_is_told", misuse_is_told},
    {"no_object_is_handed_out_twice", no_object_is_handed_out_twice},
    {0},
};

int main(void) { return unit_main("bin", tests); }
