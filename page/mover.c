#include "page/mover.h"

#include <errno.h>

#include "arch/sys.h"
#include "arch/zone_sys.h"
#include "page/zone_impl.h"

/* Moves pages back where they came from. The range is still watched and empty; if the kernel does
 * not take them so, the page tables are moved as a whole, which replaces whatever is there. */
static bool move_back(struct lift *lift, size_t from, size_t length) {
  size_t done = 0;
  char *to = (char *)arena_addr(lift->pfn) + from;
  if (zone_sys->shift(zone.watch, zone.staging + from, to, length, &done) == 0) return true;
  from += done;
  length -= done;
  to += done;
  return zone_sys->replace(zone.staging + from, to, length) == 0;
}

static void wait_a_little(void) {
  uint32_t word = 0;
  sys_futex_wait_for(&word, 0, 1);
}

static size_t bytes_of(const struct lift *lift) { return lift->nframes * FRAME_SIZE; }

/* The kernel moves pages only into a watched range. Afterwards the staging range must not be: who
 * copies from it reads frames that have no memory too. */
static int take_away(struct lift *lift) {
  size_t length = bytes_of(lift);
  int err = zone_sys->watch(zone.watch, zone.staging, HUGEPAGE_SIZE);
  if (err != 0) return err;
  err = zone_sys->watch(zone.watch, arena_addr(lift->pfn), length);
  bool watched = err == 0;
  if (watched)
    err = zone_sys->shift(zone.watch, arena_addr(lift->pfn), zone.staging, length, &lift->moved);
  if (zone_sys->unwatch(zone.watch, zone.staging, HUGEPAGE_SIZE) != 0 && err == 0) err = -EIO;
  if (watched && err != 0) {
    if (lift->moved > 0) lift_put_back(lift, 0, lift->nframes);
    lift_end(lift);
  }
  return err;
}

int lift_begin(struct lift *lift, pfn_t pfn, size_t nframes) {
  if (zone.watch < 0) return -EBADF;
  *lift = (struct lift){.pfn = pfn, .nframes = nframes, .staging = zone.staging};
  int err = take_away(lift);
  if (err == -EBUSY) {
    /* Pages that a fork left shared become the process's own by being written; a pinned one stays
     * as it is. */
    (void)sys->populate(arena_addr(pfn), bytes_of(lift));
    lift->moved = 0;
    err = take_away(lift);
  }
  return err;
}

int lift_map(struct lift *lift, size_t index, size_t n, pfn_t at) {
  return zone_map(pfn_add(lift->pfn, index), n, at);
}

void lift_put_back(struct lift *lift, size_t index, size_t n) {
  size_t from = index * FRAME_SIZE, length = n * FRAME_SIZE;
  if (from >= lift->moved) return;
  if (from + length > lift->moved) length = lift->moved - from;
  while (!move_back(lift, from, length)) wait_a_little();
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
  empty_staging();
}
