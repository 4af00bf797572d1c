/* Thread caches under the real kernel and, where libc registered for them, real restartable
 * sequences. */
#include "alloc/tcache.h"

#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#include "alloc/options.h"
#include "arch/sys.h"
#include "page/folio.h"
#include "quire.h"
#include "slab/bin.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/random.h"

static struct tcache_stats stats_now(void) {
  struct tcache_stats stats;
  tcache_stats(&stats);
  return stats;
}

static void give_back(void) {
  tcache_flush();
  (void)bin_trim(true);
}

/* Who still has frames, if anybody. */
static size_t frames_left(void) {
  struct bin_stats bin;
  size_t left = frames_used();
  for (unsigned c = 0; left > 0 && c < CACHED_CLASSES; c++) {
    bin_stats(c, &bin);
    if (bin.nslabs + bin.transfer == 0) continue;
    printf("class %u: %zu slabs, %zu full, %zu slots free, %zu in transfer\n", c, bin.nslabs,
           bin.nfull, bin.free_slots, bin.transfer);
  }
  if (left > 0) printf("%zu frames used, %zu folios\n", left, load_relaxed(&folio_cache.nlive));
  return left;
}

static void cycle(size_t size, void **out, size_t n) {
  for (size_t i = 0; i < n; i++) CU_ASSERT_PTR_NOT_NULL_FATAL(out[i] = quire_malloc(size));
  for (size_t i = 0; i < n; i++) quire_free(out[i]);
}

static void a_class_grows_with_its_misses(void) {
  static void *objects[4000];
  unsigned c = class_of(64);
  give_back();
  cycle(64, objects, 4);
  size_t few = tcache_objects(c);
  for (int i = 0; i < 20; i++) cycle(64, objects, 4000);
  size_t many = tcache_objects(c);
  CU_ASSERT_TRUE(few >= 1 && few <= 16);
  CU_ASSERT_TRUE(many > 64);
  CU_ASSERT_TRUE(many * 64 <= 64 << 10); /* bounded in bytes however many misses */
  CU_ASSERT_TRUE(tcache_consistent());
  give_back();
  CU_ASSERT_EQUAL(tcache_objects(c), 0);
  CU_ASSERT_EQUAL(frames_left(), 0);
}

static void every_class_keeps_within_the_budgets(void) {
  static void *objects[1000];
  for (unsigned c = 0; c < CACHED_CLASSES; c++)
    for (int i = 0; i < 3; i++) cycle(class_size(c), objects, class_is_slab(c) ? 1000 : 20);
  struct tcache_stats stats = stats_now();
  CU_ASSERT_EQUAL(stats.ncaches, 1);
  CU_ASSERT_TRUE(stats.bytes <= stats.budget);
  CU_ASSERT_TRUE(stats.budget <= options.cache_thread);
  CU_ASSERT_TRUE(tcache_consistent());
  give_back();
  CU_ASSERT_EQUAL(frames_left(), 0);
}

static void small_budgets_are_kept(void) {
  static void *objects[1000];
  size_t before = options.cache_thread;
  give_back();
  options.cache_thread = 0; /* claimed already stays; no more is claimed */
  size_t claimed = stats_now().budget;
  for (unsigned c = 0; c < CACHED_CLASSES; c += 3)
    cycle(class_size(c), objects, class_is_slab(c) ? 1000 : 20);
  CU_ASSERT_TRUE(stats_now().budget <= claimed);
  CU_ASSERT_TRUE(tcache_consistent());
  options.cache_thread = before;
  give_back();
  CU_ASSERT_EQUAL(frames_left(), 0);
}

/* Classes that are not in use any more shrink while others miss. */
static void unused_classes_are_scavenged(void) {
  static void *objects[4000];
  unsigned c = class_of(48);
  for (int i = 0; i < 20; i++) cycle(48, objects, 4000);
  size_t before = tcache_objects(c);
  for (int i = 0; i < 60; i++) cycle(65536, objects, 200);
  CU_ASSERT_TRUE(before > 64);
  CU_ASSERT_TRUE(tcache_objects(c) <= before / 4);
  CU_ASSERT_TRUE(tcache_consistent());
  give_back();
}

