/* Start-up, fork and the periodic work that callers do when no background thread runs. */
#ifndef QUIRE_ALLOC_INIT_H
#define QUIRE_ALLOC_INIT_H

#include "arch/compiler.h"

/* Makes the heap ready; called by the first miss, at any time from the dynamic loader on.
 * Idempotent. False when no address space is to be had. */
bool alloc_ready(void);

/* Reads the options; start-up does so by itself. Idempotent. */
void alloc_configure(void);

/* From now on libc is there: periodic work may begin. Called by the library's constructor.
 * Idempotent. */
void alloc_late_init(void);

/* Called by slow paths with no lock held: now and then does a step of decay, or starts the thread
 * that will. */
void alloc_tick(void);

/* Fork: all locks of quire, in order of rank. */
void alloc_before_fork(void);
void alloc_after_fork_parent(void);
void alloc_after_fork_child(void);

#endif
