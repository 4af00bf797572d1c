/* The frame allocator.
 *
 * Theory. Memory comes in hugepages; what is handed out is runs of frames. Every opened hugepage is
 * in exactly one place, by its state:
 *
 *   EMPTY    no frame used: the bitmap `empty`, and `warm` too while some of it is resident
 *   PARTIAL  the list heads[kind][occupancy in eighths][longest free run] of its node
 *   FULL     nowhere
 *   ISOLATED nowhere: discard.c has it, or (HUGEPAGE_BUSY) compaction; or it was the zone's and no
 *            frame of it is used any more: the bitmap `leaving`, until discard.c has seen to it
 *
 *   EMPTY --alloc--> PARTIAL <--alloc, free--> FULL;  PARTIAL --last free--> EMPTY
 *   EMPTY --discard begins--> ISOLATED --discard ends--> EMPTY
 *   PARTIAL, FULL --frames_isolate--> ISOLATED --frames_restore--> PARTIAL, FULL, EMPTY
 *
 * A run of up to 512 frames goes to the fullest hugepage of its kind whose longest free run fits it
 * (the idea is Temeraire's filler, Hunter et al., OSDI 2021), else to a warm empty hugepage, else
 * to a cold one. A longer run takes neighbouring empty hugepages; what it leaves of the last one is
 * open to others of its kind. The bitmaps of lengths find the list in a few word operations.
 *
 * Nodes. A hugepage belongs to the node of whoever was given the first of its frames, from then
 * until it has no memory any more: empty, it keeps its node while it is warm. A thread gets frames
 * of hugepages in use of its own node; then of those of no known node, of the time before nodes
 * were known, which nobody would fill otherwise; then an empty hugepage, warm of its own node or
 * cold; then a new one. Only when nothing can be opened any more it gets what other nodes have.
 * Their free memory is left idle for that, since what is placed far away stays there for as long as
 * it lives, while idle memory is discarded within decay_ms.
 *
 * Lock: `frames.lock` guards everything here and every struct hugepage. Opening address space runs
 * under it (rare, logarithmic); populating and discarding do not. Fork: the lock is taken before
 * and released or reset after; the child's copy is consistent because nothing is half done under
 * it, and discard.c's own lock is taken first so that no frames are set aside. */
#include "page/frames.h"

#include <errno.h>
#include <string.h>

#include "arch/sys.h"
#include "page/frames_impl.h"
#include "page/poison.h"

enum {
  MIXING_SHARE = 16, /* of the used frames may be idle before kinds mix */
  HUGE_REFUSALS_MAX = 3,
  HUGE_RETRY_MS = 10000,
  HUGE_FAULTS_MAX = 64, /* populating a hugepage takes one fault, or 512 */
  HUGE_PROBES = 8,      /* hugepages good in a row before it trusts the kernel */
  ANY_NODE = NODES_MAX,
  HUGE_STALL_US = 1000, /* clearing 2 MiB takes a tenth or two of it; so do 512 small faults */
};

struct frames frames = {
    .lock = LOCK_INIT(RANK_FRAMES),
    .options = {.huge = FRAMES_HUGE_AUTO, .huge_threshold = 16 << 20, .decay_ms = 500},
};

struct frames_index frames_index;

void frames_configure(const struct frames_options *options) { frames.options = *options; }

static unsigned level_of(const struct hugepage *hp) {
  return hp->nused * LEVELS / (HUGEPAGE_FRAMES + 1);
}

static void set_bit(uint64_t *bits, size_t n) { bits[n / 64] |= (uint64_t)1 << n % 64; }
static void clear_bit(uint64_t *bits, size_t n) { bits[n / 64] &= ~((uint64_t)1 << n % 64); }
static bool test_bit(const uint64_t *bits, size_t n) { return bits[n / 64] >> n % 64 & 1; }

