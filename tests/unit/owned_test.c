/* Owners of the program's own: a pool with handles (pool.c) is compacted, and owners that misbehave
 * in every way that they may. */
#include "page/owned.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "page/hold.h"
#include "page/poison.h"
#include "quire.h"
#include "tests/unit/check.h"
#include "tests/unit/child.h"
#include "tests/unit/pool.h"
#include "tests/unit/random.h"

enum { OBJECTS = 20000, SIZE = 200 };

static uint32_t handles[OBJECTS];

static void write_object(struct pool *pool, uint32_t handle, uint32_t seed) {
  pool_lock(pool);
  uint32_t *words = pool_at(pool, handle);
  for (unsigned i = 0; i < SIZE / 4; i++) words[i] = seed * 2654435761u + i;
  pool_unlock(pool);
}

static bool object_is(struct pool *pool, uint32_t handle, uint32_t seed) {
  bool same = true;
  pool_lock(pool);
  const uint32_t *words = pool_at(pool, handle);
  for (unsigned i = 0; i < SIZE / 4; i++) same = same && words[i] == seed * 2654435761u + i;
  pool_unlock(pool);
  return same;
}

/* A pool of which one object in `keep` is left, at random. */
static struct pool *sparse_pool(uint32_t keep) {
  struct random r = {keep};
  struct pool *pool = pool_new(SIZE, OBJECTS);
  for (uint32_t i = 0; i < OBJECTS; i++) {
    handles[i] = pool_get(pool);
    write_object(pool, handles[i], i);
  }
  for (uint32_t i = 0; i < OBJECTS; i++)
    if (random_below(&r, keep) != 0) {
      pool_put(pool, handles[i]);
      handles[i] = 0;
    }
  return pool;
}

static void check_objects(struct pool *pool) {
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < OBJECTS; i++)
    if (handles[i] != 0) wrong += !object_is(pool, handles[i], i);
  CU_ASSERT_EQUAL(wrong, 0);
}

static void drain(struct pool *pool) {
  for (uint32_t i = 0; i < OBJECTS; i++)
    if (handles[i] != 0) pool_put(pool, handles[i]);
  CU_ASSERT_TRUE(pool_delete(pool));
  CU_ASSERT_EQUAL(owned_frames(), 0);
  CU_ASSERT_EQUAL(owned_cache.nlive, 0);
  CU_ASSERT_EQUAL(holder_cache.nlive, 0);
}

static void sparse_pools_are_compacted(void) {
  struct pool *pool = sparse_pool(10);
  struct quire_stats st;
  size_t before = owned_frames();
  size_t gained = owned_compact();
  struct pool_counts counts = pool_counts(pool);
  size_t needed = (size_t)counts.objects * 208 / FRAME_SIZE;
  CU_ASSERT_EQUAL(gained, before - owned_frames());
  /* A run may be up to three quarters full and stay. */
  CU_ASSERT_TRUE(owned_frames() * 3 <= needed * 4 + 64);
  CU_ASSERT_TRUE(gained * 10 > before * 8);
  check_objects(pool);
  CU_ASSERT_EQUAL(counts.isolated, counts.put_back + counts.migrated);
  CU_ASSERT_TRUE(frames_consistent());
  CU_ASSERT_EQUAL(quire_stats(&st), 0);
  CU_ASSERT_EQUAL(st.owned_live, owned_frames() * FRAME_SIZE);
  /* And again: nothing is left to gain, and nothing is moved for it. */
  uint32_t moved = counts.moved;
  CU_ASSERT_EQUAL(owned_compact(), 0);
  CU_ASSERT_TRUE(pool_counts(pool).moved - moved < 2000);
  check_objects(pool);
  drain(pool);
}

static void busy_pools_are_left_alone(void) {
  struct pool *pool = sparse_pool(10);
  size_t before = owned_frames();
  pool_lock(pool); /* by this thread: a trylock fails all the same */
  CU_ASSERT_EQUAL(owned_compact(), 0);
  pool_unlock(pool);
  CU_ASSERT_EQUAL(owned_frames(), before);
  CU_ASSERT_EQUAL(pool_counts(pool).isolated, 0);
  check_objects(pool);
  drain(pool);
}

