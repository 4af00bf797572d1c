/* The background thread: gives memory back while the program is idle.
 *
 * Started when the heap first passes its threshold, by a slow path that holds no lock; blocks all
 * signals; gone in a forked child, which starts its own when it needs one. */
#ifndef QUIRE_ALLOC_BACKGROUND_H
#define QUIRE_ALLOC_BACKGROUND_H

#include "arch/compiler.h"
#include "arch/loop.h"

/* Starts the thread if options and heap size ask for it and none runs. No lock may be held. Cheap
 * when there is nothing to do. Keeps errno. */
void background_consider(size_t heap_bytes);

/* Is it running? Then callers leave decay to it. */
bool background_running(void);

/* Wakes it because memory was freed after it had found nothing to do. Cheap; no lock may be held.
 */
void background_notify(void);

/* Ends its wait, whatever for. Any thread; also with locks held. */
void background_wake(void);

/* Stops it and waits until it has gone. It may be started again. */
void background_stop(void);

/* One turn of its work at a time of sys->now_ms: decay, idle caches, collapse. Milliseconds until
 * the next, or LOOP_FOREVER_MS when nothing is left to gain. The thread's; tests call it while none
 * runs. */
int64_t background_turn(uint64_t now_ms);

struct background_stats {
  bool running;
  bool asleep;         /* has nothing to do and waits to be woken */
  enum loop_kind kind; /* LOOP_CLOSED while it doesn't run */
  bool pressure;       /* memory pressure is watched */
  uint64_t turns;
  uint64_t purges; /* at memory pressure */
};

void background_stats(struct background_stats *out); /* racy */

void background_before_fork(void);
void background_after_fork_parent(void);
void background_after_fork_child(void);

#endif
