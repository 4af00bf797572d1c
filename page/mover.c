#include "page/mover.h"

#include <errno.h>

#include "arch/sys.h"
#include "arch/zone_sys.h"
#include "page/zone_impl.h"

enum {
  START_NS = 2500,     /* a frame, before anything is known */
  OVERHEAD_FRAMES = 8, /* what a lift costs beside its frames, in as many of them */
  RISE = 4,            /* what it takes is followed fast when it grows, by a quarter, */
  FALL = 32,           /* and slowly when it falls: it is overrated rather than underrated */
  REST_US = 500,       /* of work, after which the next lift is begun by a thread that has slept */
  QUIET_RESTS = 10,    /* between two looks whether others have gone */
  PATIENCE_MOST = 8,   /* looks in vain before it is done without; a quiet lift earns one */
};

/* Microseconds that lifts may take, and nanoseconds that they do, for each frame and what counts as
 * such. A budget is met exactly where all runs are as long as it allows, whatever the true overhead
 * is. */
static struct {
  unsigned budget_us;
  uint64_t frame_ns;
  uint64_t rested_us; /* what this thread had worked when it last rested */
  unsigned patience;
} stall = {.budget_us = 200, .frame_ns = START_NS, .patience = PATIENCE_MOST};

void lift_configure(unsigned stall_us) {
  stall.budget_us = stall_us;
  stall.frame_ns = START_NS;
  stall.patience = PATIENCE_MOST;
}

unsigned lift_longest(void) {
  uint64_t n = (uint64_t)stall.budget_us * 1000 / stall.frame_ns;
  return n <= OVERHEAD_FRAMES ? 1 : (unsigned)size_min(n - OVERHEAD_FRAMES, HUGEPAGE_FRAMES);
}

/* One that took far too long by accident counts for twice what was expected. */
static void note_stall(size_t nframes, uint64_t took_us) {
  uint64_t now = took_us * 1000 / (nframes + OVERHEAD_FRAMES), before = stall.frame_ns;
  now = size_min(size_max(now, 1), 2 * before);
  stall.frame_ns =
      now > before ? before + (now - before + RISE - 1) / RISE : before - (before - now) / FALL;
}

/* Whatever has become of the others, a page that is at home already, or has no memory, is left
 * alone. One that the kernel won't take back so is put there by its entry in the page table; that
 * would replace what is there, so it is done only with a page that is known to be in staging. That
 * takes /proc, without which no pass lifts anything (compact.c, know_waiters). */
static bool page_back(const struct lift *lift, size_t offset) {
  char *from = zone.staging + offset, *to = (char *)arena_addr(lift->pfn) + offset;
  int err = zone_sys->shift(zone.watch, from, to, FRAME_SIZE);
  if (err == 0 || err == -EEXIST) return true;
  int held = zone_sys->holds(from);
  return held == 0 || (held > 0 && zone_sys->replace(from, to, FRAME_SIZE) == 0);
}

/* Moves pages back where they came from. The range is still watched, and empty but for pages that
 * never left it. */
static bool move_back(const struct lift *lift, size_t from, size_t length) {
  char *to = (char *)arena_addr(lift->pfn) + from;
  if (zone_sys->shift(zone.watch, zone.staging + from, to, length) == 0) return true;
  bool all = true;
  for (size_t at = from; at < from + length; at += FRAME_SIZE) all = page_back(lift, at) && all;
  return all;
}

static size_t bytes_of(const struct lift *lift) { return lift->nframes * FRAME_SIZE; }

/* A thread that has worked for long is the first to lose its processor, for milliseconds, to
 * whoever wakes; one that has just slept keeps it until its slice ends, which Linux makes 0.7 ms
 * at least. Better it sleeps now than is put to sleep while others wait for it. */
static void rest_before(void) {
  if (sys->thread_cpu_us() - stall.rested_us < REST_US) return;
  sys->rest();
  stall.rested_us = sys->thread_cpu_us();
}

/* Reclaim, DAMON and the like look a page's mappings up under a lock that mapping needs for itself,
 * page after page, and Linux lets such readers pass a writer that waits, for 4 ms. They take their
 * time, since a hugepage of the zone has hundreds of mappings. Better they finish now than while
 * others wait for this thread. Some are never finished: for these only a few lifts wait. */
static void wait_for_quiet(void) {
  while (zone_sys->contended(zone.view)) {
    if (stall.patience == 0) return;
    stall.patience--;
    for (int i = 0; i < QUIET_RESTS; i++) sys->rest();
    stall.rested_us = sys->thread_cpu_us();
  }
  if (stall.patience < PATIENCE_MOST) stall.patience++;
}

/* The kernel moves pages only into a watched range. Afterwards the staging range must not be: who
 * copies from it reads frames that have no memory too. */
static int take_away(struct lift *lift) {
  size_t length = bytes_of(lift);
  lift->began_us = sys->thread_cpu_us();
  int err = zone_sys->watch(zone.watch, zone.staging, HUGEPAGE_SIZE);
  if (err != 0) return err;
  err = zone_sys->watch(zone.watch, arena_addr(lift->pfn), length);
  bool watched = err == 0;
  if (watched) err = zone_sys->shift(zone.watch, arena_addr(lift->pfn), zone.staging, length);
  if (zone_sys->unwatch(zone.watch, zone.staging, HUGEPAGE_SIZE) != 0 && err == 0) err = -EIO;
  if (watched && err != 0) {
    lift_put_back(lift, 0, lift->nframes);
    lift_end(lift);
  }
  return err;
}

int lift_begin(struct lift *lift, pfn_t pfn, size_t nframes) {
  if (zone.watch < 0) return -EBADF;
  rest_before();
  wait_for_quiet();
  *lift = (struct lift){.pfn = pfn, .nframes = nframes, .staging = zone.staging};
  int err = take_away(lift);
  if (err == -EBUSY) {
    /* Pages that a fork left shared become the process's own by being written; a pinned one stays
     * as it is. */
    (void)sys->populate(arena_addr(pfn), bytes_of(lift));
    return take_away(lift);
  }
  if (err == -EEXIST) return take_away(lift); /* the kernel was migrating a page (linux_shift) */
  return err;
}

int lift_map(struct lift *lift, size_t index, size_t n, pfn_t at) {
  return zone_map(pfn_add(lift->pfn, index), n, at);
}

void lift_put_back(struct lift *lift, size_t index, size_t n) {
  while (!move_back(lift, index * FRAME_SIZE, n * FRAME_SIZE)) sys->rest();
}

/* Without the watch's descriptor nothing is watched and nobody waits, and no frame is moved any
 * more. */
static cold void give_watch_up(void) {
  zone_sys->close(zone.watch);
  zone.watch = -1;
}

/* What stayed there would be taken for the contents of the next run's holes. All of it, since
 * reading one that has no memory at all may have mapped a hugepage of zeros. */
static void empty_staging(void) {
  if (sys->discard(zone.staging, HUGEPAGE_SIZE) == 0) return;
  if (sys->refresh(zone.staging, HUGEPAGE_SIZE) != 0 && zone.watch >= 0) give_watch_up();
}

void lift_end(struct lift *lift) {
  void *p = arena_addr(lift->pfn);
  if (zone.watch < 0) return;
  /* Else somebody would wait for ever. */
  if (zone_sys->unwatch(zone.watch, p, bytes_of(lift)) != 0 ||
      zone_sys->wake(zone.watch, p, bytes_of(lift)) != 0)
    give_watch_up();
  note_stall(lift->nframes, sys->thread_cpu_us() - lift->began_us);
  empty_staging();
}
