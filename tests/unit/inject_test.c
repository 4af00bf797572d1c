/* Every system call refused, one at a time: a whole life of the heap is run in a child for each n
 * with the n-th call refused, until no call is left to refuse. Whatever happens, requests end in
 * memory or in NULL and ENOMEM, contents stay, and the heap is consistent afterwards and works
 * again. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "alloc/options.h"
#include "alloc/tcache.h"
#include "arch/sys.h"
#include "page/frames.h"
#include "quire.h"
#include "slab/bin.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/fake.h"
#include "tests/unit/random.h"

enum { HELD = 64 };

static unsigned refuse_at, refuse_every;
static enum fake_call refuse_kind;
static int refuse_with;
static enum frames_huge huge;

static struct {
  unsigned char *p;
  size_t size;
} held[HELD];

static void mark(int i) {
  held[i].p[0] = (unsigned char)i;
  held[i].p[held[i].size - 1] = (unsigned char)i;
}

static bool marked(int i, size_t size) {
  return held[i].p[0] == i && (size < held[i].size || held[i].p[held[i].size - 1] == i);
}

/* Memory, or NULL and ENOMEM. */
static void expect(void *p) { child_check(p != NULL || errno == ENOMEM); }

static void *get(int i, size_t size, struct random *r) {
  errno = 0;
  switch (i % 4) {
  case 0:
    return quire_malloc(size);
  case 1: {
    unsigned char *p = quire_calloc(size, 1);
    if (p != NULL) child_check(p[0] == 0 && p[size / 2] == 0 && p[size - 1] == 0);
    return p;
  }
  case 2:
    return quire_aligned_alloc((size_t)1 << random_below(r, 23), size);
  default:
    return quire_realloc(NULL, size);
  }
}

static void *other_thread(void *arg) {
  void *p = quire_malloc(1000);
  expect(p);
  quire_free(p);
  quire_free(arg);
  return NULL;
}

static void live(unsigned rounds) {
  struct random r = {11};
  for (unsigned n = 0; n < rounds; n++) {
    int i = (int)random_below(&r, HELD);
    if (held[i].p != NULL) {
      child_check(marked(i, held[i].size));
      if (n % 3 == 0) {
        size_t size = 1 + random_size(&r, 23);
        errno = 0;
        unsigned char *p = quire_realloc(held[i].p, size);
        expect(p);
        if (p != NULL) {
          held[i].p = p;
          child_check(marked(i, size < held[i].size ? size : held[i].size));
          held[i].size = size;
          mark(i);
        } else {
          child_check(marked(i, held[i].size)); /* untouched */
        }
      } else {
        quire_free(held[i].p);
        held[i].p = NULL;
      }
    } else {
      held[i].size = 1 + random_size(&r, n % 8 == 0 ? 24 : 16);
      expect(held[i].p = get((int)n, held[i].size, &r));
      if (held[i].p != NULL) mark(i);
    }
    if (n % 16 == 15) {
      fake.now += 400;
      (void)frames_decay(fake.now);
    }
    if (n % 64 == 63) (void)tcache_reclaim(true);
    if (n % 50 == 49) (void)frames_purge(0);
  }
}

static void whole_life(void) {
  fake_install();
  if (refuse_with != 0) fake.refuse[refuse_kind] = refuse_with;
  fake.refuse_at = refuse_at;
  fake.refuse_every = refuse_every;
  fake.populate_faults = refuse_at % 2 == 0 ? 1 : 512;
  /* The first call starts the heap, and may fail to. */
  void *first = quire_malloc(10);
  expect(first);
  options.background = CHOICE_BACKGROUND_OFF; /* its calls would come at any time */
  heap_configure(huge, 4 << 20, 1000);
  live(600);
  pthread_t thread;
  if (pthread_create(&thread, NULL, other_thread, first) == 0) pthread_join(thread, NULL);
  /* From here on the kernel is willing: all must work, and nothing may have been lost. */
  fake.refuse_at = fake.refuse_every = 0;
  memset(fake.refuse, 0, sizeof fake.refuse);
  for (int i = 0; i < HELD; i++) {
    child_check(held[i].p == NULL || marked(i, held[i].size));
    quire_free(held[i].p);
    held[i].p = NULL;
  }
  unsigned char *p = quire_malloc(50 << 20);
  child_check(p != NULL);
  p[(50 << 20) - 1] = 1;
  quire_free(p);
  live(50);
  for (int i = 0; i < HELD; i++) quire_free(held[i].p);
  tcache_flush();
  (void)bin_trim(true);
  (void)frames_purge(0);
  child_check(frames_consistent() && tcache_consistent());
  for (unsigned c = 0; c < SLAB_CLASSES; c++) child_check(bin_consistent(c));
  child_check(frames_used() == 0);
  struct frames_stats stats;
  frames_stats(&stats);
  child_check(stats.free_resident == 0);
}

