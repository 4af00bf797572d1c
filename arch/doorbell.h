/* A doorbell: one page of memory by which another process can wake a thread of this one.
 *
 * Whoever may look into this process may open its threads' descriptors (/proc/PID/task/TID/fd/N).
 * So the page is a file of memory whose only descriptor the thread keeps in a table of its own
 * (arch/loop.h): the program can neither see nor close it, and neither children nor programs that
 * it executes have it. Where making such a file isn't advisable (a filter on system calls may end
 * the process for it), or there is no such table, the page is shared memory without a descriptor:
 * then only who may follow /proc/PID/map_files, as root may, gets at it. In the page is a futex,
 * which works across processes since both have mapped the same memory. While nobody rings it costs
 * nothing but the page.
 *
 * Who has it mapped elsewhere may write anything into it at any time: it is only ever read as
 * numbers that may be wrong. The
 * file can't be made smaller (sealed), so touching it never fails. */
#ifndef QUIRE_ARCH_DOORBELL_H
#define QUIRE_ARCH_DOORBELL_H

#include "arch/compiler.h"

enum { DOORBELL_SIZE = 4096, DOORBELL_BELL = 4 /* offset of the futex */ };

struct doorbell {
  char *page; /* NULL before the first is opened; then it stays mapped, for who is about to ring */
  int fd;     /* in the table of the thread that opened it, never one of the lowest; 0: closed */
};

/* file: with a descriptor, if it can be had. 0 or a negative errno. It is zeros before. */
nodiscard int doorbell_open(struct doorbell *bell, bool file);
void doorbell_close(struct doorbell *bell);

/* In a forked child: it would ring at its parent's. */
void doorbell_forget(struct doorbell *bell);

/* As of sys_futex_*, for words that other processes may have mapped; timeout_ms < 0: none. */
void doorbell_wait(uint32_t *word, uint32_t value, int64_t timeout_ms);
void doorbell_wake(uint32_t *word);

#endif
