/* Giving memory back.
 *
 * Theory. Freed frames stay resident, since most are wanted again at once. How many are worth
 * keeping is measured: the most frames that were used at any time within the last decay_ms (kept
 * per slot of an eighth of it) is the demand, and what is resident beyond demand is excess. A decay
 * step discards the excess in order of what it costs: wholly empty hugepages, then holes in
 * hugepages on small pages, then holes in hugepages that the kernel backs whole, the emptiest
 * first; those nearly full are never broken by decay.
 *
 * Every discard: mark under the frames lock (an empty hugepage becomes ISOLATED; dirty frames of a
 * partial one are set aside as used), make the system calls unlocked, commit under the lock.
 * Failure commits the frames as they were, dirty. `pass` serialises passes and is held across the
 * unlocked part, so that fork, which takes it first, never sees frames set aside. Lock order: pass,
 * frames. */
#include <errno.h>
#include <string.h>

#include "arch/sys.h"
#include "page/frames_impl.h"
#include "page/zone.h"

enum {
  COLLAPSE_STALL_US = 3000, /* finding, clearing and copying 2 MiB takes a fifth of this */
  RUNS_MAX = 64,            /* discard calls for one hugepage in one go */
  KEEP_LEVEL = LEVELS - 1,  /* decay leaves hugepages this full alone */
  MOVED_MAX = 2048,         /* hugepages whose mapping may differ from their neighbours' */
  COLLAPSE_MIN =
      HUGEPAGE_FRAMES * 7 / 8, /* resident frames that make a hugepage worth collapsing */
};

static struct lock pass = LOCK_INIT(RANK_DISCARD);

struct run {
  uint16_t index, n;
};

void frames_lock_discard(void) { lock_acquire(&pass); }
void frames_unlock_discard(void) { lock_release(&pass); }
void frames_reset_discard(void) { lock_reset(&pass); }

static unsigned system_page_frames(void) {
  return (unsigned)(sys_page_size() > FRAME_SIZE ? sys_page_size() / FRAME_SIZE : 1);
}

static void count_discard(int err, size_t nframes) {
  frames.stats.discards++;
  if (err == 0)
    frames.stats.discarded += nframes;
  else
    frames.stats.discard_failures++;
}

/* A whole hugepage; one whose page tables were moved gets a mapping like its neighbours' again. */
static int discard_whole(struct hugepage *hp) {
  void *p = hugepage_addr(hugepage_number(hp));
  if ((hp->flags & HUGEPAGE_MOVED) == 0) return sys->discard(p, HUGEPAGE_SIZE);
  int err = sys->refresh(p, HUGEPAGE_SIZE);
  if (err == 0) (void)sys->advise_huge(p, HUGEPAGE_SIZE, (hp->flags & HUGEPAGE_ADVISED) != 0);
  return err;
}

/* Discards one empty hugepage; the frames lock is held, and dropped meanwhile. Frames discarded. */
static size_t discard_empty(struct hugepage *hp) {
  unsigned dirty = hp->nresident;
  frames_unlink(hp);
  hp->state = HUGEPAGE_ISOLATED;
  lock_release(&frames.lock);
  int err = discard_whole(hp);
  lock_acquire(&frames.lock);
  count_discard(err, dirty);
  if (err == 0) {
    hugepage_discarded(hp, 0, HUGEPAGE_FRAMES);
    frames.stats.free_resident -= dirty;
    if (hp->flags & HUGEPAGE_MOVED) frames.nmoved--;
    hp->flags &= (uint8_t)~HUGEPAGE_MOVED;
  }
  hp->state = HUGEPAGE_EMPTY;
  frames_link(hp);
  return err == 0 ? dirty : 0;
}

/* A hugepage of the zone's of which nothing is used any more gets private memory again, when it is
 * used; lock as above. */