static void pinned_runs_stay(void) {
  struct pool *pool = sparse_pool(10);
  uint32_t i = 0;
  while (handles[i] == 0) i++;
  void *p = pool_at(pool, handles[i]);
  CU_ASSERT_EQUAL(quire_pin(p, SIZE, QUIRE_PIN_LONG), 0);
  CU_ASSERT_TRUE(owned_compact() > 0);
  CU_ASSERT_PTR_EQUAL(pool_at(pool, handles[i]), p);
  CU_ASSERT_EQUAL(quire_unpin(p, SIZE, QUIRE_PIN_LONG), 0);
  pool_refuse_long_pins(pool);
  CU_ASSERT_EQUAL(quire_pin(p, SIZE, QUIRE_PIN_LONG), EBUSY);
  CU_ASSERT_EQUAL(pin_frames(), 0);
  CU_ASSERT_EQUAL(quire_pin(p, SIZE, QUIRE_PIN_TRANSIENT), 0);
  CU_ASSERT_EQUAL(quire_unpin(p, SIZE, QUIRE_PIN_TRANSIENT), 0);
  check_objects(pool);
  drain(pool);
}

/* ---- owners that only answer ---- */

static struct {
  enum quire_verdict isolate, migrate;
  size_t live;
  unsigned isolates, migrates, put_backs, describes, poisons;
  bool free_it; /* in migrate */
  void *freed_in_isolate;
  struct quire_owner *owner;
} answer;

static void answer_describe(void *cookie, const void *p, size_t frames,
                            struct quire_owner_view *out) {
  (void)cookie, (void)p, (void)frames;
  out->live = answer.live;
  answer.describes++;
}

static enum quire_verdict answer_isolate(void *cookie, void *p, size_t frames) {
  (void)cookie, (void)frames;
  answer.isolates++;
  if (answer.freed_in_isolate == p) quire_owner_free(answer.owner, p);
  return answer.isolate;
}

static enum quire_verdict answer_migrate(void *cookie, void *p, size_t frames) {
  (void)cookie, (void)frames;
  answer.migrates++;
  memset(p, 1, frames * FRAME_SIZE);
  if (answer.free_it) {
    quire_owner_free(answer.owner, p);
    memset(p, 2, frames * FRAME_SIZE); /* still there */
  }
  return answer.migrate;
}

static void answer_put_back(void *cookie, void *p, size_t frames) {
  (void)cookie, (void)p, (void)frames;
  answer.put_backs++;
}

static enum quire_verdict answer_poison(void *cookie, void *p, size_t frames, void *failed) {
  (void)cookie;
  answer.poisons++;
  CU_ASSERT_TRUE((char *)failed >= (char *)p && (char *)failed < (char *)p + frames * FRAME_SIZE);
  return QUIRE_DONE;
}

static const struct quire_owner_ops answers = {
    .describe = answer_describe,
    .isolate = answer_isolate,
    .migrate = answer_migrate,
    .put_back = answer_put_back,
    .poison = answer_poison,
};

enum { RUNS = 20 };
static void *runs[RUNS];

static void begin(size_t frames) {
  memset(&answer, 0, sizeof answer);
  answer.owner = quire_owner_create(&answers, &answer);
  CU_ASSERT_PTR_NOT_NULL_FATAL(answer.owner);
  for (int i = 0; i < RUNS; i++) {
    runs[i] = quire_owner_alloc(answer.owner, frames);
    CU_ASSERT_PTR_NOT_NULL_FATAL(runs[i]);
    memset(runs[i], i, frames * FRAME_SIZE);
  }
}

static void end(bool freed) {
  for (int i = 0; i < RUNS && !freed; i++) quire_owner_free(answer.owner, runs[i]);
  CU_ASSERT_EQUAL(quire_owner_destroy(answer.owner), 0);
  CU_ASSERT_EQUAL(owned_frames(), 0);
}

static void runs_that_are_freed_are_gained(void) {
  begin(5);
  answer.free_it = true;
  CU_ASSERT_EQUAL(owned_compact(), 5 * RUNS);
  CU_ASSERT_EQUAL(answer.migrates, RUNS);
  CU_ASSERT_EQUAL(answer.put_backs, 0);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(arena_pfn(runs[3]))), MEMDESC_FREE);
  end(true);
}

static void full_runs_are_not_asked(void) {
  begin(5);
  answer.live = 5 * FRAME_SIZE;
  CU_ASSERT_EQUAL(owned_compact(), 0);
  CU_ASSERT_EQUAL(answer.describes, RUNS);
  CU_ASSERT_EQUAL(answer.isolates, 0);
  answer.live = SIZE_MAX; /* nonsense is as good as full */
  CU_ASSERT_EQUAL(owned_compact(), 0);
  CU_ASSERT_EQUAL(answer.isolates, 0);
  end(false);
}

