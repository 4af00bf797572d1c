/* Thread caches.
 *
 * Theory. A thread is in one of three states:
 *
 *   NEW   has no cache: tcache_self points to `none`, where every pop and push misses
 *   LIVE  has one, in the registry
 *   DEAD  its cache was given back at thread exit; later calls (other destructors, libc's own
 * clean-up) go to the bins directly
 *
 *   NEW -> LIVE at the first miss; LIVE -> DEAD by the key's destructor. With check:on and while no
 *   cache can be had the thread stays NEW.
 *
 * A class's stack starts small. Each miss doubles its limit up to the class's most, as long as
 * thread and process stay within their budgets (bytes = sum of limit x size). A refill brings half
 * of the limit, a flush takes the older half. Every SCAVENGE_MISSES misses the classes without any
 * miss since halve their limits, so budget flows to the classes in use.
 *
 * Idle caches: tcache_reclaim marks where each stack stood; what has not moved when it looks again
 * is taken. It locks each stack by compare-and-swap, fences restartable sequences once, and takes
 * those where the locked value still stands (arch/rseq_stack.h). The owner, if it comes meanwhile,
 * misses and waits for tc->lock. A vfork child on its parent's cache is no owner in this sense: it
 * has no restartable sequences (docs/design.md).
 *
 * Locks: registry, then tc->lock, then transfer and bin locks. Fork takes registry and every
 * tc->lock; the child keeps only its own cache (see tcache_reset_all). */
#include "alloc/tcache.h"

#include <pthread.h>
#include <string.h>

#include "alloc/options.h"
#include "arch/sys.h"
#include "page/arena.h"
#include "slab/bin.h"

enum {
  SLOTS_MAX = 1024,        /* objects of one class */
  SLOTS_BYTES = 64 << 10,  /* and bytes, for slab classes; */
  SLOTS_FEW = 32,          /* but so many are allowed */
  FEW_BYTES = 512 << 10,   /* while they are not more than this */
  FOLIO_BYTES = 512 << 10, /* for folio classes (at least one folio) */
  LIMIT_FIRST = 8,         /* objects, at a class's first miss */
  LIMIT_FIRST_BYTES = 4 << 10,
  SCAVENGE_MISSES = 512,
  RECENT = 4,
};

enum thread_state { THREAD_NEW, THREAD_LIVE, THREAD_DEAD };

static void *const null_slot = NULL;
static uint64_t no_area; /* written by threads without rseq; never read */

/* Every pop finds NULL, every push is at its limit. */
static struct tcache none = {
    .rseq_area = &no_area,
    .stacks.cur = {[0 ... ALL_CLASSES - 1] = (void **)&null_slot},
};

_Thread_local struct tcache *tcache_self tls_initial_exec = &none;
static _Thread_local enum thread_state state tls_initial_exec;

static struct {
  struct lock lock;
  struct tcache *first;
  size_t n;
} registry = {.lock = LOCK_INIT(RANK_REGISTRY)};

static uint16_t slots_from[CACHED_CLASSES + 1]; /* index of a class's NULL slot in slots[] */
struct desc_cache tcache_cache = DESC_CACHE_INIT(0, "thread cache", NULL);
static size_t total_budget; /* claimed by all threads */
static uint64_t reclaimed;
static pthread_key_t exit_key;
static bool have_key;

static unsigned slots_of(unsigned c) {
  size_t size = class_size(c);
  if (!class_is_slab(c)) return (unsigned)size_max(1, FOLIO_BYTES / size / 2);
  size_t few = size_min(SLOTS_FEW, FEW_BYTES / size);
  return (unsigned)size_min(SLOTS_MAX, size_max(few, SLOTS_BYTES / size));
}

static void **bottom_of(struct tcache *tc, unsigned c) { return &tc->slots[slots_from[c]]; }
static void **top_of(struct tcache *tc, unsigned c) { return &tc->slots[slots_from[c + 1] - 1]; }
static void **locked_slot(struct tcache *tc) { return &tc->slots[slots_from[CACHED_CLASSES]]; }

static size_t held(struct tcache *tc, unsigned c) {
  void **cur = load_relaxed(&tc->stacks.cur[c]);
  return cur == locked_slot(tc) ? 0 : (size_t)(cur - bottom_of(tc, c));
}

static size_t limit_of(struct tcache *tc, unsigned c) {
  return (size_t)(tc->stacks.limit[c] - bottom_of(tc, c));
}

static void thread_exit(void *tc);