void frames_link(struct hugepage *hp) {
  uint32_t n = hugepage_number(hp).n;
  switch (hp->state) {
  case HUGEPAGE_EMPTY:
    set_bit(frames_index.empty, n);
    if (hp->nresident != 0)
      set_bit(frames_index.warm, n);
    else
      hp->node = NODE_UNKNOWN;
    frames.nempty++;
    return;
  case HUGEPAGE_PARTIAL: {
    unsigned level = level_of(hp);
    struct frames_lists *lists = frames_lists(hp->node);
    uint32_t *head = &lists->heads[hp->kind][level][hp->longest];
    hp->prev = 0;
    hp->next = *head;
    if (*head != 0) arena.hugepages[*head - 1].prev = n + 1;
    *head = n + 1;
    set_bit(lists->lengths[hp->kind][level], hp->longest);
    return;
  }
  default:
    return;
  }
}

void frames_unlink(struct hugepage *hp) {
  uint32_t n = hugepage_number(hp).n;
  switch (hp->state) {
  case HUGEPAGE_EMPTY:
    clear_bit(frames_index.empty, n);
    clear_bit(frames_index.warm, n);
    frames.nempty--;
    return;
  case HUGEPAGE_PARTIAL: {
    unsigned level = level_of(hp);
    struct frames_lists *lists = frames_lists(hp->node);
    uint32_t *head = &lists->heads[hp->kind][level][hp->longest];
    if (hp->next != 0) arena.hugepages[hp->next - 1].prev = hp->prev;
    if (hp->prev != 0)
      arena.hugepages[hp->prev - 1].next = hp->next;
    else
      *head = hp->next;
    if (*head == 0) clear_bit(lists->lengths[hp->kind][level], hp->longest);
    return;
  }
  default:
    return;
  }
}

/* What it is now, by its count. */
static void settle(struct hugepage *hp) {
  if (hp->flags & HUGEPAGE_BUSY) return;
  if (hp->nused == 0 && (hp->flags & HUGEPAGE_ZONE) != 0) {
    hp->state = HUGEPAGE_ISOLATED;
    set_bit(frames_index.leaving, hugepage_number(hp).n);
    frames.nleaving++;
    return;
  }
  hp->state = hp->nused == 0                 ? HUGEPAGE_EMPTY
              : hp->nused == HUGEPAGE_FRAMES ? HUGEPAGE_FULL
                                             : HUGEPAGE_PARTIAL;
  frames_link(hp);
}

/* The smallest n >= from whose bit is set, LENGTHS when none. */
static unsigned next_length(const uint64_t *bits, unsigned from) {
  for (unsigned w = from / 64; w < LENGTH_WORDS; w++) {
    uint64_t word = bits[w];
    if (w == from / 64) word &= ~(uint64_t)0 << from % 64;
    if (word != 0) return w * 64 + (unsigned)__builtin_ctzll(word);
  }
  return LENGTHS;
}

/* The fullest hugepage of this node and kind with a free run of at least n frames. */
static struct hugepage *find_partial(unsigned node, enum frames_kind kind, unsigned n) {
  const struct frames_lists *lists = frames_lists(node);
  for (int level = LEVELS - 1; level >= 0; level--) {
    unsigned length = next_length(lists->lengths[kind][level], n);
    if (length < LENGTHS) return &arena.hugepages[lists->heads[kind][level][length] - 1];
  }
  return NULL;
}

/* Addresses, not hugepage numbers, are to be aligned, and the base is aligned to one hugepage only.
 */
static uint32_t align_hugepage(uint32_t n, uint32_t align) {
  uint32_t bias = (uint32_t)(arena.base >> HUGEPAGE_SHIFT) & (align - 1);
  return (uint32_t)align_up((size_t)n + bias, align) - bias;
}

/* Is the bit set, and what memory that hugepage still has the node's? */
static bool suits(const uint64_t *bits, uint32_t n, unsigned node) {
  if (!test_bit(bits, n)) return false;
  if (likely(node == ANY_NODE)) return true;
  const struct hugepage *hp = &arena.hugepages[n];
  return hp->nresident == 0 || hp->node == node;
}

/* First run of `count` set bits below `end` that begins at an aligned address and suits the node.
 * If none, *tail is where a run that reaches `end` begins (aligned; `end` rounded up when there is
 * none). */