static unsigned calls_made;

/* How many calls a life makes when none is refused, told by its exit status in two halves. */
static void count_low(void) {
  refuse_at = 0;
  whole_life();
  _exit((int)(fake.total & 0x7f));
}

static void count_high(void) {
  refuse_at = 0;
  whole_life();
  _exit((int)(fake.total >> 7 & 0x7f));
}

static void count_calls(void) {
  int low = child_status(count_low), high = child_status(count_high);
  calls_made = WIFEXITED(low) && WIFEXITED(high)
                   ? (unsigned)WEXITSTATUS(low) + 128u * (unsigned)WEXITSTATUS(high)
                   : 0;
}

static void refuse_each(enum frames_huge mode) {
  unsigned wrong = 0, first_wrong = 0, samples = 1 + (unsigned)(test_steps(1000000) / 1000);
  huge = mode;
  refuse_with = 0;
  refuse_every = 0;
  count_calls();
  CU_ASSERT_TRUE(calls_made > 20);
  unsigned step = 1 + calls_made / samples;
  for (refuse_at = 1; refuse_at <= calls_made; refuse_at += step)
    if (!child_lives(whole_life) && wrong++ == 0) first_wrong = refuse_at;
  if (wrong > 0)
    printf("%u of %u refusals went wrong, the first at %u\n", wrong, calls_made, first_wrong);
  else
    printf("of %u calls each %uth refused\n", calls_made, step);
  CU_ASSERT_EQUAL(wrong, 0);
}

static void each_call_refused_on_small_pages(void) { refuse_each(FRAMES_HUGE_NEVER); }
static void each_call_refused_on_hugepages(void) { refuse_each(FRAMES_HUGE_ALWAYS); }

/* Kinds of calls that a kernel or a sandbox may not permit at all. */
static void whole_kinds_refused(void) {
  static const enum fake_call kinds[] = {
      FAKE_DISCARD, FAKE_ADVISE_HUGE, FAKE_COLLAPSE,        FAKE_POPULATE,  FAKE_MOVE,
      FAKE_REFRESH, FAKE_CLOSE,       FAKE_REFRESH_HUGETLB, FAKE_RSEQ_FENCE};
  refuse_at = refuse_every = 0;
  for (unsigned mode = FRAMES_HUGE_AUTO; mode <= FRAMES_HUGE_HUGETLB; mode++)
    for (unsigned i = 0; i < array_size(kinds); i++) {
      huge = (enum frames_huge)mode;
      if (mode == FRAMES_HUGE_HUGETLB && kinds[i] != FAKE_REFRESH_HUGETLB) continue;
      refuse_kind = kinds[i];
      refuse_with = i % 2 == 0 ? -EPERM : -EINVAL;
      bool lived = child_lives(whole_life);
      if (!lived) printf("kind %u refused in mode %u\n", kinds[i], mode);
      CU_ASSERT_TRUE(lived);
    }
  refuse_with = 0;
}

static void frequent_refusals(void) {
  refuse_at = 0;
  huge = FRAMES_HUGE_AUTO;
  for (refuse_every = 2; refuse_every < 12; refuse_every++) CU_ASSERT_TRUE(child_lives(whole_life));
  refuse_every = 0;
}

static void no_address_space(void) {
  fake_install();
  fake.refuse[FAKE_RESERVE] = -ENOMEM;
  errno = 0;
  child_check(quire_malloc(10) == NULL && errno == ENOMEM);
  child_check(quire_calloc(1, 1 << 20) == NULL && errno == ENOMEM);
  child_check(quire_aligned_alloc(64, 64) == NULL && errno == ENOMEM);
  child_check(quire_realloc(NULL, 5 << 20) == NULL && errno == ENOMEM);
  quire_free(NULL);
  fake.refuse[FAKE_RESERVE] = 0;
  void *p = quire_malloc(10); /* the next one tries again */
  child_check(p != NULL);
  quire_free(p);
}

static void no_address_space_is_enomem(void) { CU_ASSERT_TRUE(child_lives(no_address_space)); }

static const struct unit_test tests[] = {
    {"each_call_refused_on_small_pages", each_call_refused_on_small_pages},
    {"each_call_refused_on_hugepages", each_call_refused_on_hugepages},
    {"whole_kinds_refused", whole_kinds_refused},
    {"frequent_refusals", frequent_refusals},
    {"no_address_space_is_enomem", no_address_space_is_enomem},
    {0},
};

int main(void) { return unit_main("inject", tests); }
