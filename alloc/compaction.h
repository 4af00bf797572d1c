/* When to compact, and how much of a processor it may take; the engine is page/compact.h. */
#ifndef QUIRE_ALLOC_COMPACTION_H
#define QUIRE_ALLOC_COMPACTION_H

#include "page/arena.h"

/* The background thread's part of a turn: milliseconds until it wants the next, UINT64_MAX when
 * there is nothing to gain. may_mesh: the process has not been sandboxed since it began. */
uint64_t compaction_turn(uint64_t now_ms, bool may_mesh);

/* Memory is short: a pass soon. From the background thread. */
void compaction_pressed(void);

/* Asks for a pass at full speed and waits for it, or works in the caller's thread where there is no
 * background thread; then without meshing. Bytes gained. No lock may be held. */
size_t compaction_now(void);

/* The same without waiting, from the background thread: asks, and is it over? Then *gained says the
 * bytes. */
uint32_t compaction_ask(void);
bool compaction_answered(uint32_t asked, size_t *gained);

/* Gives frames of the caller's, at most 32 of pinned slabs, memory that nobody shares and that
 * stays what it is: those that are the zone's are moved out by the background thread, and waited
 * for. 0 or -EBUSY: it has no answer within a second or so, or the kernel refuses. No lock may be
 * held. */
nodiscard int compaction_move_out(pfn_t pfn, size_t n);

/* Before a fork: has the background thread give the zone up, and keeps it from beginning another
 * until the fork is over. Before any lock is taken. */
void compaction_before_fork(void);
void compaction_after_fork_parent(void);
void compaction_after_fork_child(void);

/* The background thread ends: nothing may stay shared, since nobody could freeze it any more. */
void compaction_stop(void);

#endif
