#include "tests/unit/pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "quire.h"

enum { FRAME = 4096, RUN_FRAMES = 8, RUN_BYTES = RUN_FRAMES * FRAME, SLOTS_MAX = RUN_BYTES / 16 };

/* What is known of a run is kept beside it. */
struct run {
  char *p;
  struct run *next;
  uint32_t used;
  bool isolated;
  uint32_t handles[]; /* by slot; 0 is free */
};

struct pool {
  pthread_mutex_t lock;
  struct quire_owner *owner;
  size_t size;
  uint32_t slots; /* in a run */
  uint32_t most, free_handles;
  void **objects; /* by handle */
  uint32_t *next; /* of free handles */
  struct run *runs, *spare;
  bool no_long_pins;
  struct pool_counts counts;
};

static struct run *run_of(struct pool *pool, const void *p) {
  struct run *run = pool->runs;
  while (run != NULL && (uintptr_t)p - (uintptr_t)run->p >= RUN_BYTES) run = run->next;
  return run;
}

/* ---- slots; locked ---- */

static struct run *add_run(struct pool *pool) {
  struct run *run = pool->spare;
  if (run != NULL)
    pool->spare = run->next;
  else
    run = malloc(sizeof *run + pool->slots * sizeof run->handles[0]);
  if (run == NULL) return NULL;
  memset(run, 0, sizeof *run + pool->slots * sizeof run->handles[0]);
  run->p = quire_owner_alloc(pool->owner, RUN_FRAMES);
  run->next = run->p != NULL ? pool->runs : pool->spare;
  *(run->p != NULL ? &pool->runs : &pool->spare) = run;
  if (run->p == NULL) return NULL;
  pool->counts.runs++;
  return run;
}

static void remove_run(struct pool *pool, struct run *run) {
  struct run **at = &pool->runs;
  while (*at != run) at = &(*at)->next;
  *at = run->next;
  run->next = pool->spare; /* free() is not for callbacks */
  pool->spare = run;
  pool->counts.runs--;
  quire_owner_free(pool->owner, run->p);
}

static struct run *run_with_room(struct pool *pool) {
  struct run *run = pool->runs;
  while (run != NULL && (run->isolated || run->used == pool->slots)) run = run->next;
  return run;
}

static void *place(struct pool *pool, struct run *run, uint32_t handle) {
  uint32_t slot = 0;
  while (run->handles[slot] != 0) slot++;
  run->handles[slot] = handle;
  run->used++;
  return pool->objects[handle] = run->p + slot * pool->size;
}

static void unplace(struct pool *pool, struct run *run, uint32_t slot) {
  pool->objects[run->handles[slot]] = NULL;
  run->handles[slot] = 0;
  run->used--;
}

/* ---- what quire asks ---- */

static void describe(void *cookie, const void *p, size_t frames, struct quire_owner_view *out) {
  struct pool *pool = cookie;
  out->live = frames * FRAME;
  if (pthread_mutex_trylock(&pool->lock) != 0) return;
  const struct run *run = run_of(pool, p);
  if (run != NULL) out->live = run->used * pool->size;
  pool->counts.described++;
  pthread_mutex_unlock(&pool->lock);
}

static enum quire_verdict isolate(void *cookie, void *p, size_t frames) {
  struct pool *pool = cookie;
  (void)frames;
  if (pthread_mutex_trylock(&pool->lock) != 0) return QUIRE_BUSY;
  struct run *run = run_of(pool, p);
  if (run != NULL) run->isolated = true;
  pool->counts.isolated += run != NULL;
  pthread_mutex_unlock(&pool->lock);
  return run != NULL ? QUIRE_DONE : QUIRE_NEVER;
}

static enum quire_verdict empty(struct pool *pool, struct run *run) {
  for (uint32_t slot = 0; slot < pool->slots && run->used > 0; slot++) {
    uint32_t handle = run->handles[slot];
    if (handle == 0) continue;
    struct run *to = run_with_room(pool);
    if (to == NULL) return QUIRE_BUSY;
    unplace(pool, run, slot);
    memcpy(place(pool, to, handle), run->p + slot * pool->size, pool->size);
    pool->counts.moved++;
  }
  remove_run(pool, run);
  return QUIRE_DONE;
}