static void refusals_end_a_pass(void) {
  static const enum quire_verdict verdicts[] = {QUIRE_BUSY, QUIRE_PINNED, QUIRE_NEVER,
                                                (enum quire_verdict)77};
  for (unsigned i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
    begin(3);
    answer.migrate = verdicts[i];
    CU_ASSERT_EQUAL(owned_compact(), 0);
    CU_ASSERT_TRUE(answer.migrates > 0 && answer.migrates < RUNS);
    CU_ASSERT_EQUAL(answer.put_backs, answer.migrates);
    unsigned before = answer.migrates;
    CU_ASSERT_EQUAL(owned_compact(), 0); /* asked again by the next */
    CU_ASSERT_EQUAL(answer.migrates, 2 * before);
    answer.migrate = QUIRE_DONE;
    answer.isolate = verdicts[i];
    CU_ASSERT_EQUAL(owned_compact(), 0);
    CU_ASSERT_EQUAL(answer.migrates, 2 * before);
    for (int k = 0; k < RUNS; k++)
      CU_ASSERT_EQUAL(memdesc_flags(memmap_get(arena_pfn(runs[k]))), 0);
    end(false);
  }
}

static void runs_may_go_at_any_moment(void) {
  begin(3);
  answer.migrate = QUIRE_BUSY;
  answer.freed_in_isolate = runs[0];
  CU_ASSERT_EQUAL(owned_compact(), 3);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(arena_pfn(runs[0]))), MEMDESC_FREE);
  runs[0] = quire_owner_alloc(answer.owner, 3);
  answer.freed_in_isolate = runs[0];
  answer.isolate = QUIRE_NEVER;
  (void)owned_compact();
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(arena_pfn(runs[0]))), MEMDESC_FREE);
  runs[0] = quire_owner_alloc(answer.owner, 3);
  end(false);
}

static void without_callbacks_nothing_moves(void) {
  static const struct quire_owner_ops none;
  struct quire_owner *owner = quire_owner_create(&none, NULL);
  void *p = quire_owner_alloc(owner, 2), *q = quire_owner_alloc(owner, 2);
  CU_ASSERT_EQUAL(owned_compact(), 0);
  CU_ASSERT_EQUAL(quire_pin(p, 2 * FRAME_SIZE, QUIRE_PIN_LONG), 0);
  CU_ASSERT_EQUAL(quire_unpin(p, 2 * FRAME_SIZE, QUIRE_PIN_LONG), 0);
  CU_ASSERT_EQUAL(quire_owner_destroy(owner), EBUSY);
  quire_owner_free(owner, p);
  quire_owner_free(owner, q);
  CU_ASSERT_EQUAL(quire_owner_destroy(owner), 0);
}

static void runs_of_any_length(void) {
  begin(1);
  CU_ASSERT_PTR_NULL(quire_owner_alloc(answer.owner, 0));
  CU_ASSERT_PTR_NULL(quire_owner_alloc(answer.owner, SIZE_MAX / 2));
  CU_ASSERT_EQUAL(errno, ENOMEM);
  /* Over several hugepages it is still one run. */
  size_t n = 3 * HUGEPAGE_FRAMES + 7;
  char *p = quire_owner_alloc(answer.owner, n);
  CU_ASSERT_TRUE(owned_consistent(memdesc_owner(memmap_get(arena_pfn(p)))));
  memset(p, 1, n * FRAME_SIZE);
  answer.migrate = QUIRE_DONE;
  (void)owned_compact();
  CU_ASSERT_EQUAL(answer.migrates, RUNS + 1);
  quire_owner_free(answer.owner, p);
  end(false);
}

static int find_run(const struct quire_walk_item *item, void *arg) {
  return item->start == arg && item->type == QUIRE_WALK_OWNED && item->frames == 6;
}

static void runs_are_seen(void) {
  struct quire_description d;
  begin(6);
  quire_describe((char *)runs[2] + 10000, &d);
  CU_ASSERT_EQUAL(d.kind, QUIRE_OWNED);
  CU_ASSERT_PTR_EQUAL(d.start, runs[2]);
  CU_ASSERT_EQUAL(d.size, 6 * FRAME_SIZE);
  CU_ASSERT_TRUE(d.allocated);
  CU_ASSERT_FALSE(d.pinned);
  CU_ASSERT_EQUAL(quire_pin((char *)runs[2] + 10000, 1, QUIRE_PIN_LONG), 0);
  quire_describe(runs[2], &d);
  CU_ASSERT_TRUE(d.pinned);
  CU_ASSERT_EQUAL(quire_unpin((char *)runs[2] + 10000, 1, QUIRE_PIN_LONG), 0);
  CU_ASSERT_EQUAL(quire_walk(find_run, runs[2]), 1);
  end(false);
}

