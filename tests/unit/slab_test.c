#include "slab/slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/check.h"
#include "tests/unit/fake.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

static enum slab_verdict put_one(struct slab *slab, const void *p) {
  void *object = (void *)(uintptr_t)p;
  enum slab_verdict verdict = SLAB_OK;
  (void)slab_put(slab, &object, 1, &verdict);
  return verdict;
}

static void begin(void) { heap_begin(ARENA, true); }

static void end(void) {
  CU_ASSERT_TRUE(frames_consistent());
  heap_end();
}

static void all_slots_of_every_class_are_apart(void) {
  begin();
  for (unsigned c = 0; c < SLAB_CLASSES; c++) {
    const struct size_class *k = &size_classes[c];
    void **slots = malloc(k->nslots * sizeof *slots);
    struct slab *slab = slab_new(c);
    CU_ASSERT_PTR_NOT_NULL_FATAL(slab);
    CU_ASSERT_TRUE(slab_consistent(slab));
    CU_ASSERT_TRUE(slab_is_empty(slab));
    CU_ASSERT_EQUAL(slab_take(slab, slots, k->nslots + 5u), k->nslots);
    CU_ASSERT_EQUAL(slab->nfree, 0);
    CU_ASSERT_EQUAL(slab_take(slab, slots, 1), 0);
    /* Stored last to first: the lowest address comes off a stack first. */
    for (unsigned i = 0; i < k->nslots; i++) {
      char *want = (char *)slab_addr(slab) + (size_t)i * k->size;
      CU_ASSERT_PTR_EQUAL(slots[k->nslots - 1 - i], want);
      CU_ASSERT_EQUAL(slab_check(slab, want), SLAB_OK);
    }
    CU_ASSERT_TRUE(slab_consistent(slab));
    for (unsigned i = 0; i < k->nslots; i++) CU_ASSERT_EQUAL(put_one(slab, slots[i]), SLAB_OK);
    CU_ASSERT_TRUE(slab_consistent(slab));
    slab_destroy(slab);
    free(slots);
  }
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(slab_cache_small.nlive + slab_cache_large.nlive, 0);
  end();
}

static void memdescs_lead_to_the_slab(void) {
  begin();
  struct slab *slab = slab_new(20);
  for (unsigned i = 0; i < slab->nframes; i++) {
    memdesc_t d = memmap_get(pfn_add(slab->pfn, i));
    CU_ASSERT_EQUAL(memdesc_type(d), MEMDESC_SLAB);
    CU_ASSERT_EQUAL(memdesc_class(d), 20);
    CU_ASSERT_PTR_EQUAL(memdesc_owner(d), slab);
  }
  pfn_t pfn = slab->pfn;
  slab_destroy(slab);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(pfn)), MEMDESC_FREE);
  end();
}

static void interior_pointers_are_told(void) {
  begin();
  for (unsigned c = 1; c < SLAB_CLASSES; c++) {
    const struct size_class *k = &size_classes[c];
    struct slab *slab = slab_new(c);
    void *p;
    CU_ASSERT_EQUAL(slab_take(slab, &p, 1), 1);
    CU_ASSERT_EQUAL(put_one(slab, (char *)p + 1), SLAB_INTERIOR);
    CU_ASSERT_EQUAL(put_one(slab, (char *)p + k->size - 1), SLAB_INTERIOR);
    CU_ASSERT_EQUAL(slab_check(slab, (char *)p + 8), SLAB_INTERIOR);
    size_t end_of_slots = (size_t)k->nslots * k->size;
    if (end_of_slots < k->nframes * (size_t)FRAME_SIZE)
      CU_ASSERT_EQUAL(put_one(slab, (char *)slab_addr(slab) + end_of_slots), SLAB_INTERIOR);
    CU_ASSERT_TRUE(slab_consistent(slab));
    CU_ASSERT_EQUAL(put_one(slab, p), SLAB_OK);
    slab_destroy(slab);
  }
  end();
}