void tcache_init(void) {
  unsigned at = 0;
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    slots_from[c] = (uint16_t)at;
    at += slots_of(c) + 1;
  }
  slots_from[CACHED_CLASSES] = (uint16_t)at;
  tcache_cache.size = (uint32_t)align_up(sizeof(struct tcache) + (at + 1) * sizeof(void *), 64);
  have_key = pthread_key_create(&exit_key, thread_exit) == 0;
}

static bool budget_claim(struct tcache *tc, size_t bytes) {
  if (tc->budget + bytes > options.cache_thread) return false;
  if (add_relaxed(&total_budget, bytes) + bytes > options.cache_total) {
    sub_relaxed(&total_budget, bytes);
    return false;
  }
  tc->budget += bytes;
  return true;
}

static void budget_return(struct tcache *tc, size_t bytes) {
  tc->budget -= bytes;
  sub_relaxed(&total_budget, bytes);
}

/* ---- birth and death ---- */

static struct tcache *create(void) {
  /* Without a destructor the cache's objects would be lost with the thread. */
  if (options.check || !have_key) return NULL;
  struct tcache *tc = desc_alloc(&tcache_cache);
  if (tc == NULL) return NULL;
  uint64_t *area = rseq_stack_area();
  tc->rseq_area = area != NULL ? area : &no_area;
  tc->takeable = area != NULL;
  tc->lock = (struct lock)LOCK_INIT(RANK_TCACHE);
  tc->tid = sys_thread_id();
  tc->misses = 0;
  tc->budget = 0;
  memset(tc->missed, 0, sizeof tc->missed);
  memset(tc->seen, 0, sizeof tc->seen);
  for (unsigned c = 0; c < CACHED_CLASSES; c++)
    tc->stacks.cur[c] = tc->stacks.limit[c] = bottom_of(tc, c);
  tc->stacks.cur[CLASS_LARGE] = none.stacks.cur[CLASS_LARGE];
  tc->stacks.limit[CLASS_LARGE] = NULL;
  lock_acquire(&registry.lock);
  tc->prev = NULL;
  tc->next = registry.first;
  if (tc->next != NULL) tc->next->prev = tc;
  registry.first = tc;
  registry.n++;
  lock_release(&registry.lock);
  state = THREAD_LIVE;
  tcache_self = tc;
  /* May allocate: this thread's cache works already. */
  if (pthread_setspecific(exit_key, tc) == 0) return tc;
  thread_exit(tc);
  return NULL;
}

/* This thread's cache, created if it may have one; NULL if not. */
static struct tcache *self(void) {
  if (likely(state == THREAD_LIVE)) return tcache_self;
  return state == THREAD_NEW && arena.base != 0 ? create() : NULL;
}

/* The oldest n objects of a class leave; the stack is the caller's (its owner's, or taken). */
static void flush_oldest(struct tcache *tc, unsigned c, void **cur, size_t n) {
  void **first = bottom_of(tc, c) + 1;
  size_t left = (size_t)(cur + 1 - first) - n;
  bin_flush(c, first, (unsigned)n);
  memmove(first, first + n, left * sizeof *first);
  store_relaxed(&tc->stacks.cur[c], first + left - 1);
}

static void flush_class(struct tcache *tc, unsigned c) {
  size_t n = held(tc, c);
  if (n > 0) flush_oldest(tc, c, tc->stacks.cur[c], n);
}

static void thread_exit(void *arg) {
  struct tcache *tc = arg;
  lock_acquire(&registry.lock);
  if (tc->next != NULL) tc->next->prev = tc->prev;
  if (tc->prev != NULL)
    tc->prev->next = tc->next;
  else
    registry.first = tc->next;
  registry.n--;
  lock_release(&registry.lock);
  /* Nobody else can find it any more. */
  state = THREAD_DEAD;
  tcache_self = &none;
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    size_t n = held(tc, c);
    if (n > 0) bin_flush_to_slabs(c, bottom_of(tc, c) + 1, (unsigned)n);
  }
  budget_return(tc, tc->budget);
  desc_free(tc);
}

/* ---- misses of the owner; tc->lock is held ---- */

static void mark_missed(struct tcache *tc, unsigned c) {
  tc->missed[c / 64] |= (uint64_t)1 << c % 64;
}

static void grow(struct tcache *tc, unsigned c) {
  size_t size = class_size(c), limit = limit_of(tc, c), most = slots_of(c);
  size_t first = size_max(1, size_min(LIMIT_FIRST, LIMIT_FIRST_BYTES / size));
  size_t want = size_min(most, limit == 0 ? first : limit * 2);
  if (want > limit && budget_claim(tc, (want - limit) * size))
    tc->stacks.limit[c] = bottom_of(tc, c) + want;
}