static void *live_and_die(void *arg) {
  static _Thread_local void *objects[2000];
  struct random r = {(uintptr_t)arg};
  for (int round = 0; round < 5; round++) {
    for (int i = 0; i < 2000; i++) objects[i] = quire_malloc(random_size(&r, 14));
    for (int i = 0; i < 2000; i++) quire_free(objects[i]);
  }
  return NULL;
}

static void a_thread_that_exits_gives_all_back(void) {
  give_back();
  size_t caches = stats_now().ncaches, budget = stats_now().budget;
  for (uintptr_t i = 1; i <= 20; i++) {
    pthread_t threads[3];
    for (uintptr_t k = 0; k < 3; k++)
      pthread_create(&threads[k], NULL, live_and_die, (void *)(i + k));
    for (int k = 0; k < 3; k++) pthread_join(threads[k], NULL);
  }
  CU_ASSERT_EQUAL(stats_now().ncaches, caches);
  CU_ASSERT_EQUAL(stats_now().bytes, 0);
  CU_ASSERT_EQUAL(stats_now().budget, budget);
  CU_ASSERT_TRUE(tcache_consistent());
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_left(), 0);
}

static pthread_key_t late_key;

static void late_destructor(void *p) {
  void *objects[100];
  quire_free(p);
  for (int i = 0; i < 100; i++) objects[i] = quire_malloc(100 + (size_t)i);
  for (int i = 0; i < 100; i++) quire_free(objects[i]);
  static _Thread_local int again;
  if (again++ < 2) pthread_setspecific(late_key, quire_malloc(33));
}

static void *use_late_key(void *arg) {
  pthread_setspecific(late_key, quire_malloc(32));
  return arg;
}

/* Other libraries' destructors run after the cache is gone, and may allocate and free. */
static void destructors_may_outlive_the_cache(void) {
  pthread_t thread;
  give_back();
  CU_ASSERT_EQUAL_FATAL(pthread_key_create(&late_key, late_destructor), 0);
  size_t caches = stats_now().ncaches;
  for (int i = 0; i < 10; i++) {
    pthread_create(&thread, NULL, use_late_key, NULL);
    pthread_join(thread, NULL);
  }
  CU_ASSERT_EQUAL(stats_now().ncaches, caches);
  pthread_key_delete(late_key);
  give_back();
  CU_ASSERT_EQUAL(frames_left(), 0);
}

static void recently_freed_are_known(void) {
  void *p[3];
  for (int i = 0; i < 3; i++) p[i] = quire_malloc(40);
  unsigned c = class_of(40);
  CU_ASSERT_FALSE(tcache_recently_freed(c, p[1]));
  quire_free(p[1]);
  CU_ASSERT_TRUE(tcache_recently_freed(c, p[1]));
  CU_ASSERT_FALSE(tcache_recently_freed(c, p[0]));
  quire_free(p[0]);
  quire_free(p[2]);
  CU_ASSERT_TRUE(tcache_recently_freed(c, p[1]));
  give_back();
}

/* ---- taking what idle threads hold ---- */

static sem_t ready, go;

static void *fill_and_wait(void *arg) {
  enum { N = 200 };
  static _Thread_local unsigned char *objects[N];
  uintptr_t wrong = 0;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < N; i++) {
      objects[i] = quire_malloc(500);
      memset(objects[i], i, 500);
    }
    for (int i = 0; i < N; i++) wrong += objects[i][0] != i || objects[i][499] != i;
    for (int i = 0; i < N; i++) quire_free(objects[i]);
    sem_post(&ready);
    sem_wait(&go);
  }
  (void)arg;
  return (void *)wrong;
}

static bool takeable(void) {
  if (rseq_stack_area() != NULL && sys->rseq_fence() == 0) return true;
  unit_skip("no restartable sequences here: nobody may take a thread's cache");
  return false;
}

