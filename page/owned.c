/* Owned frames.
 *
 * Theory. A pass asks every holder how much lives in each of its runs, then takes the runs by
 * fullness, the sparsest first: isolate, look again (what was moved out of others may have gone
 * here), migrate, put back. A holder that refuses several times in a row has no room or no time,
 * and is left alone for the rest of the pass. Runs fuller than DENSE aren't asked: emptying them
 * moves much for little.
 *
 * Gone: a run whose holder freed it while it was taken (in migrate, as it should, or in another
 * thread) is given back by put_back. `nruns` falls last, so that holder_free, which waits for it,
 * knows that no callback runs any more. */
#include "page/owned.h"

#include <errno.h>

#include "arch/sys.h"
#include "page/hold.h"
#include "page/hugepage.h"
#include "page/poison.h"

enum {
  LEVELS = 16,       /* of fullness */
  DENSE = 12,        /* runs from this level on stay */
  REFUSALS_MAX = 4,  /* of one holder in a pass */
  SCRATCH = 64 << 10 /* bytes, in which the list of a pass grows */
};

struct candidate {
  uint32_t pfn, level;
};

static peeker void owned_describe(const void *owner, struct owner_view *out) {
  const struct owned *owned = owner;
  out->first = (pfn_t){load_relaxed(&owned->pfn.n)};
  out->nframes = load_relaxed(&owned->nframes);
  out->nguard = 0;
  out->object_size = out->nframes << FRAME_SHIFT;
  out->slots = out->free_slots = 0;
  out->pinned = hold_pins(&owned->refs) != 0;
}

static enum owner_verdict owned_isolate(void *owner, pfn_t pfn);
static uint64_t owned_dirty(void *owner);
static enum owner_verdict owned_migrate(void *owner, struct migration *m);
static void owned_put_back(void *owner);
static enum owner_verdict owned_poison(void *owner, pfn_t pfn);

static const struct owner_ops owned_ops = {
    .describe = owned_describe,
    .isolate = owned_isolate,
    .dirty = owned_dirty,
    .migrate = owned_migrate,
    .put_back = owned_put_back,
    .poison = owned_poison,
};

struct desc_cache holder_cache = DESC_CACHE_INIT(sizeof(struct holder), "holder", NULL);
struct desc_cache owned_cache = DESC_CACHE_INIT(sizeof(struct owned), "owned", &owned_ops);

static size_t frames_owned, runs_owned;
static uint32_t passes;

/* ---- holders ---- */

struct holder *holder_new(const struct holder_ops *ops, const void *callbacks, void *cookie) {
  struct holder *holder = desc_alloc(&holder_cache);
  if (holder == NULL) return NULL;
  holder->ops = ops;
  holder->callbacks = callbacks;
  holder->cookie = cookie;
  holder->nruns = holder->nheld = 0;
  holder->pass = holder->refusals = 0;
  return holder;
}

int holder_free(struct holder *holder) {
  enum { LOOK_AGAIN_MS = 10 };
  uint32_t nruns;
  if (load_acquire(&holder->nheld) != 0) return -EBUSY;
  while ((nruns = load_acquire(&holder->nruns)) != 0)
    sys_futex_wait_for(&holder->nruns, nruns, LOOK_AGAIN_MS);
  desc_free(holder);
  return 0;
}

/* ---- runs ---- */

struct owned *owned_alloc(struct holder *holder, size_t nframes) {
  struct frames_run run;
  if (nframes == 0 || nframes > arena.size / FRAME_SIZE) return NULL;
  struct owned *owned = desc_alloc(&owned_cache);
  if (owned == NULL) return NULL;
  if (frames_alloc(nframes, size_max(1, sys_page_size() / FRAME_SIZE), FRAMES_FOLIO, &run) != 0) {
    desc_free(owned);
    return NULL;
  }
  owned->pfn = run.pfn;
  owned->nframes = (uint32_t)nframes;
  owned->holder = holder;
  (void)add_relaxed(&holder->nruns, 1);
  (void)add_relaxed(&holder->nheld, 1);
  (void)add_relaxed(&frames_owned, nframes);
  (void)add_relaxed(&runs_owned, 1);
  hold_begin(&owned->refs);
  memmap_set(run.pfn, nframes, memdesc_make(MEMDESC_OWNED, 0, owned));
  hold_open(&owned->refs);
  return owned;
}