static size_t discard_leaving(struct hugepage *hp) {
  hpn_t hpn = hugepage_number(hp);
  pfn_t pfn = hugepage_pfn(hpn);
  unsigned dirty = hp->nresident;
  frames_index.leaving[hpn.n / 64] &= ~((uint64_t)1 << hpn.n % 64);
  frames.nleaving--;
  hp->flags |= HUGEPAGE_BUSY; /* nobody puts it back into the set */
  lock_release(&frames.lock);
  int err = zone_plain(pfn, HUGEPAGE_FRAMES);
  /* If it became the zone's only in part the rest still holds what was written there. */
  if (err == 0) err = sys->discard(hugepage_addr(hpn), HUGEPAGE_SIZE);
  if (err == 0) zone_punch(pfn, HUGEPAGE_FRAMES);
  lock_acquire(&frames.lock);
  count_discard(err, dirty);
  hp->flags &= (uint8_t)~HUGEPAGE_BUSY;
  if (err != 0) {
    frames_index.leaving[hpn.n / 64] |= (uint64_t)1 << hpn.n % 64;
    frames.nleaving++;
    return 0;
  }
  hugepage_discarded(hp, 0, HUGEPAGE_FRAMES);
  frames.stats.free_resident -= dirty;
  frames.stats.zone--;
  hp->flags &= (uint8_t)~HUGEPAGE_ZONE;
  hp->state = HUGEPAGE_EMPTY;
  frames_link(hp);
  return dirty;
}

static struct hugepage *first_leaving(void) {
  for (uint32_t w = 0; w * 64 < arena.opened && frames.nleaving != 0; w++)
    if (frames_index.leaving[w] != 0)
      return &arena.hugepages[w * 64 + (unsigned)__builtin_ctzll(frames_index.leaving[w])];
  return NULL;
}

/* Discards the holes of a partial hugepage, at most `want` frames; lock as above. */
static size_t discard_holes(struct hugepage *hp, size_t want) {
  struct run runs[RUNS_MAX];
  struct iovec ranges[RUNS_MAX];
  int results[RUNS_MAX];
  unsigned nruns = 0, at = 0, n;
  size_t total = 0, done = 0;
  while (nruns < RUNS_MAX && total < want &&
         (n = hugepage_next_dirty(hp, &at, system_page_frames())) != 0) {
    runs[nruns++] = (struct run){(uint16_t)at, (uint16_t)n};
    at += n;
    total += n;
  }
  if (nruns == 0) return 0;
  frames_unlink(hp);
  for (unsigned i = 0; i < nruns; i++) (void)hugepage_take(hp, runs[i].index, runs[i].n);
  hp->state = hp->nused == HUGEPAGE_FRAMES ? HUGEPAGE_FULL : HUGEPAGE_PARTIAL;
  frames_link(hp);
  lock_release(&frames.lock);
  char *base = hugepage_addr(hugepage_number(hp));
  for (unsigned i = 0; i < nruns; i++)
    ranges[i] =
        (struct iovec){base + (size_t)runs[i].index * FRAME_SIZE, (size_t)runs[i].n * FRAME_SIZE};
  sys_discard_batch(ranges, nruns, results);
  lock_acquire(&frames.lock);
  frames_unlink(hp);
  for (unsigned i = 0; i < nruns; i++) {
    hugepage_give(hp, runs[i].index, runs[i].n);
    count_discard(results[i], runs[i].n);
    if (results[i] != 0) continue;
    hugepage_discarded(hp, runs[i].index, runs[i].n);
    done += runs[i].n;
  }
  frames.stats.free_resident -= done;
  hp->state = hp->nused == 0 ? HUGEPAGE_EMPTY : HUGEPAGE_PARTIAL;
  if (hp->state == HUGEPAGE_EMPTY) frames.stats.hugepages--;
  frames_link(hp);
  return done;
}

static struct hugepage *first_warm(void) {
  for (uint32_t w = 0; w * 64 < arena.opened; w++)
    if (frames_index.warm[w] != 0)
      return &arena.hugepages[w * 64 + (unsigned)__builtin_ctzll(frames_index.warm[w])];
  return NULL;
}

/* Is breaking this hugepage for its holes allowed? */
static bool may_break(const struct hugepage *hp, bool backed) {
  bool is_backed = (hp->flags & (HUGEPAGE_ADVISED | HUGEPAGE_HUGETLB)) != 0;
  if (hp->flags & (HUGEPAGE_HUGETLB | HUGEPAGE_ZONE)) return false;
  if (is_backed != backed) return false;
  unsigned at = 0;
  return hugepage_next_dirty(hp, &at, system_page_frames()) != 0;
}

static struct hugepage *first_of(const struct frames_lists *lists, int kind, int level,
                                 bool backed) {
  for (unsigned w = 0; w < LENGTH_WORDS; w++)
    for (uint64_t bits = lists->lengths[kind][level][w]; bits != 0; bits &= bits - 1) {
      unsigned length = w * 64 + (unsigned)__builtin_ctzll(bits);
      for (uint32_t n = lists->heads[kind][level][length]; n != 0; n = arena.hugepages[n - 1].next)
        if (may_break(&arena.hugepages[n - 1], backed)) return &arena.hugepages[n - 1];
    }
  return NULL;
}

