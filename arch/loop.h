/* The event loop of one thread: sleeps until it is woken, until a time, or until memory gets short.
 *
 * Nothing that the rest of the program does with descriptors reaches it. It is woken by a futex,
 * and the few descriptors it has (the ring, pressure files, the doorbell) are in a descriptor table
 * of its thread's own, made by close_range with CLOSE_RANGE_UNSHARE: no other thread can see, close
 * or reuse them, a forked child inherits none, and the program's own descriptors stay open no
 * longer than the program wants. Where the kernel can't (before 5.9, refused), the loop has no
 * descriptor at all.
 *
 * Kinds, the best that can be had is taken:
 *   RING   io_uring waits for the futex, the time and pressure at once (Linux 6.7)
 *   POLL   ppoll watches for pressure while there is a time to wait for; a wait without end is a
 * futex's FUTEX  no pressure file may be had, and so there is nothing to poll
 *
 * Other processes can wake it too, by the doorbell (arch/doorbell.h), where there may be one. Then
 * the futex that it sleeps on is the doorbell's, for all; `wakes` goes on telling that there was a
 * wake. Who wakes counts `wakes` up and then looks for the doorbell; who opens or closes it looks
 * for wakes afterwards: so one of the two sees the other.
 *
 * The owner is the thread that called loop_open. loop_wake is for any thread, all else for the
 * owner. */
#ifndef QUIRE_ARCH_LOOP_H
#define QUIRE_ARCH_LOOP_H

#include "arch/compiler.h"
#include "arch/doorbell.h"

enum loop_kind { LOOP_CLOSED, LOOP_FUTEX, LOOP_POLL, LOOP_RING };

enum loop_event { LOOP_WOKEN = 1, LOOP_PRESSURE = 2 }; /* bits */

enum { LOOP_FOREVER_MS = -1 };

enum loop_source { LOOP_STALLS, LOOP_EVENTS, LOOP_SOURCES };

struct loop {
  uint32_t wakes; /* any thread counts up, then wakes the futex */
  uint32_t seen;  /* the count that the owner knows of */
  uint32_t *bell; /* the doorbell's futex; NULL without */
  uint32_t rung;  /* its value that the owner knows of */
  struct doorbell doorbell;
  enum loop_kind kind;
  int source[LOOP_SOURCES]; /* descriptors, -1 without */
  bool armed[LOOP_SOURCES]; /* RING: a poll is under way */
  bool futex_armed;         /* RING: a wait on `wakes` is under way */
  uint64_t ring[32];        /* struct io_uring */
};

/* Opens the best kind up to `best`. THE CALLING THREAD LOSES ALL ITS DESCRIPTORS, unless best is
 * LOOP_FUTEX: it must be one that never wants any. file: the doorbell may be a file of memory.
 * Allocates nothing. The loop is zeros before. */
void loop_open(struct loop *loop, enum loop_kind best, bool file);

/* Sleeps at most timeout_ms, or for LOOP_FOREVER_MS without end. Returns the events; may return
 * early without any. watch: memory pressure is wanted too. A wake since the last call ends it at
 * once. */
unsigned loop_wait(struct loop *loop, int64_t timeout_ms, bool watch);

/* Ends the wait under way, or the next. */
void loop_wake(struct loop *loop);

/* The page that the doorbell is in, NULL while there is none. For the owner. */
static inline void *loop_page(const struct loop *loop) {
  return loop->bell != NULL ? loop->doorbell.page : NULL;
}

/* Gives ring and descriptors back. It goes on as FUTEX. */
void loop_close(struct loop *loop);

/* In a forked child, where nothing of it exists: zeros, ready for loop_open. */
void loop_forget(struct loop *loop);

const char *loop_kind_name(enum loop_kind kind);

#endif