static void idle_caches_are_taken(void) {
  pthread_t thread;
  void *wrong;
  if (!takeable()) return;
  give_back();
  sem_init(&ready, 0, 0);
  sem_init(&go, 0, 0);
  pthread_create(&thread, NULL, fill_and_wait, NULL);
  uint64_t before = stats_now().reclaimed;
  for (int round = 0; round < 3; round++) {
    sem_wait(&ready);
    CU_ASSERT_TRUE(stats_now().bytes > 0);
    size_t taken = tcache_reclaim(false); /* notes where the stacks stand */
    taken += tcache_reclaim(false);
    CU_ASSERT_TRUE(taken > 0);
    CU_ASSERT_EQUAL(stats_now().bytes, 0);
    CU_ASSERT_TRUE(tcache_consistent());
    sem_post(&go);
  }
  CU_ASSERT_TRUE(stats_now().reclaimed > before);
  pthread_join(thread, &wrong);
  CU_ASSERT_PTR_NULL(wrong);
  give_back();
  CU_ASSERT_EQUAL(frames_left(), 0);
}

static uint32_t stop;
static uint64_t steps, taken_so_far;

/* Each object bears its owner's number while it is held: two owners would see each other's. */
static void *hammer(void *arg) {
  enum { HELD = 64 };
  static const size_t sizes[] = {8, 16, 64, 500, 5000, 65536, 100000};
  uint64_t *held[HELD] = {NULL}, stamp = (uint64_t)(uintptr_t)arg << 40;
  struct random r = {stamp};
  uintptr_t wrong = 0;
  /* Until something was taken from somebody, lest nothing be tried. */
  for (uint64_t i = 0; i < steps || (load_relaxed(&taken_so_far) == 0 && i < steps * 1000); i++) {
    size_t at = random_below(&r, HELD);
    if (held[at] != NULL) {
      wrong += (*held[at] & ~(uint64_t)0xff) != stamp || (*held[at] & 0xff) != at;
      *held[at] = 0;
      quire_free(held[at]);
    }
    size_t size = sizes[random_below(&r, random_below(&r, 16) == 0 ? array_size(sizes) : 4)];
    held[at] = quire_malloc(size);
    *held[at] = stamp | at;
  }
  for (size_t at = 0; at < HELD; at++) quire_free(held[at]);
  return (void *)wrong;
}

static void *reclaim_always(void *arg) {
  while (!load_relaxed(&stop)) add_relaxed(&taken_so_far, tcache_reclaim(true));
  return arg;
}

static void owners_lose_nothing_while_they_hammer(void) {
  pthread_t threads[3], taker;
  void *wrong;
  if (!takeable()) return;
  give_back();
  stop = 0;
  steps = test_steps(300000);
  pthread_create(&taker, NULL, reclaim_always, NULL);
  for (uintptr_t i = 0; i < 3; i++) pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
  for (int i = 0; i < 3; i++) {
    pthread_join(threads[i], &wrong);
    CU_ASSERT_PTR_NULL(wrong);
  }
  store_relaxed(&stop, 1);
  pthread_join(taker, NULL);
  CU_ASSERT_TRUE(taken_so_far > 0);
  CU_ASSERT_TRUE(tcache_consistent());
  for (unsigned c = 0; c < SLAB_CLASSES; c++) CU_ASSERT_TRUE(bin_consistent(c));
  give_back();
  CU_ASSERT_EQUAL(frames_left(), 0);
}

/* ---- one thread allocates, another frees ---- */

enum { RING = 1024 };

static void *ring[RING];
static uint64_t produced, consumed;

static void *produce(void *arg) {
  struct random r = {7};
  for (uint64_t i = 0; i < steps; i++) {
    while (i - load_acquire(&consumed) >= RING) sched_yield();
    size_t size = 8 + random_size(&r, 12);
    uint64_t *p = quire_malloc(size);
    *p = i ^ size;
    ring[i % RING] = p;
    store_release(&produced, i + 1);
  }
  return arg;
}

