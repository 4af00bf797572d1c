/* When to compact.
 *
 * Theory. What could be gained is the slack: what slabs hold beyond what lives in them and what has
 * been given back already. A pass begins when the slack is large against the heap, and larger than
 * the last pass left it: one that gained little makes the next wait for more, twice as long each
 * time.
 *
 * A pass works in steps of a few milliseconds of CPU time and pauses so that it takes its share of
 * a processor (compact_cpu), and a quarter of that while there are as many others to run as
 * processors: then it takes from the program what it uses. One that was asked for (quire_compact,
 * malloc_trim, memory pressure) works without pauses, and so does one that is under way then.
 *
 * Fork. The child must see what it would without compaction, and whoever forks may not wait long:
 * the forking thread raises `forks`, and asks the background thread, which has the zone's
 * descriptors, to freeze the zone before its next unit of work. While `forks` is raised no pass
 * begins. A process that forks again and again is left unmeshed for a time that doubles.
 *
 * Pins for long. Who pins memory of the zone for long wants it moved out (slab_move_out), which
 * only the background thread can do: it asks on a list and waits, with nothing held but the pin,
 * which keeps the slab where it is. It looks itself whether it has got what it wants, since a fork
 * that freezes the zone meanwhile, or the end of the thread, serves it as well. It never waits for
 * long: the thread may be in a program's callback that waits for a lock which the pinning thread
 * holds.
 *
 * Locks: `engine` (RANK_COMPACT) is held while a pass begins, works or is abandoned, by the
 * background thread or by a thread that asked for a pass and has none, and throughout a fork.
 * `moving` (RANK_MOVE_OUT) guards the list, for moments; a forked child forgets it. */
#include "alloc/compaction.h"

#include <errno.h>

#include "alloc/background.h"
#include "alloc/options.h"
#include "alloc/tcache.h"
#include "arch/lock.h"
#include "arch/sys.h"
#include "page/compact.h"
#include "page/frames.h"
#include "page/zone.h"
#include "slab/bin.h"
#include "slab/migrate.h"
#include "slab/pin.h"

enum {
  STEP_US = 2000,
  SLACK_LEAST = 8 << 20, /* bytes: less isn't worth a pass */
  SLACK_LEAST_AGGRESSIVE = 1 << 20,
  SLACK_PERCENT = 10, /* of what slabs hold */
  SLACK_PERCENT_AGGRESSIVE = 3,
  CPU_AGGRESSIVE = 100,
  LOOK_MS = 250,         /* between looks at the slack */
  CALM_LOOKS = 4,        /* that must agree before a pass begins */
  SETTLE_MS = 20000,     /* a heap that still changes by much is waited for so long */
  PAUSE_LEAST_MS = 1000, /* between passes; doubles without gain */
  PAUSE_MOST_MS = 64000,
  FORK_PAUSE_MS = 5000, /* without meshing after a freeze; doubles with each */
  FORK_PAUSE_MOST_MS = 600000,
  MOVE_OUT_LOOK_MS = 10,
  MOVE_OUT_LOOKS = 100,
  HOUR_MS = 3600000,
  CROWDED_PART = 4, /* of its share, where all processors are in demand */
};

/* Frames to be moved out, on the stack of the thread that waits for it. */
struct move_out {
  struct move_out *next;
  pfn_t pfn;
  size_t n;
  enum { ASKED, AT_WORK, ANSWERED } state;
};

static struct {
  struct lock engine;
  uint32_t forks;  /* that are under way */
  uint32_t freeze; /* futex: 1 while somebody waits for the zone to be given up */
  uint32_t asked;  /* passes asked for */
  uint32_t done;   /* futex: of these, over */
  size_t gained;   /* bytes, by the last of them */
  struct lock moving;
  struct move_out *move_outs; /* in state ASKED */
  uint32_t moved_out;         /* futex: counts answers */
} shared = {.engine = LOCK_INIT(RANK_COMPACT), .moving = LOCK_INIT(RANK_MOVE_OUT)};

/* The background thread's own. */
static struct {
  uint64_t begin_at; /* no pass before */
  uint64_t pause_ms;
  size_t slack_left;             /* by the last pass */
  size_t slack_seen[CALM_LOOKS]; /* when it was looked at last */
  unsigned nseen;
  uint64_t look_at, settle_by;
  uint32_t serving; /* the request that this pass is for; 0: none */
  uint64_t unmeshed_until, fork_pause_ms;
  bool mesh_later;       /* a pass went without, for a fork */
  uint64_t earned_until; /* processor time is earned from here on */
  int64_t credit_us;     /* of it, not spent yet; below 0: owed */
} work;