static void shrink(struct tcache *tc, unsigned c) {
  size_t limit = limit_of(tc, c), keep = limit / 2, n = held(tc, c);
  if (limit == 0) return;
  if (n > keep) flush_oldest(tc, c, tc->stacks.cur[c], n - keep);
  tc->stacks.limit[c] = bottom_of(tc, c) + keep;
  budget_return(tc, (limit - keep) * class_size(c));
}

static void scavenge(struct tcache *tc) {
  tc->misses = 0;
  for (unsigned c = 0; c < CACHED_CLASSES; c++)
    if (!(tc->missed[c / 64] >> c % 64 & 1)) shrink(tc, c);
  memset(tc->missed, 0, sizeof tc->missed);
}

static void count_miss(struct tcache *tc, unsigned c) {
  mark_missed(tc, c);
  if (++tc->misses >= SCAVENGE_MISSES) scavenge(tc);
  grow(tc, c);
}

static void *refill(struct tcache *tc, unsigned c) {
  void **bottom = bottom_of(tc, c);
  size_t want = size_max(1, (limit_of(tc, c) + 1) / 2);
  size_t got = bin_refill(c, bottom + 1, (unsigned)want);
  if (got == 0) return NULL;
  void *p = bottom[got];
  store_relaxed(&tc->stacks.cur[c], bottom + got - 1);
  return p;
}

void *tcache_miss(unsigned c) {
  void *p;
  struct tcache *tc = self();
  if (tc == NULL) return bin_refill(c, &p, 1) == 1 ? p : NULL;
  lock_acquire(&tc->lock);
  /* A locked stack looked empty; now that it isn't locked there may be something in it. */
  void **cur = load_relaxed(&tc->stacks.cur[c]);
  if (unlikely((p = *cur) != NULL)) {
    store_relaxed(&tc->stacks.cur[c], cur - 1);
  } else {
    count_miss(tc, c);
    p = refill(tc, c);
  }
  lock_release(&tc->lock);
  return p;
}

static void push_or_flush(struct tcache *tc, unsigned c, void *p) {
  if (tc->stacks.cur[c] >= tc->stacks.limit[c]) count_miss(tc, c);
  size_t limit = limit_of(tc, c), n = held(tc, c);
  if (limit == 0) {
    bin_flush(c, &p, 1);
    return;
  }
  if (n >= limit) flush_oldest(tc, c, tc->stacks.cur[c], (n + 1) / 2);
  void **cur = tc->stacks.cur[c];
  cur[1] = p;
  store_relaxed(&tc->stacks.cur[c], cur + 1);
}

void tcache_overflow(unsigned c, void *p) {
  struct tcache *tc = self();
  if (tc == NULL) {
    bin_flush(c, &p, 1);
    return;
  }
  lock_acquire(&tc->lock);
  if (unlikely(*load_relaxed(&tc->stacks.cur[c]) == p)) bin_misuse_handler(p, MISUSE_DOUBLE_FREE);
  push_or_flush(tc, c, p);
  lock_release(&tc->lock);
}

bool tcache_recently_freed(unsigned c, const void *p) {
  if (state != THREAD_LIVE || c >= CACHED_CLASSES) return false;
  void **cur = load_relaxed(&tcache_self->stacks.cur[c]);
  for (int i = 0; i < RECENT && *cur != NULL; i++, cur--)
    if (*cur == p) return true;
  return false;
}

void tcache_flush(void) {
  if (state != THREAD_LIVE) return;
  struct tcache *tc = tcache_self;
  lock_acquire(&tc->lock);
  for (unsigned c = 0; c < CACHED_CLASSES; c++) flush_class(tc, c);
  lock_release(&tc->lock);
}

/* ---- taking from idle threads ---- */

/* Which stacks of tc are to be taken, and where they stand; remembers that for the next time.
 * tc->lock is held. */
static unsigned find_quiet(struct tcache *tc, bool all, void **stood[CACHED_CLASSES]) {
  unsigned n = 0;
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    void **cur = load_relaxed(&tc->stacks.cur[c]);
    bool take = cur != bottom_of(tc, c) && (cur == tc->seen[c] || all);
    tc->seen[c] = cur;
    stood[c] = take ? cur : NULL;
    n += take;
  }
  return n;
}

static void lock_stacks(struct tcache *tc, void **stood[CACHED_CLASSES]) {
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    void **cur = stood[c];
    if (cur != NULL && !cas_acq_rel(&tc->stacks.cur[c], &cur, locked_slot(tc))) stood[c] = NULL;
  }
}

/* After the fence: what still is locked is ours. Where the owner's commit came later it just goes
 * on. Without a fence an owner's sequence from before the lock may still be under way, so nothing
 * can be put back either: the objects stay allocated for ever, and this cache is left alone from
 * now on. */