static bool find_bits(const uint64_t *bits, uint32_t end, uint32_t count, uint32_t align,
                      unsigned node, uint32_t *found, uint32_t *tail) {
  uint32_t at = 0;
  while (at < end) {
    if (bits[at / 64] >> at % 64 == 0) {
      at = (at / 64 + 1) * 64;
      continue;
    }
    if (!suits(bits, at, node)) {
      at++;
      continue;
    }
    at = align_hugepage(at, align);
    uint32_t stop = at;
    while (stop < end && stop - at < count && suits(bits, stop, node)) stop++;
    if (stop - at == count && count > 0) {
      *found = at;
      return true;
    }
    if (stop >= end) break;
    at = stop + 1;
  }
  uint32_t first = end;
  while (first > 0 && suits(bits, first - 1, node)) first--;
  *tail = align_hugepage(first, align);
  return false;
}

bool frames_want_huge(void) {
  switch (frames.options.huge) {
  case FRAMES_HUGE_ALWAYS:
    return true;
  case FRAMES_HUGE_AUTO:
    if ((frames.stats.used << FRAME_SHIFT) < frames.options.huge_threshold) return false;
    return frames.huge_refused_until == 0 || sys->now_ms() >= frames.huge_refused_until;
  default:
    return false;
  }
}

/* Tells the kernel what backing `count` hugepages from hp on should have. Refusals are no failure.
 */
void frames_advise(struct hugepage *hp, uint32_t count, bool huge) {
  void *p = hugepage_addr(hugepage_number(hp));
  int err = sys->advise_huge(p, (size_t)count << HUGEPAGE_SHIFT, huge);
  for (uint32_t i = 0; i < count; i++) {
    bool was = (hp[i].flags & HUGEPAGE_ADVISED) != 0, is = huge && err == 0;
    if (is && !was) frames.stats.huge_advised++;
    if (!is && was) frames.stats.huge_advised--;
    hp[i].flags = (uint8_t)(is ? hp[i].flags | HUGEPAGE_ADVISED : hp[i].flags & ~HUGEPAGE_ADVISED);
  }
}

/* Backs fresh hugepages from the reserved pool; 0 or a negative errno, see sys.h. */
static int back_by_hugetlb(struct hugepage *hp, uint32_t count) {
  void *p = hugepage_addr(hugepage_number(hp));
  int err = sys->refresh_hugetlb(p, (size_t)count << HUGEPAGE_SHIFT);
  for (uint32_t i = 0; i < count && err == 0; i++) hp[i].flags |= HUGEPAGE_HUGETLB;
  /* Not to be touched: in no list, for ever. */
  for (uint32_t i = 0; i < count && err == -ENOTRECOVERABLE; i++) hp[i].state = HUGEPAGE_ISOLATED;
  return err;
}

static int open_more(uint32_t count) {
  uint32_t from = arena.opened;
  bool hugetlb = frames.options.huge == FRAMES_HUGE_HUGETLB;
  int err = arena_open(count);
  if (err != 0) return err;
  struct hugepage *hp = &arena.hugepages[from];
  uint32_t opened = arena.opened - from;
  frames.stats.opened = (size_t)arena.opened * HUGEPAGE_FRAMES;
  if (hugetlb) err = back_by_hugetlb(hp, opened);
  if (err == -ENOTRECOVERABLE) return -ENOMEM;
  for (uint32_t i = 0; i < opened; i++) frames_link(&hp[i]);
  if (!hugetlb || err != 0) frames_advise(hp, opened, hugetlb || frames_want_huge());
  return 0;
}

