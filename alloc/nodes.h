/* Finding out about nodes of memory (arch/numa.h), once: the background thread's. */
#ifndef QUIRE_ALLOC_NODES_H
#define QUIRE_ALLOC_NODES_H

#include "arch/numa.h"

/* Looks, if nobody has yet. May take some milliseconds, allocate, and hold the dynamic loader's
 * locks: from the background thread, before its first turn. */
void nodes_look(void);

enum numa_state nodes_state(void);
const enum numa_state *nodes_state_place(void); /* for other processes */

/* Brings what is noted, in a share of a processor; milliseconds until there is more to do, or
 * UINT64_MAX. may_call: the process has not been sandboxed since it began. */
uint64_t nodes_turn(uint64_t now_ms, bool may_call);

/* Before any lock is taken, and when all have been given back. */
void nodes_before_fork(void);
void nodes_after_fork_parent(void);
void nodes_after_fork_child(void);

void nodes_fini(void); /* tests: nothing is known again; when no heap is there */

#endif