static void double_frees_are_told(void) {
  begin();
  struct slab *slab = slab_new(5);
  void *p[3];
  CU_ASSERT_EQUAL(slab_take(slab, p, 3), 3);
  CU_ASSERT_EQUAL(put_one(slab, p[1]), SLAB_OK);
  CU_ASSERT_EQUAL(put_one(slab, p[1]), SLAB_DOUBLE_FREE);
  CU_ASSERT_EQUAL(slab_check(slab, p[1]), SLAB_DOUBLE_FREE);
  CU_ASSERT_EQUAL(slab_check(slab, p[0]), SLAB_OK);
  void *never = (char *)slab_addr(slab) + 10 * (size_t)class_size(5);
  CU_ASSERT_EQUAL(put_one(slab, never), SLAB_DOUBLE_FREE);
  CU_ASSERT_EQUAL(slab->nfree, slab->nslots - 2);
  CU_ASSERT_TRUE(slab_consistent(slab));
  end();
}

static void refusals_leave_nothing_behind(void) {
  begin();
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  CU_ASSERT_PTR_NULL(slab_new(3));
  fake.refuse[FAKE_OPEN_WRITE] = 0;
  struct slab *slab = slab_new(3); /* descriptors are open now, frames run out */
  CU_ASSERT_PTR_NOT_NULL_FATAL(slab);
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  size_t n = 1;
  while (slab_new(3) != NULL) n++;
  CU_ASSERT_EQUAL(slab_cache_large.nlive, n);
  CU_ASSERT_EQUAL(frames_used(), n * size_classes[3].nframes);
  end();
}

/* Against an array of bytes. */
static void random_takes_and_puts(void) {
  static const unsigned classes[] = {0, 1, 5, 8, 20, 45, 66, 80};
  struct random r = {test_seed()};
  uint64_t steps = test_steps(200000), wrong = 0;
  begin();
  for (unsigned i = 0; i < array_size(classes); i++) {
    unsigned c = classes[i], nslots = size_classes[c].nslots;
    struct slab *slab = slab_new(c);
    CU_ASSERT_PTR_NOT_NULL_FATAL(slab);
    bool taken[1024] = {false};
    for (uint64_t s = 0; s < steps / array_size(classes); s++) {
      if (random_below(&r, 2) == 0) {
        void *out[16];
        unsigned want = 1 + (unsigned)random_below(&r, 16), got = slab_take(slab, out, want);
        unsigned lowest = 0;
        for (unsigned k = got; k-- > 0;) { /* lowest first */
          while (lowest < nslots && taken[lowest]) lowest++;
          wrong += out[k] != (char *)slab_addr(slab) + (size_t)lowest * class_size(c);
          taken[lowest] = true;
        }
      } else {
        unsigned slot = (unsigned)random_below(&r, nslots);
        enum slab_verdict v =
            put_one(slab, (char *)slab_addr(slab) + (size_t)slot * class_size(c));
        wrong += v != (taken[slot] ? SLAB_OK : SLAB_DOUBLE_FREE);
        taken[slot] = false;
      }
      if (s % 64 == 0) {
        unsigned n = 0;
        for (unsigned k = 0; k < nslots; k++) n += taken[k];
        wrong += !slab_consistent(slab) || slab->nfree != nslots - n;
      }
    }
  }
  CU_ASSERT_EQUAL(wrong, 0);
  end();
}

static const struct unit_test tests[] = {
    {"all_slots_of_every_class_are_apart", all_slots_of_every_class_are_apart},
    {"memdescs_lead_to_the_slab", memdescs_lead_to_the_slab},
    {"interior_pointers_are_told", interior_pointers_are_told},
    {"double_frees_are_told", double_frees_are_told},
    {"refusals_leave_nothing_behind", refusals_leave_nothing_behind},
    {"random_takes_and_puts", random_takes_and_puts},
    {0},
};

int main(void) { return unit_main("slab", tests); }