/* The emptiest hugepage with holes to discard, of those backed whole or not. */
static struct hugepage *first_with_holes(int levels, bool backed) {
  for (int level = 0; level < levels; level++)
    for (unsigned node = 0; node < numa.count; node++)
      for (int kind = 0; kind < FRAMES_KINDS; kind++) {
        struct hugepage *hp = first_of(frames_lists(node), kind, level, backed);
        if (hp != NULL) return hp;
      }
  return NULL;
}

/* Discards up to `want` frames with the cheapest first. The pass lock is held. Stops at a refusal:
 * memory that is locked stays refused, and another pass will come. */
static size_t discard_up_to(size_t want, bool force) {
  size_t done = 0, n = 1;
  struct hugepage *leaving;
  lock_acquire(&frames.lock);
  while (n != 0 && (leaving = first_leaving()) != NULL) done += n = discard_leaving(leaving);
  for (int step = 0; step < 3 && n != 0; step++)
    while (done < want && n != 0) {
      struct hugepage *hp =
          step == 0 ? first_warm() : first_with_holes(force ? LEVELS : KEEP_LEVEL, step == 2);
      if (hp == NULL) break;
      n = step == 0 ? discard_empty(hp) : discard_holes(hp, want - done);
      done += n;
    }
  lock_release(&frames.lock);
  return done;
}

/* Begins new demand slots up to `now`; true when at least one began. */
static bool roll_demand(uint64_t now) {
  uint64_t period = frames.options.decay_ms / DEMAND_SLOTS;
  if (now - frames.slot_since < period && frames.slot_since != 0) return false;
  uint64_t passed = period == 0 ? DEMAND_SLOTS : (now - frames.slot_since) / period;
  for (uint64_t i = 0; i < passed && i < DEMAND_SLOTS; i++) {
    frames.slot = (frames.slot + 1) % DEMAND_SLOTS;
    frames.demand[frames.slot] = frames.demand_now;
    frames.demand_now = frames.stats.used;
  }
  frames.slot_since = now;
  return true;
}

static size_t demand(void) {
  size_t most = size_max(frames.stats.used, frames.options.decay_ms == 0 ? 0 : frames.demand_now);
  for (unsigned i = 0; i < DEMAND_SLOTS && frames.options.decay_ms != 0; i++)
    most = size_max(most, frames.demand[i]);
  return most;
}

bool frames_decay_due(void) {
  if (load_relaxed(&frames.stats.free_resident) == 0) return false;
  return sys->now_ms() - load_relaxed(&frames.slot_since) >= frames.options.decay_ms / DEMAND_SLOTS;
}

uint64_t frames_decay(uint64_t now) {
  if (!lock_try(&pass)) return 1; /* another pass is at work */
  lock_acquire(&frames.lock);
  bool rolled = roll_demand(now);
  size_t most = demand(), held = frames.stats.used + frames.stats.free_resident;
  lock_release(&frames.lock);
  size_t done = 0, excess = held > most ? held - most : 0;
  if (rolled && (excess > 0 || load_relaxed(&frames.nleaving) != 0))
    done = discard_up_to(excess, false);
  lock_acquire(&frames.lock);
  /* Quiet once nothing is left, or what is left is within demand that can't fall any more, or
   * refused. */
  bool more = frames.stats.free_resident > 0 && (done > 0 || most > frames.stats.used);
  lock_release(&frames.lock);
  lock_release(&pass);
  return more ? size_max(1, frames.options.decay_ms / DEMAND_SLOTS) : UINT64_MAX;
}

size_t frames_purge(size_t keep) {
  lock_acquire(&pass);
  lock_acquire(&frames.lock);
  size_t dirty = frames.stats.free_resident;
  lock_release(&frames.lock);
  size_t done = dirty > keep ? discard_up_to(dirty - keep, true) : 0;
  lock_release(&pass);
  return done;
}

/* Memory has moved into hugepages that the run has for itself: it is still near the node that it
 * was near. */
static void keep_node(pfn_t from, pfn_t to, size_t n) {
  unsigned node = arena.hugepages[pfn_hugepage(from).n].node;
  while (n > 0) {
    struct hugepage *hp = &arena.hugepages[pfn_hugepage(to).n];
    size_t here = size_min(n, HUGEPAGE_FRAMES - pfn_index(to));
    if (hp->nused == here && hp->node != node) frames_set_node(hp, node);
    to = pfn_add(to, here);
    n -= here;
  }
}