/* `count` empty neighbours; opened if need be. */
static int find_empty(uint32_t count, uint32_t align, unsigned node, hpn_t *out) {
  uint32_t at, tail, opened = arena.opened;
  if (!numa_on()) node = ANY_NODE;
  bool found =
      frames.nempty >= count &&
      ((count == 1 && align == 1 && find_bits(frames_index.warm, opened, 1, 1, node, &at, &tail)) ||
       find_bits(frames_index.empty, opened, count, align, node, &at, &tail));
  if (!found) {
    (void)find_bits(frames_index.empty, opened, UINT32_MAX, align, node, &at, &tail);
    int err = open_more((uint32_t)(tail + (uint64_t)count - opened));
    if (err != 0) return err;
    at = tail;
  }
  *out = (hpn_t){at};
  return 0;
}

/* A cold hugepage is about to be used: what it was advised when it was opened may no longer be
 * wanted. */
static void settle_backing(struct hugepage *hp) {
  bool huge = frames_want_huge(), advised = (hp->flags & HUGEPAGE_ADVISED) != 0;
  if (hp->nresident != 0 || (hp->flags & HUGEPAGE_HUGETLB) != 0) return;
  if (frames.options.huge == FRAMES_HUGE_AUTO && huge != advised) frames_advise(hp, 1, huge);
}

/* Takes frames [pfn, pfn + n), all free, from one or more hugepages. True when all were zero. Those
 * without memory become the node's. */
static bool take(pfn_t pfn, size_t n, enum frames_kind kind, unsigned node) {
  bool zero = true;
  while (n > 0) {
    struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn).n];
    unsigned index = pfn_index(pfn), here = (unsigned)size_min(n, HUGEPAGE_FRAMES - index);
    unsigned resident = hp->nresident;
    frames_unlink(hp);
    if (hp->state == HUGEPAGE_EMPTY) {
      frames.stats.hugepages++;
      hp->kind = (uint8_t)kind;
      if (hp->nresident == 0) hp->node = (uint8_t)node;
      settle_backing(hp);
    }
    zero = hugepage_take(hp, index, here) && zero;
    frames.stats.free_resident -= here - (hp->nresident - resident);
    settle(hp);
    pfn = pfn_add(pfn, here);
    n -= here;
    frames.stats.used += here;
    frames.used_of[hp->node] += here;
  }
  if (frames.stats.used > frames.demand_now) frames.demand_now = frames.stats.used;
  if (frames.stats.used > frames.stats.peak_used) frames.stats.peak_used = frames.stats.used;
  return zero;
}

/* An aligned run in a hugepage of this node and kind that is in use. Tries one whose longest run is
 * just long enough, which serves where runs of like sizes and alignments are packed; else one where
 * any start will do. */
static bool place_in_partial(unsigned n, unsigned align, enum frames_kind kind, unsigned node,
                             pfn_t *out) {
  for (unsigned want = n; want <= n + align - 1 && want <= HUGEPAGE_FRAMES;
       want += size_max(1, align - 1)) {
    struct hugepage *hp = find_partial(node, kind, want);
    int index = hp != NULL ? hugepage_find(hp, n, align) : -1;
    if (index < 0) continue;
    *out = pfn_add(hugepage_pfn(hugepage_number(hp)), (size_t)index);
    return true;
  }
  return false;
}

static bool any_warm(void) {
  for (uint32_t w = 0; w * 64 < arena.opened; w++)
    if (frames_index.warm[w] != 0) return true;
  return false;
}

/* Kinds are kept apart so that hugepages empty whole. Memory that lies idle in the other kind's
 * hugepages is a worse waste once there is much of it and no warm hugepage to be had. */
static bool mixing_pays(void) {
  if (any_warm()) return false;
  return frames.stats.free_resident > frames.stats.used / MIXING_SHARE + HUGEPAGE_FRAMES;
}

/* In a hugepage of this node that is in use. In line, so that one node costs no call. */
static always_inline bool place_in_use(size_t nframes, size_t align, enum frames_kind kind,
                                       unsigned node, pfn_t *out) {
  if (nframes > HUGEPAGE_FRAMES || align > HUGEPAGE_FRAMES) return false;
  unsigned n = (unsigned)nframes, a = (unsigned)align;
  if (kind == FRAMES_SLAB && frames.stats.zone != 0 &&
      place_in_partial(n, a, FRAMES_ZONE, node, out))
    return true;
  return place_in_partial(n, a, kind, node, out) ||
         (mixing_pays() && place_in_partial(n, a, 1 - kind, node, out));
}