static enum quire_verdict migrate(void *cookie, void *p, size_t frames) {
  struct pool *pool = cookie;
  (void)frames;
  if (pthread_mutex_trylock(&pool->lock) != 0) return QUIRE_BUSY;
  struct run *run = run_of(pool, p);
  enum quire_verdict verdict = run == NULL ? QUIRE_DONE : empty(pool, run);
  pool->counts.migrated += verdict == QUIRE_DONE;
  pool->counts.busy += verdict == QUIRE_BUSY;
  pthread_mutex_unlock(&pool->lock);
  return verdict;
}

/* Waits: nobody forks or asks for a pass with this lock. */
static void put_back(void *cookie, void *p, size_t frames) {
  struct pool *pool = cookie;
  (void)frames;
  pthread_mutex_lock(&pool->lock);
  struct run *run = run_of(pool, p);
  if (run != NULL) run->isolated = false;
  pool->counts.put_back++;
  pthread_mutex_unlock(&pool->lock);
}

static bool may_pin(void *cookie, void *p, size_t frames, enum quire_pin_kind kind) {
  const struct pool *pool = cookie;
  (void)p;
  (void)frames;
  return kind != QUIRE_PIN_LONG || !pool->no_long_pins;
}

static const struct quire_owner_ops ops = {
    .describe = describe,
    .isolate = isolate,
    .migrate = migrate,
    .put_back = put_back,
    .may_pin = may_pin,
};

/* ---- what the program calls ---- */

struct pool *pool_new(size_t object_size, uint32_t most) {
  struct pool *pool = calloc(1, sizeof *pool);
  pthread_mutex_init(&pool->lock, NULL);
  pool->size = (object_size + 15) / 16 * 16;
  pool->slots = (uint32_t)(RUN_BYTES / pool->size);
  pool->most = most;
  pool->objects = calloc(most + 1, sizeof *pool->objects);
  pool->next = calloc(most + 1, sizeof *pool->next);
  for (uint32_t i = 1; i < most; i++) pool->next[i] = i + 1;
  pool->free_handles = 1;
  pool->owner = quire_owner_create(&ops, pool);
  return pool;
}

bool pool_delete(struct pool *pool) {
  if (quire_owner_destroy(pool->owner) != 0) return false;
  for (struct run *run = pool->spare, *next; run != NULL; run = next) {
    next = run->next;
    free(run);
  }
  free(pool->objects);
  free(pool->next);
  free(pool);
  return true;
}

uint32_t pool_get(struct pool *pool) {
  pthread_mutex_lock(&pool->lock);
  uint32_t handle = pool->free_handles;
  struct run *run = run_with_room(pool);
  if (run == NULL) run = add_run(pool);
  if (handle != 0 && run != NULL) {
    pool->free_handles = pool->next[handle];
    (void)place(pool, run, handle);
    pool->counts.objects++;
  }
  pthread_mutex_unlock(&pool->lock);
  return run != NULL ? handle : 0;
}

void pool_put(struct pool *pool, uint32_t handle) {
  pthread_mutex_lock(&pool->lock);
  char *p = pool->objects[handle];
  struct run *run = run_of(pool, p);
  unplace(pool, run, (uint32_t)((size_t)(p - run->p) / pool->size));
  pool->next[handle] = pool->free_handles;
  pool->free_handles = handle;
  pool->counts.objects--;
  if (run->used == 0) remove_run(pool, run);
  pthread_mutex_unlock(&pool->lock);
}

void pool_lock(struct pool *pool) { pthread_mutex_lock(&pool->lock); }
void pool_unlock(struct pool *pool) { pthread_mutex_unlock(&pool->lock); }
void *pool_at(struct pool *pool, uint32_t handle) { return pool->objects[handle]; }
void pool_refuse_long_pins(struct pool *pool) { pool->no_long_pins = true; }

struct pool_counts pool_counts(struct pool *pool) {
  pthread_mutex_lock(&pool->lock);
  struct pool_counts counts = pool->counts;
  pthread_mutex_unlock(&pool->lock);
  return counts;
}