static void mark_moved(pfn_t pfn, size_t nframes) {
  for (hpn_t h = pfn_hugepage(pfn); h.n <= pfn_hugepage(pfn_add(pfn, nframes - 1)).n; h.n++) {
    struct hugepage *hp = &arena.hugepages[h.n];
    if ((hp->flags & HUGEPAGE_MOVED) == 0) frames.nmoved++;
    hp->flags |= HUGEPAGE_MOVED;
  }
}

/* After a move or a discard of used frames: they hold nothing now. */
static void forget_residency(pfn_t pfn, size_t n) {
  while (n > 0) {
    struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn).n];
    unsigned index = pfn_index(pfn), here = (unsigned)size_min(n, HUGEPAGE_FRAMES - index);
    hugepage_discarded(hp, index, here);
    pfn = pfn_add(pfn, here);
    n -= here;
  }
}

static bool on_system_pages(pfn_t pfn, size_t nframes) {
  unsigned unit = system_page_frames();
  return pfn.n % unit == 0 && nframes % unit == 0;
}

int frames_move(pfn_t from, pfn_t to, size_t nframes) {
  if (!on_system_pages(from, nframes) || !on_system_pages(to, nframes)) return -EINVAL;
  if (load_relaxed(&frames.nmoved) >= MOVED_MAX) return -ENOSPC;
  if (frames.options.huge == FRAMES_HUGE_HUGETLB) return -EINVAL;
  int err = sys->move(arena_addr(from), arena_addr(to), nframes * FRAME_SIZE);
  lock_acquire(&frames.lock);
  if (err == -ENOTRECOVERABLE)
    frames.nmoved = MOVED_MAX; /* strict overcommit at its limit: no more */
  if (err != 0) {
    lock_release(&frames.lock);
    return err;
  }
  mark_moved(to, nframes);
  if (numa_on()) keep_node(from, to, nframes);
  forget_residency(from, nframes);
  frames.stats.moves++;
  lock_release(&frames.lock);
  return 0;
}

int frames_zero(pfn_t pfn, size_t nframes) {
  if (!on_system_pages(pfn, nframes)) return -EINVAL;
  int err = sys->discard(arena_addr(pfn), nframes * FRAME_SIZE);
  lock_acquire(&frames.lock);
  count_discard(err, nframes);
  lock_release(&frames.lock);
  return err;
}

/* Marks it first, then looks for pins; who pins does the opposite (page/pin.c). */
int frames_collapse(hpn_t hpn) {
  struct hugepage *hp = &arena.hugepages[hpn.n];
  lock_acquire(&frames.lock);
  hp->flags |= HUGEPAGE_COLLAPSING;
  lock_release(&frames.lock);
  bool pinned = memmap_flagged(hugepage_pfn(hpn), HUGEPAGE_FRAMES, MEMDESC_PINNED);
  int err = pinned ? -EBUSY : sys->collapse(hugepage_addr(hpn), HUGEPAGE_SIZE);
  lock_acquire(&frames.lock);
  hp->flags &= (uint8_t)~HUGEPAGE_COLLAPSING;
  lock_release(&frames.lock);
  return err;
}

bool frames_collapse_one(void) {
  struct hugepage *hp = NULL;
  lock_acquire(&pass);
  lock_acquire(&frames.lock);
  if (frames.options.huge == FRAMES_HUGE_AUTO && frames_want_huge())
    for (uint32_t n = 0; n < arena.opened && hp == NULL; n++) {
      struct hugepage *at = &arena.hugepages[n];
      bool filled = at->nused >= COLLAPSE_MIN && at->kind == FRAMES_SLAB;
      if (filled && (at->flags & (HUGEPAGE_ADVISED | HUGEPAGE_HUGETLB | HUGEPAGE_MOVED)) == 0 &&
          !memmap_flagged(hugepage_pfn((hpn_t){n}), HUGEPAGE_FRAMES, MEMDESC_PINNED))
        hp = at;
    }
  if (hp != NULL) frames_advise(hp, 1, true);
  lock_release(&frames.lock);
  /* In the caller's time and without the lock: frames may come and go meanwhile, the kernel copes.
   */
  if (hp != NULL) {
    uint64_t began = sys->thread_cpu_us();
    int err = frames_collapse(hugepage_number(hp));
    frames_judge_huge(err == -ENOMEM || err == -EAGAIN, sys->thread_cpu_us() - began,
                      COLLAPSE_STALL_US);
  }
  lock_release(&pass);
  return hp != NULL;
}