/* Of the time before nodes were known. */
static noinline bool place_before(size_t nframes, size_t align, enum frames_kind kind, pfn_t *out) {
  return place_in_use(nframes, align, kind, NODE_UNKNOWN, out);
}

/* Nothing can be opened any more, and what is free belongs to other nodes. */
static cold int place_elsewhere(size_t nframes, size_t align, enum frames_kind kind, pfn_t *out) {
  uint32_t at, tail, count = (uint32_t)((nframes + HUGEPAGE_FRAMES - 1) / HUGEPAGE_FRAMES);
  uint32_t align_huge = (uint32_t)size_max(1, align / HUGEPAGE_FRAMES);
  if (find_bits(frames_index.empty, arena.opened, count, align_huge, ANY_NODE, &at, &tail)) {
    *out = hugepage_pfn((hpn_t){at});
    return 0;
  }
  for (unsigned node = 0; node < numa.count; node++)
    if (place_in_use(nframes, align, kind, node, out)) return 0;
  return -ENOMEM;
}

static int place(size_t nframes, size_t align, enum frames_kind kind, unsigned node, pfn_t *out) {
  if (place_in_use(nframes, align, kind, node, out)) return 0;
  if (unlikely(node != NODE_UNKNOWN) && place_before(nframes, align, kind, out)) return 0;
  size_t count = (nframes + HUGEPAGE_FRAMES - 1) / HUGEPAGE_FRAMES;
  size_t align_huge = size_max(1, align / HUGEPAGE_FRAMES);
  if (count > arena.nhugepages || align_huge > arena.nhugepages) return -ENOMEM;
  hpn_t hpn;
  int err = find_empty((uint32_t)count, (uint32_t)align_huge, node, &hpn);
  if (err == 0) *out = hugepage_pfn(hpn);
  return unlikely(err != 0 && numa_on()) ? place_elsewhere(nframes, align, kind, out) : err;
}

/* What asking for a hugepage has cost decides whether quire goes on asking: refusals add up, and
 * one that took several times too long counts as several. */
void frames_judge_huge(bool fallback, uint64_t took_us, uint64_t allowed_us) {
  uint64_t stalls = took_us / allowed_us;
  lock_acquire(&frames.lock);
  frames.stats.huge_fallbacks += fallback;
  frames.stats.huge_stalls += stalls != 0;
  frames.huge_refusals += (unsigned)size_min(stalls + fallback, HUGE_REFUSALS_MAX);
  if (!fallback && stalls == 0) {
    frames.huge_good++;
    if (frames.huge_refusals > 0) frames.huge_refusals--;
  } else {
    frames.huge_good = 0;
  }
  if (frames.huge_refusals >= HUGE_REFUSALS_MAX) {
    frames.huge_refusals = 0;
    frames.huge_refused_until = sys->now_ms() + HUGE_RETRY_MS;
  }
  lock_release(&frames.lock);
}

/* Touches a fresh hugepage at once, to see how the kernel takes it: it may have none and use 512
 * faults instead of one, or take long to find or clear one (compacting memory; in a virtual machine
 * whose host has the page's memory yet to find). Outside the lock. */
static void populate_huge(hpn_t hpn) {
  uint64_t faults = sys->minor_faults(), began = sys->thread_cpu_us();
  if (sys->populate(hugepage_addr(hpn), HUGEPAGE_SIZE) != 0) return;
  frames_judge_huge(sys->minor_faults() - faults > HUGE_FAULTS_MAX, sys->thread_cpu_us() - began,
                    HUGE_STALL_US);
}

/* Slabs will be used whole. A large allocation may never be, so of those only as many are touched
 * as it takes to know the kernel. The lock is held; hp was cold. */
static bool populate_pays(const struct hugepage *hp, enum frames_kind kind) {
  if ((hp->flags & HUGEPAGE_ADVISED) == 0) return false;
  return kind == FRAMES_SLAB || frames.huge_good < HUGE_PROBES;
}