static bool aggressive(void) { return options.compact == CHOICE_COMPACT_AGGRESSIVE; }

/* ---- policy ---- */

/* Bytes that slabs hold with nothing living in them; *held: all that they hold. */
static size_t slack(size_t *held) {
  size_t free_bytes = 0, nframes = 0;
  struct frames_stats frames;
  for (unsigned c = 0; c < SLAB_CLASSES; c++) {
    struct bin_stats bin;
    bin_stats(c, &bin);
    free_bytes += bin.free_slots * class_size(c);
    nframes += bin.frames;
  }
  frames_stats(&frames);
  size_t hollow = frames.hollow << FRAME_SHIFT, bytes = nframes << FRAME_SHIFT;
  *held = bytes > hollow ? bytes - hollow : 0;
  return free_bytes > hollow ? free_bytes - hollow : 0;
}

static bool worth_a_pass(size_t loose, size_t held) {
  size_t least = aggressive() ? SLACK_LEAST_AGGRESSIVE : SLACK_LEAST;
  size_t percent = aggressive() ? SLACK_PERCENT_AGGRESSIVE : SLACK_PERCENT;
  if (loose < least || loose < held / 100 * percent) return false;
  return loose > work.slack_left + work.slack_left / 8 + least / 2;
}

/* Would others have this thread's processor, too? A process that may use few of a busy machine's
 * processors is told so too often rather than too seldom. May be asked only where files may be
 * opened. */
static bool is_crowded(void) {
  return sys->runnable() > (unsigned)sys_cpu_count(); /* this thread is one of them */
}

/* Milliseconds until there is processor time to spend again. What is not spent adds up to one step:
 * sleeps that last longer than they should cost nothing so, and who was held up does not catch up.
 */
static uint64_t pause_after(uint64_t used_us, bool may_look) {
  int64_t share = aggressive() ? CPU_AGGRESSIVE : (int64_t)options.compact_cpu;
  uint64_t now = sys->now_ms();
  if (share >= 100) return 0;
  if (may_look && is_crowded()) share = (share + CROWDED_PART - 1) / CROWDED_PART;
  work.credit_us += (int64_t)size_min(now - work.earned_until, HOUR_MS) * share * 10;
  work.earned_until = now;
  work.credit_us -= (int64_t)used_us;
  if (work.credit_us > STEP_US) work.credit_us = STEP_US;
  return work.credit_us >= 0 ? 0 : (uint64_t)(-work.credit_us / (share * 10) + 1);
}

/* ---- passes ---- */

static void give_up_zone(uint64_t now) {
  struct zone_stats before;
  if (zone_state() != ZONE_OPEN) return;
  zone_stats(&before);
  (void)zone_freeze();
  if (before.home + before.guest == 0) return; /* it cost nothing */
  work.fork_pause_ms = work.unmeshed_until + work.fork_pause_ms > now
                           ? size_min(2 * work.fork_pause_ms, FORK_PAUSE_MOST_MS)
                           : 0;
  work.fork_pause_ms = size_max(work.fork_pause_ms, FORK_PAUSE_MS);
  work.unmeshed_until = now + work.fork_pause_ms;
}

static void answer_freeze(uint64_t now) {
  if (load_acquire(&shared.freeze) == 0) return;
  give_up_zone(now);
  store_release(&shared.freeze, 0);
  sys_futex_wake(&shared.freeze, INT32_MAX);
}

static struct move_out *take_move_out(void) {
  lock_acquire(&shared.moving);
  struct move_out *first = shared.move_outs;
  if (first != NULL) {
    store_relaxed(&shared.move_outs, first->next);
    first->state = AT_WORK;
  }
  lock_release(&shared.moving);
  return first;
}

/* Whether it worked the waiting threads see for themselves. */
static void answer_move_outs(void) {
  struct move_out *m;
  while (load_relaxed(&shared.move_outs) != NULL && (m = take_move_out()) != NULL) {
    (void)slab_move_out(m->pfn, m->n);
    lock_acquire(&shared.moving);
    m->state = ANSWERED; /* and gone, once the lock is free */
    lock_release(&shared.moving);
    (void)add_relaxed(&shared.moved_out, 1);
    sys_futex_wake(&shared.moved_out, INT32_MAX);
  }
}