static size_t take_stacks(struct tcache *tc, bool fenced, void **stood[CACHED_CLASSES]) {
  size_t bytes = 0;
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    if (stood[c] == NULL || load_acquire(&tc->stacks.cur[c]) != locked_slot(tc)) continue;
    if (!fenced) continue;
    size_t n = (size_t)(stood[c] - bottom_of(tc, c));
    bytes += n * class_size(c);
    bin_flush_to_slabs(c, bottom_of(tc, c) + 1, (unsigned)n); /* not a hand-over */
    store_release(&tc->stacks.cur[c], bottom_of(tc, c));
  }
  return bytes;
}

static size_t reclaim_one(struct tcache *tc, bool all) {
  void **stood[CACHED_CLASSES];
  if (tc == tcache_self || !tc->takeable || !lock_try(&tc->lock)) return 0;
  size_t bytes = 0;
  if (find_quiet(tc, all, stood) > 0) {
    bool fenced = sys->rseq_fence() == 0; /* found out before anything is touched */
    if (fenced) {
      lock_stacks(tc, stood);
      fenced = sys->rseq_fence() == 0;
      bytes = take_stacks(tc, fenced, stood);
    }
    if (!fenced) tc->takeable = false;
  }
  lock_release(&tc->lock);
  return bytes;
}

size_t tcache_reclaim(bool all) {
  size_t bytes = 0;
  lock_acquire(&registry.lock);
  for (struct tcache *tc = registry.first; tc != NULL; tc = tc->next) bytes += reclaim_one(tc, all);
  reclaimed += bytes;
  lock_release(&registry.lock);
  return bytes;
}

/* ---- looking ---- */

void tcache_stats(struct tcache_stats *out) {
  *out = (struct tcache_stats){.budget = load_relaxed(&total_budget)};
  lock_acquire(&registry.lock);
  for (struct tcache *tc = registry.first; tc != NULL; tc = tc->next)
    for (unsigned c = 0; c < CACHED_CLASSES; c++) out->bytes += held(tc, c) * class_size(c);
  out->ncaches = registry.n;
  out->metadata = load_relaxed(&tcache_cache.nbytes);
  out->reclaimed = reclaimed;
  lock_release(&registry.lock);
}

struct tcache_places tcache_places(void) {
  return (struct tcache_places){&registry.first, &registry.n, &reclaimed, slots_from};
}

size_t tcache_objects(unsigned size_class) {
  size_t n = 0;
  lock_acquire(&registry.lock);
  for (struct tcache *tc = registry.first; tc != NULL; tc = tc->next) n += held(tc, size_class);
  lock_release(&registry.lock);
  return n;
}

void tcache_lock_all(void) {
  lock_acquire(&registry.lock);
  for (struct tcache *tc = registry.first; tc != NULL; tc = tc->next) lock_acquire(&tc->lock);
}

void tcache_unlock_all(void) {
  for (struct tcache *tc = registry.first; tc != NULL; tc = tc->next) lock_release(&tc->lock);
  lock_release(&registry.lock);
}

/* Fork copies pages one by one while other threads run: a stack's top may have been copied after,
 * its slots before one and the same push, and then a slot names an object that is in use. So the
 * others' stacks are abandoned: what they hold stays allocated in the child. */
void tcache_reset_all(void) {
  for (struct tcache *tc = registry.first; tc != NULL; tc = tc->next) lock_reset(&tc->lock);
  registry.first = NULL;
  registry.n = 0;
  if (state == THREAD_LIVE) {
    registry.first = tcache_self;
    registry.n = 1;
    tcache_self->next = tcache_self->prev = NULL;
    tcache_self->tid = sys_thread_id();
    store_relaxed(&total_budget, tcache_self->budget);
  }
  lock_reset(&registry.lock);
}

bool tcache_consistent(void) {
  bool ok = true;
  size_t n = 0;
  lock_acquire(&registry.lock);
  for (struct tcache *tc = registry.first; tc != NULL; tc = tc->next, n++) {
    size_t budget = 0;
    lock_acquire(&tc->lock);
    for (unsigned c = 0; c < CACHED_CLASSES; c++) {
      void **bottom = bottom_of(tc, c), **limit = tc->stacks.limit[c];
      ok = ok && *bottom == NULL && limit >= bottom && limit <= top_of(tc, c);
      ok = ok && held(tc, c) <= slots_of(c);
      budget += limit_of(tc, c) * class_size(c);
    }
    ok = ok && *locked_slot(tc) == NULL && budget == tc->budget;
    lock_release(&tc->lock);
  }
  ok = ok && n == registry.n;
  lock_release(&registry.lock);
  return ok;
}