int frames_alloc(size_t nframes, size_t align, enum frames_kind kind, struct frames_run *out) {
  pfn_t pfn;
  bool fresh_huge = false;
  unsigned node = numa_here();
  lock_acquire(&frames.lock);
  int err = place(nframes, align, kind, node, &pfn);
  if (err == 0) {
    struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn).n];
    bool cold_before = hp->nresident == 0;
    *out = (struct frames_run){pfn, nframes, take(pfn, nframes, kind, node)};
    fresh_huge = cold_before && populate_pays(hp, kind);
  }
  lock_release(&frames.lock);
  if (fresh_huge) populate_huge(pfn_hugepage(pfn));
  return err;
}

static void give_sound(pfn_t pfn, size_t n, bool zero) {
  lock_acquire(&frames.lock);
  frames.stats.used -= n;
  while (n > 0) {
    struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn).n];
    unsigned index = pfn_index(pfn), here = (unsigned)size_min(n, HUGEPAGE_FRAMES - index);
    frames_unlink(hp);
    unsigned dirty = hugepage_free_resident(hp);
    hugepage_give(hp, index, here);
    if (zero) hugepage_discarded(hp, index, here);
    frames.stats.free_resident += hugepage_free_resident(hp) - dirty;
    frames.used_of[hp->node] -= here;
    settle(hp);
    if (hp->nused == 0) frames.stats.hugepages--;
    pfn = pfn_add(pfn, here);
    n -= here;
  }
  lock_release(&frames.lock);
}

/* Frames whose memory has failed stay used for ever. */
static void give(pfn_t pfn, size_t n, bool zero) {
  size_t sound;
  while (unlikely(poison_noted() != 0) && (sound = poison_retire(pfn, n)) < n) {
    if (sound > 0) give_sound(pfn, sound, zero);
    pfn = pfn_add(pfn, sound + 1);
    n -= sound + 1;
  }
  if (n > 0) give_sound(pfn, n, zero);
}

bool frames_take(pfn_t pfn) {
  struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn).n];
  lock_acquire(&frames.lock);
  bool ok = hp->state != HUGEPAGE_ISOLATED && hugepage_is_free(hp, pfn_index(pfn), 1);
  if (ok) (void)take(pfn, 1, FRAMES_SLAB, NODE_UNKNOWN);
  lock_release(&frames.lock);
  return ok;
}

static void set_resident(pfn_t pfn, uint32_t mask, bool resident) {
  struct hugepage *hp = &arena.hugepages[pfn_hugepage(pfn).n];
  for (; mask != 0; mask &= mask - 1) {
    unsigned index = pfn_index(pfn) + (unsigned)__builtin_ctz(mask);
    if (resident)
      hugepage_filled(hp, index, 1);
    else
      hugepage_discarded(hp, index, 1);
  }
}

void frames_hollow(pfn_t pfn, uint32_t mask) {
  lock_acquire(&frames.lock);
  set_resident(pfn, mask, false);
  frames.stats.hollow += (unsigned)__builtin_popcount(mask);
  lock_release(&frames.lock);
}

void frames_fill(pfn_t pfn, uint32_t mask) {
  lock_acquire(&frames.lock);
  set_resident(pfn, mask, true);
  frames.stats.hollow -= (unsigned)__builtin_popcount(mask);
  lock_release(&frames.lock);
}

/* Given back one by one where they differ, so that the hollow ones are known to be zero. */
void frames_free_hollow(pfn_t pfn, size_t nframes, uint32_t hollow) {
  if (likely(hollow == 0)) {
    give(pfn, nframes, false);
    return;
  }
  for (size_t i = 0, n; i < nframes; i += n) {
    bool empty = hollow >> i & 1;
    for (n = 1; i + n < nframes && (hollow >> (i + n) & 1) == empty; n++) {
    }
    give(pfn_add(pfn, i), n, empty);
  }
  lock_acquire(&frames.lock);
  frames.stats.hollow -= (unsigned)__builtin_popcount(hollow);
  lock_release(&frames.lock);
}