static void *consume(void *arg) {
  struct random r = {7};
  uintptr_t wrong = 0;
  for (uint64_t i = 0; i < steps; i++) {
    while (load_acquire(&produced) <= i) sched_yield();
    uint64_t *p = ring[i % RING];
    wrong += *p != (i ^ (8 + random_size(&r, 12)));
    quire_free(p);
    store_release(&consumed, i + 1);
  }
  (void)arg;
  return (void *)wrong;
}

static void objects_cross_threads(void) {
  pthread_t producer, consumer;
  void *wrong;
  give_back();
  steps = test_steps(1000000);
  produced = consumed = 0;
  pthread_create(&producer, NULL, produce, NULL);
  pthread_create(&consumer, NULL, consume, NULL);
  pthread_join(producer, NULL);
  pthread_join(consumer, &wrong);
  CU_ASSERT_PTR_NULL(wrong);
  give_back();
  CU_ASSERT_EQUAL(frames_left(), 0);
}

/* ---- fork ---- */

static void *churn_until_stopped(void *arg) {
  struct random r = {(uintptr_t)arg};
  void *held[100] = {NULL};
  while (!load_relaxed(&stop)) {
    size_t at = random_below(&r, 100);
    quire_free(held[at]);
    held[at] = quire_malloc(random_size(&r, 16));
  }
  for (int i = 0; i < 100; i++) quire_free(held[i]);
  return NULL;
}

static void allocate_in_child(void) {
  static void *objects[3000];
  struct random r = {3};
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 3000; i++) {
      child_check((objects[i] = quire_malloc(8 + random_size(&r, 15))) != NULL);
      *(uint64_t *)objects[i] = (uint64_t)i;
    }
    for (int i = 0; i < 3000; i++) {
      child_check(*(uint64_t *)objects[i] == (uint64_t)i);
      quire_free(objects[i]);
    }
  }
  child_check(stats_now().ncaches == 1);
  child_check(tcache_consistent() && frames_consistent());
  for (unsigned c = 0; c < SLAB_CLASSES; c++) child_check(bin_consistent(c));
}

static void children_of_busy_processes_work(void) {
#ifdef __SANITIZE_THREAD__
  unit_skip("the thread sanitizer has no fork with threads");
  return;
#endif
  pthread_t threads[3];
  quire_free(quire_malloc(1));
  stop = 0;
  for (uintptr_t i = 0; i < 3; i++)
    pthread_create(&threads[i], NULL, churn_until_stopped, (void *)(i + 1));
  for (int i = 0; i < 60; i++) CU_ASSERT_TRUE(child_lives(allocate_in_child));
  store_relaxed(&stop, 1);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  CU_ASSERT_TRUE(tcache_consistent());
  give_back();
  CU_ASSERT_EQUAL(frames_left(), 0);
}

static const struct unit_test tests[] = {
    {"a_class_grows_with_its_misses", a_class_grows_with_its_misses},
    {"every_class_keeps_within_the_budgets", every_class_keeps_within_the_budgets},
    {"small_budgets_are_kept", small_budgets_are_kept},
    {"unused_classes_are_scavenged", unused_classes_are_scavenged},
    {"a_thread_that_exits_gives_all_back", a_thread_that_exits_gives_all_back},
    {"destructors_may_outlive_the_cache", destructors_may_outlive_the_cache},
    {"recently_freed_are_known", recently_freed_are_known},
    {"idle_caches_are_taken", idle_caches_are_taken},
    {"owners_lose_nothing_while_they_hammer", owners_lose_nothing_while_they_hammer},
    {"objects_cross_threads", objects_cross_threads},
    {"children_of_busy_processes_work", children_of_busy_processes_work},
    {0},
};

int main(void) {
  /* What is counted here must not be on its way through another thread's hands. */
  quire_free(quire_malloc(1));
  options.background = CHOICE_BACKGROUND_OFF;
  return unit_main("tcache", tests);
}
