#include "page/desc.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "page/arena.h"
#include "tests/unit/check.h"
#include "tests/unit/fake.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

struct thing {
  struct desc desc;
  uint64_t number;
  char rest[168];
};

static struct desc_cache things = DESC_CACHE_INIT(192, "things", NULL);
static struct desc_cache others = DESC_CACHE_INIT(64, "others", NULL);
static struct desc_cache giants = DESC_CACHE_INIT(5 * 4096 + 64, "giants", NULL);

static void begin(void) { heap_begin(ARENA, true); }

static void end(void) {
  heap_end();
  desc_cache_fini(&things);
  desc_cache_fini(&others);
  desc_cache_fini(&giants);
}

static void new_ones_are_zero_and_aligned(void) {
  static const char zeros[sizeof((struct thing *)0)->rest];
  begin();
  for (int i = 0; i < 1000; i++) {
    struct thing *t = desc_alloc(&things);
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    CU_ASSERT_EQUAL((uintptr_t)t % 64, 0);
    CU_ASSERT_EQUAL(t->number, 0);
    CU_ASSERT_EQUAL(memcmp(t->rest, zeros, sizeof t->rest), 0);
    CU_ASSERT_PTR_EQUAL(t->desc.cache, &things);
    memset(t->rest, 0xff, sizeof t->rest);
  }
  CU_ASSERT_EQUAL(things.nlive, 1000);
  end();
}

static void what_a_cache_had_stays_its_own(void) {
  enum { N = 500 };
  static struct thing *had[N];
  begin();
  for (int i = 0; i < N; i++) {
    had[i] = desc_alloc(&things);
    had[i]->number = (uint64_t)i;
  }
  for (int i = 0; i < N; i++) desc_free(had[i]);
  CU_ASSERT_EQUAL(things.nlive, 0);
  /* No other cache gets the memory, however much it wants; a stale reader still finds the right
   * type. */
  for (int i = 0; i < 10 * N; i++) {
    struct desc *d = desc_alloc(&others);
    CU_ASSERT_PTR_NOT_NULL_FATAL(d);
    bool inside = false;
    for (int k = 0; k < N; k++)
      inside = inside || ((char *)d >= (char *)had[k] && (char *)d < (char *)(had[k] + 1));
    CU_ASSERT_FALSE(inside);
  }
  for (int i = 0; i < N; i++) {
    CU_ASSERT_PTR_EQUAL(had[i]->desc.cache, &things);
    CU_ASSERT_EQUAL(had[i]->number, (uint64_t)i);
  }
  size_t bytes = things.nbytes;
  for (int i = 0; i < N; i++) CU_ASSERT_PTR_NOT_NULL(desc_alloc(&things));
  CU_ASSERT_EQUAL(things.nbytes, bytes); /* the old ones were used again */
  end();
}

/* In 32 bits and back, also of those that are smaller than a struct desc and a line. */
static void references_lead_back(void) {
  static struct desc_cache small = DESC_CACHE_INIT(DESC_UNIT, "small", NULL);
  static void *of[2000];
  begin();
  CU_ASSERT_EQUAL(desc_ref(NULL), 0);
  CU_ASSERT_PTR_NULL(desc_at(0));
  for (unsigned i = 0; i < array_size(of); i++) {
    of[i] = desc_alloc(i % 3 == 0 ? &things : &small);
    CU_ASSERT_PTR_NOT_NULL_FATAL(of[i]);
    CU_ASSERT_EQUAL((uintptr_t)of[i] % DESC_UNIT, 0);
    memset((char *)of[i] + sizeof(struct desc_cache *), 0xff, DESC_UNIT - sizeof(void *));
  }
  for (unsigned i = 0; i < array_size(of); i++) {
    CU_ASSERT_NOT_EQUAL(desc_ref(of[i]), 0);
    CU_ASSERT_PTR_EQUAL(desc_at(desc_ref(of[i])), of[i]);
    desc_free(of[i]);
  }
  CU_ASSERT_EQUAL(things.nlive + small.nlive, 0);
  end();
  desc_cache_fini(&small);
}