bool frames_isolate(hpn_t hpn) {
  struct hugepage *hp = &arena.hugepages[hpn.n];
  const unsigned never = HUGEPAGE_ZONE | HUGEPAGE_BUSY | HUGEPAGE_HUGETLB | HUGEPAGE_MOVED;
  lock_acquire(&frames.lock);
  bool ok = (hp->state == HUGEPAGE_PARTIAL || hp->state == HUGEPAGE_FULL) &&
            hp->kind == FRAMES_SLAB && (hp->flags & never) == 0;
  if (ok) {
    frames_unlink(hp);
    hp->flags |= HUGEPAGE_BUSY;
    hp->state = HUGEPAGE_ISOLATED;
  }
  lock_release(&frames.lock);
  return ok;
}

void frames_restore(hpn_t hpn, bool zone) {
  struct hugepage *hp = &arena.hugepages[hpn.n];
  lock_acquire(&frames.lock);
  hp->flags &= (uint8_t)~HUGEPAGE_BUSY;
  if (zone) {
    unsigned before = hugepage_free_resident(hp);
    hp->flags |= HUGEPAGE_ZONE;
    hp->kind = FRAMES_ZONE;
    hugepage_filled(hp, 0, HUGEPAGE_FRAMES);
    frames.stats.free_resident += hugepage_free_resident(hp) - before;
    frames.stats.zone++;
  }
  settle(hp);
  lock_release(&frames.lock);
}

void frames_free(pfn_t pfn, size_t nframes) { give(pfn, nframes, false); }
void frames_free_zero(pfn_t pfn, size_t nframes) { give(pfn, nframes, true); }

static bool range_is_free(pfn_t pfn, size_t n, enum frames_kind kind) {
  while (n > 0) {
    hpn_t hpn = pfn_hugepage(pfn);
    if (hpn.n >= arena.opened) return false;
    const struct hugepage *hp = &arena.hugepages[hpn.n];
    unsigned index = pfn_index(pfn), here = (unsigned)size_min(n, HUGEPAGE_FRAMES - index);
    if (hp->state == HUGEPAGE_ISOLATED || hp->state == HUGEPAGE_FULL) return false;
    if (hp->state == HUGEPAGE_PARTIAL && hp->kind != kind) return false;
    if (!hugepage_is_free(hp, index, here)) return false;
    pfn = pfn_add(pfn, here);
    n -= here;
  }
  return true;
}

bool frames_extend(pfn_t pfn, size_t nframes, size_t more, enum frames_kind kind, bool *zero) {
  pfn_t from = pfn_add(pfn, nframes);
  unsigned node = numa_here();
  bool ok = false;
  if ((uint64_t)from.n + more > (uint64_t)arena.nhugepages * HUGEPAGE_FRAMES) return false;
  lock_acquire(&frames.lock);
  uint64_t end = (uint64_t)arena.opened * HUGEPAGE_FRAMES;
  uint64_t want = (uint64_t)from.n + more;
  if (want <= end) {
    ok = range_is_free(from, more, kind);
  } else if (range_is_free(from, (size_t)(end - from.n), kind)) {
    size_t missing = (size_t)((want - end + HUGEPAGE_FRAMES - 1) / HUGEPAGE_FRAMES);
    ok = open_more((uint32_t)missing) == 0;
  }
  if (ok) *zero = take(from, more, kind, node);
  lock_release(&frames.lock);
  return ok;
}

/* ---- nodes ---- */

bool frames_open_nodes(unsigned count) {
  size_t bytes = align_up((count - 1) * sizeof(struct frames_lists), sys_page_size());
  void *p;
  if (frames_index.known != NULL) return true;
  if (sys->reserve(bytes, &p) != 0) return false;
  if (sys->open_write(p, bytes) != 0) {
    (void)sys->unreserve(p, bytes);
    return false;
  }
  frames_index.known_bytes = bytes;
  frames_index.known = p;
  return true;
}