static void begin(uint64_t now, bool may_mesh) {
  may_mesh = may_mesh && options.compact != CHOICE_COMPACT_OFF;
  /* Asked for, it meshes also soon after a fork. */
  work.mesh_later = may_mesh && work.serving == 0 && now < work.unmeshed_until;
  if (work.mesh_later) may_mesh = false;
  struct zone_stats zone;
  zone_stats(&zone);
  /* Frames that are still shared must not be handed out by two slabs; and those that were frozen
   * while the zone stayed open may still read its pages. */
  if (zone.frozen != 0 && zone.stuck == 0 && zone_state() != ZONE_OPEN) slab_thaw_all();
  compact_begin(may_mesh);
}

static void finish(uint64_t now) {
  size_t held, gained = compact_gained() << FRAME_SHIFT;
  work.slack_left = slack(&held);
  bool gain = gained > held / 50;
  work.pause_ms =
      gain ? PAUSE_LEAST_MS : size_min(size_max(2 * work.pause_ms, PAUSE_LEAST_MS), PAUSE_MOST_MS);
  work.begin_at = now + work.pause_ms;
  if (work.serving == 0) return;
  store_relaxed(&shared.gained, gained);
  store_release(&shared.done, work.serving);
  sys_futex_wake(&shared.done, INT32_MAX);
  work.serving = 0;
}

/* A pass that begins in the midst of a great change makes hosts of what is about to go, and hosts
 * stay. So for a second the slack may not change by much; for who wants it aggressively, from one
 * look to the next. */
static bool settled(uint64_t now, size_t loose) {
  unsigned looks = aggressive() ? 1 : CALM_LOOKS;
  size_t most = loose, least = loose;
  for (unsigned i = 0; i < looks && i < work.nseen; i++) {
    size_t seen = work.slack_seen[(work.nseen - 1 - i) % CALM_LOOKS];
    most = size_max(most, seen);
    least = size_min(least, seen);
  }
  bool calm = work.nseen >= looks && most - least <= loose / 16;
  work.slack_seen[work.nseen++ % CALM_LOOKS] = loose;
  if (work.settle_by == 0) work.settle_by = now + SETTLE_MS;
  if (!calm && now < work.settle_by) return false;
  work.settle_by = 0;
  return true;
}

/* Does somebody wait for a pass? One that is under way comes first, and hurries. */
static bool is_asked(void) { return load_acquire(&shared.asked) != load_relaxed(&shared.done); }

/* Should a pass begin? Else *next is when to look again. */
static bool due(uint64_t now, uint64_t *next) {
  size_t held;
  *next = UINT64_MAX;
  if (is_asked()) {
    work.serving = load_acquire(&shared.asked);
    return true;
  }
  if (options.compact == CHOICE_COMPACT_OFF) return false;
  size_t loose = slack(&held);
  if (work.mesh_later && now >= work.unmeshed_until) {
    work.mesh_later = false;
    work.slack_left = 0;
  }
  if (work.mesh_later) *next = work.unmeshed_until - now;
  work.slack_left = size_min(work.slack_left, loose);
  if (!worth_a_pass(loose, held)) {
    work.settle_by = 0;
    work.nseen = 0;
    return false;
  }
  *next = LOOK_MS;
  if (now < work.look_at) {
    *next = work.look_at - now;
    return false;
  }
  work.look_at = now + LOOK_MS;
  bool calm = settled(now, loose);
  if (now >= work.begin_at) return calm;
  work.settle_by = now + SETTLE_MS; /* it goes on being looked at */
  *next = size_max(LOOK_MS, work.begin_at - now);
  return false;
}

uint64_t compaction_turn(uint64_t now, bool may_mesh) {
  uint64_t next;
  answer_freeze(now);
  if (!may_mesh) give_up_zone(now);
  answer_move_outs();
  if (load_acquire(&shared.forks) != 0) return 1;
  lock_acquire(&shared.engine);
  bool active = compact_active();
  if (!active && !due(now, &next)) {
    lock_release(&shared.engine);
    return next;
  }
  if (!active && work.serving != 0) {
    (void)tcache_reclaim(true);
    (void)bin_trim(true);
    (void)frames_purge(0);
  }
  uint64_t began = sys->thread_cpu_us();
  if (!active) begin(now, may_mesh);
  bool over = compact_step(STEP_US);
  if (over) finish(now);
  lock_release(&shared.engine);
  if (over) return 1;
  if (is_asked()) return 0;
  return pause_after(sys->thread_cpu_us() - began, may_mesh);
}