static void failed_frames_of_runs(void) {
  begin(4);
  pfn_t bad = pfn_add(arena_pfn(runs[1]), 2);
  CU_ASSERT_EQUAL(quire_poison(arena_addr(bad)), 0);
  CU_ASSERT_EQUAL(answer.poisons, 1);
  quire_owner_free(answer.owner, runs[1]);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(bad)), MEMDESC_POISON);
  CU_ASSERT_EQUAL(memdesc_type(memmap_get(arena_pfn(runs[1]))), MEMDESC_FREE);
  runs[1] = quire_owner_alloc(answer.owner, 4);
  end(false);
  CU_ASSERT_TRUE(frames_consistent());
}

/* ---- threads ---- */

static struct pool *torn;
static uint32_t running;

static const char *churn(struct random *r, uint64_t steps) {
  enum { HELD = 3000 };
  static _Thread_local uint32_t held[HELD], seeds[HELD];
  const char *wrong = NULL;
  for (uint64_t i = 0; i < steps && wrong == NULL; i++) {
    size_t at = random_below(r, HELD);
    if (held[at] == 0) {
      /* Sparse now and then. */
      if (i / HELD % 4 == 3) continue;
      held[at] = pool_get(torn);
      if (held[at] == 0) return "no object";
      write_object(torn, held[at], seeds[at] = (uint32_t)random_next(r));
    } else {
      if (!object_is(torn, held[at], seeds[at])) wrong = "wrong contents";
      pool_put(torn, held[at]);
      held[at] = 0;
    }
  }
  for (size_t at = 0; at < HELD; at++) {
    if (held[at] == 0) continue;
    if (!object_is(torn, held[at], seeds[at])) wrong = "wrong contents at the end";
    pool_put(torn, held[at]);
  }
  return wrong;
}

static void *churn_always(void *arg) {
  struct random r = {(uintptr_t)arg};
  const char *wrong = churn(&r, test_steps(100000));
  (void)sub_relaxed(&running, 1);
  return (void *)wrong;
}

static void pools_are_compacted_while_they_are_used(void) {
  pthread_t threads[2];
  size_t gained = 0;
  torn = pool_new(SIZE, OBJECTS);
  store_relaxed(&running, 2);
  for (uintptr_t i = 0; i < 2; i++)
    pthread_create(&threads[i], NULL, churn_always, (void *)(i + 1));
  while (load_relaxed(&running) != 0) gained += owned_compact();
  for (int i = 0; i < 2; i++) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    if (wrong != NULL) printf("%s\n", (const char *)wrong);
    CU_ASSERT_PTR_NULL(wrong);
  }
  struct pool_counts counts = pool_counts(torn);
  printf("%zu frames gained, %u objects moved\n", gained, counts.moved);
  CU_ASSERT_EQUAL(counts.objects, 0);
  CU_ASSERT_EQUAL(counts.runs, 0);
  CU_ASSERT_TRUE(pool_delete(torn));
  CU_ASSERT_EQUAL(owned_cache.nlive, 0);
}

static struct pool *inherited;
static void compacts_its_copy(void) {
  child_check(owned_compact() > 0);
  for (uint32_t i = 0; i < OBJECTS; i++)
    if (handles[i] != 0) child_check(object_is(inherited, handles[i], i));
  for (uint32_t i = 0; i < OBJECTS; i++)
    if (handles[i] != 0) pool_put(inherited, handles[i]);
  child_check(pool_delete(inherited));
}

static void children_compact_their_own(void) {
  inherited = sparse_pool(10);
  CU_ASSERT_TRUE(child_lives(compacts_its_copy));
  check_objects(inherited);
  drain(inherited);
}

static const struct unit_test tests[] = {
    {"sparse_pools_are_compacted", sparse_pools_are_compacted},
    {"busy_pools_are_left_alone", busy_pools_are_left_alone},
    {"pinned_runs_stay", pinned_runs_stay},
    {"runs_that_are_freed_are_gained", runs_that_are_freed_are_gained},
    {"full_runs_are_not_asked", full_runs_are_not_asked},
    {"refusals_end_a_pass", refusals_end_a_pass},
    {"runs_may_go_at_any_moment", runs_may_go_at_any_moment},
    {"without_callbacks_nothing_moves", without_callbacks_nothing_moves},
    {"runs_of_any_length", runs_of_any_length},
    {"runs_are_seen", runs_are_seen},
    {"pools_are_compacted_while_they_are_used", pools_are_compacted_while_they_are_used},
    {"children_compact_their_own", children_compact_their_own},
    {"failed_frames_of_runs", failed_frames_of_runs},
    {0},
};

int main(void) { return unit_main("owned", tests); }