unsigned frames_node(pfn_t pfn) { return load_relaxed(&arena.hugepages[pfn_hugepage(pfn).n].node); }

void frames_used_of(size_t out[NODES_MAX]) {
  lock_acquire(&frames.lock);
  memcpy(out, frames.used_of, sizeof frames.used_of);
  lock_release(&frames.lock);
}

void frames_set_node(struct hugepage *hp, unsigned node) {
  frames_unlink(hp);
  frames.used_of[hp->node] -= hp->nused;
  store_relaxed(&hp->node, (uint8_t)node);
  frames.used_of[hp->node] += hp->nused;
  frames_link(hp);
}

/* The sets of hugepages have room for the largest arena. */
static const size_t fixed_bytes = sizeof frames + sizeof frames_index - sizeof frames_index.empty -
                                  sizeof frames_index.warm - sizeof frames_index.leaving;

void frames_stats(struct frames_stats *out) {
  lock_acquire(&frames.lock);
  *out = frames.stats;
  out->metadata = fixed_bytes + 3 * arena.opened / 8 + frames_index.known_bytes;
  lock_release(&frames.lock);
}

struct frames_places frames_places(void) {
  return (struct frames_places){&frames.stats, frames.used_of, &frames_index.known_bytes,
                                fixed_bytes};
}

size_t frames_used(void) { return load_relaxed(&frames.stats.used); }
void frames_lock(void) { lock_acquire(&frames.lock); }
void frames_unlock(void) { lock_release(&frames.lock); }
void frames_reset(void) { lock_reset(&frames.lock); }

static bool list_holds(const struct hugepage *hp) {
  uint32_t n = hugepage_number(hp).n + 1;
  for (uint32_t at = frames_lists(hp->node)->heads[hp->kind][level_of(hp)][hp->longest]; at != 0;
       at = arena.hugepages[at - 1].next)
    if (at == n) return true;
  return false;
}

static bool hugepage_in_its_place(const struct hugepage *hp) {
  uint32_t n = hugepage_number(hp).n;
  bool empty = hp->state == HUGEPAGE_EMPTY;
  if (test_bit(frames_index.empty, n) != empty) return false;
  if (test_bit(frames_index.warm, n) != (empty && hp->nresident != 0)) return false;
  if (hp->node >= numa.count || (empty && hp->nresident == 0 && hp->node != NODE_UNKNOWN))
    return false;
  bool leaving = hp->nused == 0 && (hp->flags & HUGEPAGE_ZONE) && !(hp->flags & HUGEPAGE_BUSY);
  if (test_bit(frames_index.leaving, n) != leaving) return false;
  return hp->state != HUGEPAGE_PARTIAL || list_holds(hp);
}

bool frames_consistent(void) {
  size_t used = 0, dirty = 0, hugepages = 0, used_of[NODES_MAX] = {0};
  uint32_t nempty = 0;
  bool ok = true;
  lock_acquire(&frames.lock);
  for (uint32_t n = 0; n < arena.opened && ok; n++) {
    const struct hugepage *hp = &arena.hugepages[n];
    ok = hugepage_consistent(hp) && hugepage_in_its_place(hp);
    used += hp->nused;
    used_of[hp->node] += hp->nused;
    dirty += hugepage_free_resident(hp);
    nempty += hp->state == HUGEPAGE_EMPTY;
    hugepages += hp->nused != 0;
  }
  ok = ok && used == frames.stats.used && dirty == frames.stats.free_resident &&
       nempty == frames.nempty && hugepages == frames.stats.hugepages &&
       memcmp(used_of, frames.used_of, sizeof used_of) == 0;
  lock_release(&frames.lock);
  return ok;
}

void frames_fini(void) {
  struct frames_options options = frames.options;
  if (frames_index.known != NULL)
    (void)sys->unreserve(frames_index.known, frames_index.known_bytes);
  memset(&frames, 0, sizeof frames);
  memset(&frames_index, 0, sizeof frames_index);
  frames.lock = (struct lock)LOCK_INIT(RANK_FRAMES);
  frames.options = options;
}