/* The last descriptor of the largest arena has one that fits. */
static void references_reach_far_enough(void) {
  arena.descriptors = (char *)(uintptr_t)0x100000;
  const char *last = arena.descriptors + ((size_t)UINT32_MAX - 1) * DESC_UNIT;
  CU_ASSERT_EQUAL(desc_ref(last), UINT32_MAX);
  CU_ASSERT_PTR_EQUAL(desc_at(UINT32_MAX), last);
  arena.descriptors = NULL;
}

static void giants_are_whole(void) {
  begin();
  char *a = desc_alloc(&giants), *b = desc_alloc(&giants);
  CU_ASSERT_PTR_NOT_NULL_FATAL(a);
  CU_ASSERT_PTR_NOT_NULL_FATAL(b);
  memset(a + sizeof(struct desc), 1, giants.size - sizeof(struct desc));
  CU_ASSERT_EQUAL(b[giants.size - 1], 0);
  CU_ASSERT_PTR_EQUAL(((struct desc *)b)->cache, &giants);
  CU_ASSERT_TRUE(desc_bytes_used() <= desc_bytes_opened());
  end();
}

static void exhaustion_is_null_and_passes(void) {
  begin();
  size_t n = 0;
  void *last = NULL;
  for (void *d; (d = desc_alloc(&things)) != NULL; n++) last = d;
  CU_ASSERT_TRUE(n >= arena.descriptors_size / 192 * 9 / 10);
  CU_ASSERT_EQUAL(things.nlive, n);
  CU_ASSERT_PTR_NULL(desc_alloc(&others));
  desc_free(last);
  CU_ASSERT_PTR_EQUAL(desc_alloc(&things), last);
  end();
}

static void refused_memory_is_null_and_passes(void) {
  begin();
  fake.refuse[FAKE_OPEN_WRITE] = -ENOMEM;
  CU_ASSERT_PTR_NULL(desc_alloc(&things));
  CU_ASSERT_EQUAL(things.nlive, 0);
  fake.refuse[FAKE_OPEN_WRITE] = 0;
  CU_ASSERT_PTR_NOT_NULL(desc_alloc(&things));
  end();
}

static uint64_t steps;

static void *churn(void *arg) {
  struct thing *mine[64] = {0};
  struct random r = {(uint64_t)(uintptr_t)arg};
  for (uint64_t i = 0; i < steps; i++) {
    struct thing **t = &mine[random_below(&r, 64)];
    if (*t == NULL) {
      *t = desc_alloc(&things);
      (*t)->number = (uint64_t)(uintptr_t)arg;
    } else {
      if ((*t)->number != (uint64_t)(uintptr_t)arg) return (void *)1; /* handed out twice */
      desc_free(*t);
      *t = NULL;
    }
  }
  return NULL;
}

static void threads_share_no_descriptor(void) {
  pthread_t threads[4];
  void *failed[4];
  begin();
  steps = test_steps(200000);
  for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, churn, (void *)(i + 10));
  for (int i = 0; i < 4; i++) pthread_join(threads[i], &failed[i]);
  for (int i = 0; i < 4; i++) CU_ASSERT_PTR_NULL(failed[i]);
  end();
}

static const struct unit_test tests[] = {
    {"new_ones_are_zero_and_aligned", new_ones_are_zero_and_aligned},
    {"what_a_cache_had_stays_its_own", what_a_cache_had_stays_its_own},
    {"references_lead_back", references_lead_back},
    {"references_reach_far_enough", references_reach_far_enough},
    {"giants_are_whole", giants_are_whole},
    {"exhaustion_is_null_and_passes", exhaustion_is_null_and_passes},
    {"refused_memory_is_null_and_passes", refused_memory_is_null_and_passes},
    {"threads_share_no_descriptor", threads_share_no_descriptor},
    {0},
};

int main(void) { return unit_main("desc", tests); }
