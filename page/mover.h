/* Taking memory away from under running threads, and putting other memory in its place.
 *
 *   lift_begin      the run's pages go to a staging range, atomically; who touches the run now,
 *                   or has the kernel do it, waits
 *   lift_map        a part of the run gets frames of the zone
 *   lift_put_back   a part of the run gets its own pages again
 *   lift_end        everybody goes on
 *
 * Between begin and end the caller takes no lock that a thread may hold while it touches the heap,
 * calls nothing that allocates, and does not dawdle: others wait. The run is at most one hugepage
 * long and belongs to the caller as to its backing: nobody else maps, moves or discards it.
 *
 * One lift at a time: by the thread that opened the zone.
 *
 * Stall. Who touches a run waits for as long as its lift takes, so runs are to be short. How short
 * follows from a budget and from what lifts have taken lately (lift_longest); it is processor time
 * of this thread that is measured, since no run is short enough to keep the scheduler from taking
 * the processor away in the midst of it. To make that rare, a lift is begun by a thread that has
 * slept a moment ago, if need be within lift_begin. That also lets others in the kernel finish
 * first who would keep lift_map waiting: it sleeps for some 10 ms at most between its looks, and
 * each look for as long as the kernel has it wait. The caller may hold locks that
 * others can wait for that long, and none that a thread may hold while it touches the heap. */
#ifndef QUIRE_PAGE_MOVER_H
#define QUIRE_PAGE_MOVER_H

#include "page/zone.h"

struct lift {
  pfn_t pfn;
  size_t nframes;
  char *staging; /* where the run's contents are now; frames without memory read as zeros */
  uint64_t began_us;
};

/* Microseconds that a lift should take at most. Forgets what was measured. */
void lift_configure(unsigned stall_us);

/* How many frames may be lifted at once so that this is to be expected: from 1 to a hugepage's. */
unsigned lift_longest(void);

/* 0, or with nothing changed: -EBUSY, a page is pinned; another negative errno, the kernel refuses.
 * Pages that a fork made shared are made the process's own first. */
nodiscard int lift_begin(struct lift *lift, pfn_t pfn, size_t nframes);

/* Frames [index, + n) of the run now have the zone's at `at`. 0 or a negative errno: then they are
 * still in staging. */
nodiscard int lift_map(struct lift *lift, size_t index, size_t n, pfn_t at);

/* Never fails: tries until the kernel lets it. */
void lift_put_back(struct lift *lift, size_t index, size_t n);

void lift_end(struct lift *lift);

#endif