static void give_back(struct owned *owned) {
  struct holder *holder = owned->holder;
  pfn_t pfn = owned->pfn;
  size_t n = owned->nframes;
  memmap_clear(pfn, n, MEMDESC_OWNED);
  hold_end(&owned->refs);
  desc_free(owned);
  frames_free(pfn, n);
  (void)sub_relaxed(&frames_owned, n);
  (void)sub_relaxed(&runs_owned, 1);
  (void)sub_release(&holder->nruns, 1); /* holder_free may go on */
}

bool owned_free(struct owned *owned) {
  struct holder *holder = owned->holder;
  uint32_t pins;
  enum hold_freed freed = hold_free(&owned->refs, &pins);
  if (freed == HOLD_FREED_TWICE) return false;
  (void)sub_release(&holder->nheld, 1);
  if (freed == HOLD_FREED_LATER) return true;
  if (pins != 0) pin_drop(owned_addr(owned), (size_t)owned->nframes << FRAME_SHIFT, owned->nframes);
  give_back(owned);
  return true;
}

static bool owns(const struct owned *owned, pfn_t pfn) {
  memdesc_t d = memmap_peek(pfn);
  return memdesc_type(d) == MEMDESC_OWNED && memdesc_owner(d) == owned;
}

/* True when it is gone. */
static bool release(struct owned *owned) {
  if (hold_put_back(&owned->refs)) return false;
  give_back(owned);
  return true;
}

static enum owner_verdict take(struct owned *owned, pfn_t pfn) {
  enum owner_verdict verdict = hold_take(&owned->refs);
  if (verdict != OWNER_DONE || owns(owned, pfn)) return verdict;
  (void)release(owned);
  return OWNER_BUSY;
}

static size_t live_bytes(const struct owned *owned) {
  struct holder *holder = owned->holder;
  size_t bytes = (size_t)owned->nframes << FRAME_SHIFT;
  return size_min(bytes, holder->ops->live(holder, owned_addr(owned), owned->nframes));
}

/* ---- an owner's operations ---- */

/* Taken already; let go unless its holder agrees. */
static enum owner_verdict isolate(struct owned *owned) {
  struct holder *holder = owned->holder;
  memmap_flag(owned->pfn, owned->nframes, MEMDESC_ISOLATED, true);
  enum owner_verdict verdict = holder->ops->isolate(holder, owned_addr(owned), owned->nframes);
  if (verdict == OWNER_DONE) return verdict;
  memmap_flag(owned->pfn, owned->nframes, MEMDESC_ISOLATED, false);
  (void)release(owned);
  return verdict;
}

static enum owner_verdict owned_isolate(void *owner, pfn_t pfn) {
  enum owner_verdict verdict = take(owner, pfn);
  return verdict == OWNER_DONE ? isolate(owner) : verdict;
}

/* Which frames they are that something lives in, only its holder knows. */
static uint64_t owned_dirty(void *owner) {
  const struct owned *owned = owner;
  if (live_bytes(owned) == 0) return 0;
  return owned->nframes >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << owned->nframes) - 1;
}

static enum owner_verdict owned_migrate(void *owner, unused struct migration *m) {
  struct owned *owned = owner;
  struct holder *holder = owned->holder;
  return holder->ops->migrate(holder, owned_addr(owned), owned->nframes);
}

/* True when it is gone. */
static bool put_back(struct owned *owned) {
  struct holder *holder = owned->holder;
  if (hold_state(&owned->refs) == HOLD_TAKEN)
    holder->ops->put_back(holder, owned_addr(owned), owned->nframes);
  memmap_flag(owned->pfn, owned->nframes, MEMDESC_ISOLATED, false);
  return release(owned);
}

static void owned_put_back(void *owner) { (void)put_back(owner); }

static enum owner_verdict owned_poison(void *owner, pfn_t pfn) {
  struct owned *owned = owner;
  enum owner_verdict verdict = take(owned, pfn);
  if (verdict == OWNER_BUSY || !owns(owned, pfn)) return OWNER_BUSY;
  bool taken = verdict == OWNER_DONE;
  struct holder *holder = owned->holder;
  verdict = poison_note(pfn) ? OWNER_NEVER : OWNER_BUSY;
  if (verdict == OWNER_NEVER)
    verdict = holder->ops->poison(holder, owned_addr(owned), owned->nframes, arena_addr(pfn));
  if (taken) (void)release(owned);
  return verdict;
}

/* ---- pins ---- */

int owned_pin(struct owned *owned, pfn_t pfn, enum pin_kind kind) {
  int err = pin_hold(&owned->refs, owned->pfn, owned->nframes);
  if (err != 0) return err;
  struct holder *holder = owned->holder;
  if (!owns(owned, pfn))
    err = -EINVAL;
  else if (!holder->ops->may_pin(holder, owned_addr(owned), owned->nframes, kind))
    err = -EBUSY;
  if (err != 0) owned_unpin(owned);
  return err;
}

