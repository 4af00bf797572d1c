/* The background thread: gives memory back while the program is idle.
 *
 * Started when the heap first passes its threshold, by a slow path that holds no lock; blocks all
 * signals; gone in a forked child, which starts its own when it needs one. */
#ifndef QUIRE_ALLOC_BACKGROUND_H
#define QUIRE_ALLOC_BACKGROUND_H

#include "arch/compiler.h"

/* Starts the thread if options and heap size ask for it and none runs. No lock may be held. Cheap when there
 * is nothing to do. */
void background_consider(size_t heap_bytes);

/* Is it running? Then callers leave decay to it. */
bool background_running(void);

/* Wakes it because memory was freed after it had found nothing to do. Cheap; no lock may be held. */
void background_notify(void);

/* Stops it and waits until it has gone: tests. */
void background_stop(void);

void background_before_fork(void);
void background_after_fork_parent(void);
void background_after_fork_child(void);

#endif
