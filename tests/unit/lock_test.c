#include "arch/lock.h"

#include <pthread.h>

#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/random.h"

enum { THREADS = 4 };

static struct lock counted = LOCK_INIT(RANK_FRAMES);
static uint64_t counter, rounds;

static void *count(void *arg) {
  for (uint64_t i = 0; i < rounds; i++) {
    if (i % 4 == 3) {
      while (!lock_try(&counted)) cpu_relax();
    } else {
      lock_acquire(&counted);
    }
    counter++;
    lock_release(&counted);
  }
  return arg;
}

static void only_one_thread_holds_it(void) {
  pthread_t threads[THREADS];
  rounds = test_steps(400000);
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, count, NULL);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  CU_ASSERT_EQUAL(counter, THREADS * rounds);
  CU_ASSERT_FALSE(lock_is_held(&counted));
}

static void trying_a_held_lock_fails(void) {
  struct lock lock = LOCK_INIT(RANK_BIN);
  CU_ASSERT_TRUE(lock_try(&lock));
  CU_ASSERT_FALSE(lock_try(&lock));
  CU_ASSERT_TRUE(lock_is_held(&lock));
  lock_release(&lock);
  CU_ASSERT_TRUE(lock_try(&lock));
  lock_release(&lock);
}

/* As a forked child finds it: held by its own thread, with waiters that were not copied. */
static void reset_frees_a_contended_lock(void) {
  struct lock lock = LOCK_INIT(RANK_BIN);
  lock_acquire(&lock);
  lock.word = 2;
  lock_reset(&lock);
  CU_ASSERT_FALSE(lock_is_held(&lock));
  lock_acquire(&lock);
  lock_release(&lock);
}

static struct lock low = LOCK_INIT(RANK_REGISTRY), high = LOCK_INIT(RANK_REGION);
static struct lock set_a = LOCK_INIT(RANK_BIN), set_b = LOCK_INIT(RANK_BIN);
static struct lock single_a = LOCK_INIT(RANK_FRAMES), single_b = LOCK_INIT(RANK_FRAMES);

static void in_order(void) {
  lock_acquire(&low);
  lock_acquire(&set_a);
  lock_acquire(&set_b);
  lock_acquire(&high);
  lock_release(&low); /* releasing in any order is fine */
  lock_release(&high);
  lock_release(&set_b);
  lock_release(&set_a);
  lock_acquire(&low);
  lock_release(&low);
}

static void out_of_order(void) {
  lock_acquire(&high);
  lock_acquire(&low);
}

static void out_of_order_by_try(void) {
  lock_acquire(&high);
  if (lock_try(&low)) lock_release(&low);
}

static void same_rank_twice(void) {
  lock_acquire(&single_a);
  lock_acquire(&single_b);
}

static void release_of_what_is_not_held(void) { lock_release(&low); }

static void order_of_ranks_is_permitted(void) { CU_ASSERT_TRUE(child_lives(in_order)); }

static void violations_of_rank_are_fatal(void) {
  if (!DEBUG_CHECKS) {
    unit_skip("ranks are checked in debug builds");
    return;
  }
  CU_ASSERT_TRUE(child_dies(out_of_order));
  CU_ASSERT_TRUE(child_dies(out_of_order_by_try));
  CU_ASSERT_TRUE(child_dies(same_rank_twice));
  CU_ASSERT_TRUE(child_dies(release_of_what_is_not_held));
}

static const struct unit_test tests[] = {
    {"only_one_thread_holds_it", only_one_thread_holds_it},
    {"trying_a_held_lock_fails", trying_a_held_lock_fails},
    {"reset_frees_a_contended_lock", reset_frees_a_contended_lock},
    {"order_of_ranks_is_permitted", order_of_ranks_is_permitted},
    {"violations_of_rank_are_fatal", violations_of_rank_are_fatal},
    {0},
};

int main(void) { return unit_main("lock", tests); }