void owned_unpin(struct owned *owned) { pin_unhold(&owned->refs, owned->pfn, owned->nframes); }

/* ---- compaction ---- */

static uint32_t level_of(const struct owned *owned) {
  return (uint32_t)(live_bytes(owned) * (LEVELS - 1) / ((size_t)owned->nframes << FRAME_SHIFT));
}

static struct owned *owned_at(pfn_t pfn) {
  memdesc_t d = memmap_peek(pfn);
  return memdesc_type(d) == MEMDESC_OWNED ? memdesc_owner(d) : NULL;
}

/* Notes the run that a frame belongs to, where it begins, if it is sparse. Frames of it from here
 * on. */
static size_t note(pfn_t pfn, struct candidate *out, size_t *n) {
  struct owned *owned = owned_at(pfn);
  if (owned == NULL || take(owned, pfn) != OWNER_DONE) return 1;
  size_t nframes = owned->pfn.n + owned->nframes - pfn.n;
  uint32_t level = owned->pfn.n == pfn.n ? level_of(owned) : DENSE;
  if (level < DENSE) out[(*n)++] = (struct candidate){pfn.n, level};
  (void)release(owned);
  return nframes;
}

/* Racy: a hugepage that is just being filled or emptied is seen by another pass. */
static peeker bool in_use(const struct hugepage *hp) { return load_relaxed(&hp->nused) != 0; }

static size_t list_sparse(struct candidate *out, size_t most) {
  size_t n = 0;
  for (uint32_t h = 0; h < load_acquire(&arena.opened) && n < most; h++) {
    if (!in_use(&arena.hugepages[h])) continue;
    pfn_t pfn = hugepage_pfn((hpn_t){h}), end = pfn_add(pfn, HUGEPAGE_FRAMES);
    while (pfn.n < end.n && n < most) pfn = pfn_add(pfn, note(pfn, out, &n));
  }
  return n;
}

static bool is_tired(struct holder *holder) {
  if (holder->pass != passes) holder->refusals = 0;
  holder->pass = passes;
  return holder->refusals >= REFUSALS_MAX;
}

/* Isolated. What was moved here since it was listed may have made it fuller than others. */
static void migrate(struct owned *owned, uint32_t level) {
  struct holder *holder = owned->holder;
  if (level_of(owned) > level) return;
  bool done = owned_migrate(owned, NULL) == OWNER_DONE;
  holder->refusals = done ? 0 : holder->refusals + 1;
}

/* Frames gained. */
static size_t empty_run(const struct candidate *c) {
  pfn_t pfn = {c->pfn};
  struct owned *owned = owned_at(pfn);
  if (owned == NULL || take(owned, pfn) != OWNER_DONE) return 0;
  if (is_tired(owned->holder)) {
    (void)release(owned);
    return 0;
  }
  if (isolate(owned) != OWNER_DONE) return 0;
  size_t n = owned->nframes;
  migrate(owned, c->level);
  return put_back(owned) ? n : 0;
}

static size_t empty_all(struct candidate *list, size_t most) {
  size_t n = list_sparse(list, most), gained = 0;
  for (uint32_t level = 0; level < DENSE; level++)
    for (size_t i = 0; i < n; i++)
      if (list[i].level == level) gained += empty_run(&list[i]);
  return gained;
}

size_t owned_compact(void) {
  size_t most = load_relaxed(&runs_owned), gained = 0;
  void *list;
  if (most < 2) return 0; /* there is nowhere to move to */
  size_t bytes = align_up(most * sizeof(struct candidate), SCRATCH);
  if (sys->reserve(bytes, &list) != 0) return 0;
  passes++;
  if (sys->open_write(list, bytes) == 0) gained = empty_all(list, most);
  (void)sys->unreserve(list, bytes);
  return gained;
}

size_t owned_frames(void) { return load_relaxed(&frames_owned); }
const size_t *owned_frames_place(void) { return &frames_owned; }

bool owned_consistent(const struct owned *owned) {
  if (owned->nframes == 0 || hold_state(&owned->refs) == HOLD_GONE) return false;
  for (size_t i = 0; i < owned->nframes; i++)
    if (!owns(owned, pfn_add(owned->pfn, i))) return false;
  return owned->holder->nheld <= owned->holder->nruns;
}

void owned_fini(void) {
  frames_owned = runs_owned = 0;
  desc_cache_fini(&holder_cache);
  desc_cache_fini(&owned_cache);
}