void compaction_pressed(void) {
  if (options.compact != CHOICE_COMPACT_OFF) (void)add_relaxed(&shared.asked, 1);
}

/* Without a background thread. */
static size_t work_here(void) {
  lock_acquire(&shared.engine);
  if (compact_active()) {
    lock_release(&shared.engine);
    return 0;
  }
  compact_begin(false);
  while (!compact_step(UINT64_MAX)) {
  }
  size_t gained = compact_gained() << FRAME_SHIFT;
  lock_release(&shared.engine);
  return gained;
}

uint32_t compaction_ask(void) { return add_relaxed(&shared.asked, 1) + 1; }

bool compaction_answered(uint32_t asked, size_t *gained) {
  *gained = load_relaxed(&shared.gained);
  return (int32_t)(load_acquire(&shared.done) - asked) >= 0;
}

size_t compaction_now(void) {
  background_consider(SIZE_MAX);
  if (!background_running()) return work_here();
  uint32_t mine = compaction_ask();
  for (;;) {
    uint32_t done = load_acquire(&shared.done);
    if ((int32_t)(done - mine) >= 0) return load_relaxed(&shared.gained);
    if (!background_running()) return work_here();
    background_wake();
    sys_futex_wait_for(&shared.done, done, 100);
  }
}

void compaction_stop(void) {
  lock_acquire(&shared.engine);
  compact_abandon();
  give_up_zone(sys->now_ms());
  lock_release(&shared.engine);
  answer_move_outs();
  store_release(&shared.freeze, 0);
  sys_futex_wake(&shared.freeze, INT32_MAX);
}

/* ---- moving out for a pin ---- */

/* Who came first is served first. */
static void ask(struct move_out *m) {
  struct move_out **at = &shared.move_outs;
  lock_acquire(&shared.moving);
  while (*at != NULL) at = &(*at)->next;
  store_relaxed(at, m);
  lock_release(&shared.moving);
}

/* Has it been answered? If not, and `give_up`, it is taken back; but not while it is at work. */
static bool is_over(struct move_out *m, bool give_up) {
  lock_acquire(&shared.moving);
  if (m->state == ASKED && give_up) {
    struct move_out **at = &shared.move_outs;
    while (*at != m) at = &(*at)->next;
    store_relaxed(at, m->next);
    m->state = ANSWERED;
  }
  bool over = m->state == ANSWERED;
  lock_release(&shared.moving);
  return over;
}

static void ask_and_wait(pfn_t pfn, size_t n) {
  struct move_out mine = {.pfn = pfn, .n = n, .state = ASKED};
  ask(&mine);
  for (unsigned looks = 0;;) {
    uint32_t seen = load_acquire(&shared.moved_out);
    bool hopeless = looks == MOVE_OUT_LOOKS || !background_running() || !zone_is_shared(pfn, n);
    if (is_over(&mine, hopeless)) return;
    background_wake();
    sys_futex_wait_for(&shared.moved_out, seen, MOVE_OUT_LOOK_MS);
    looks += load_relaxed(&shared.moved_out) == seen; /* nobody else was served either */
  }
}

int compaction_move_out(pfn_t pfn, size_t n) {
  if (zone_is_shared(pfn, n) && zone_state() == ZONE_OPEN) ask_and_wait(pfn, n);
  return zone_is_shared(pfn, n) || zone_settle(pfn, n) != 0 ? -EBUSY : 0;
}

/* ---- fork ---- */

static bool must_freeze(void) { return zone_state() == ZONE_OPEN && background_running(); }

void compaction_before_fork(void) {
  (void)add_relaxed(&shared.forks, 1);
  fence_seq_cst();
  for (;;) {
    while (must_freeze()) {
      store_release(&shared.freeze, 1);
      background_wake();
      sys_futex_wait_for(&shared.freeze, 1, 10);
    }
    lock_acquire(&shared.engine);
    if (!must_freeze()) break;
    lock_release(&shared.engine); /* a pass had begun just before it could see this fork */
  }
  lock_acquire(&shared.moving);
}

void compaction_after_fork_parent(void) {
  lock_release(&shared.moving);
  lock_release(&shared.engine);
  (void)sub_relaxed(&shared.forks, 1);
}

void compaction_after_fork_child(void) {
  compact_abandon();
  zone_forget();
  shared.forks = shared.freeze = 0;
  shared.asked = shared.done = 0;
  shared.move_outs = NULL; /* of threads that aren't here */
  lock_reset(&shared.moving);
  work = (typeof(work)){0};
  lock_reset(&shared.engine);
}
