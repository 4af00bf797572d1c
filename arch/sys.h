/* The one contract with the kernel. Every system call that quire makes for memory, time or threads
 * goes through `sys`, a table of functions that tests replace (refusals, a fake clock, made-up
 * addresses).
 *
 * Conventions: addresses and lengths are multiples of the system page unless said otherwise;
 * results are 0 or a negative errno; the caller's errno is never touched; no function allocates
 * memory. All are thread safe and async-signal safe. */
#ifndef QUIRE_ARCH_SYS_H
#define QUIRE_ARCH_SYS_H

#include <sys/types.h>
#include <sys/uio.h>

#include "arch/compiler.h"

struct sys_ops {
  /* Reserves address space without access or commitment, at an address of the kernel's choice. */
  int (*reserve)(size_t length, void **out);
  /* Returns address space. */
  int (*unreserve)(void *p, size_t length);
  /* Makes a part of a reservation readable; reads give zeros. Not charged against overcommit. */
  int (*open_read)(void *p, size_t length);
  /* Makes it readable and writable; contents are zeros until written. May fail with -ENOMEM. */
  int (*open_write)(void *p, size_t length);
  /* Takes access away (guards); contents are lost to the caller until open_write. */
  int (*close)(void *p, size_t length);
  /* Gives memory back, keeps the address; the next access reads zeros. -EINVAL on locked memory. */
  int (*discard)(void *p, size_t length);
  /* Advises for or against hugepages. -EINVAL where the kernel has none. */
  int (*advise_huge)(void *p, size_t length, bool huge);
  /* Makes hugepages of what is resident now, in the caller's time (Linux 6.1). */
  int (*collapse)(void *p, size_t length);
  /* Makes pages present and writable in one call (Linux 5.14). */
  int (*populate)(void *p, size_t length);
  /* Moves page tables from one open range to another; the source stays open and reads zeros
   * (mremap with DONTUNMAP, Linux 5.7). A failure changes the target's contents at most, but for
   * -ENOTRECOVERABLE: the target is a reservation without access from now on. */
  int (*move)(void *from, void *to, size_t length);
  /* Puts a fresh private anonymous mapping over an open range: contents lost, neighbours merge. */
  int (*refresh)(void *p, size_t length);
  /* The same from the reserved hugetlb pool; 2 MiB units; -ENOMEM where the pool is empty.
   * -ENOTRECOVERABLE as above. */
  int (*refresh_hugetlb)(void *p, size_t length);
  /* Monotonic milliseconds, coarse. */
  uint64_t (*now_ms)(void);
  /* CPU time that this thread has used, in microseconds. */
  uint64_t (*thread_cpu_us)(void);
  /* Threads of the whole machine that run or would if a processor were free, the caller among them;
   * 0 where that can't be known. Opens a file. */
  unsigned (*runnable)(void);
  /* Gives the processor up for some 50 microseconds; it may be more. */
  void (*rest)(void);
  /* Page faults that this thread has taken so far without I/O. */
  uint64_t (*minor_faults)(void);
  /* Fences the restartable sequences of all threads of the process: on return every sequence that
   * was under way has committed or will start again. -ENOSYS, -EPERM where it can't. */
  int (*rseq_fence)(void);
};

extern const struct sys_ops *sys; /* the kernel's, unless a test put its own here */
extern const struct sys_ops sys_linux;

size_t sys_page_size(void);             /* bytes: 4, 16 or 64 KiB */
void sys_set_page_size(size_t bytes);   /* tests only; 0 asks the kernel again */
uint64_t sys_physical_memory(void);     /* bytes of RAM */
uint64_t sys_address_space_limit(void); /* RLIMIT_AS in bytes, UINT64_MAX when unlimited */
int sys_cpu_count(void);                /* processors that this process may run on, at least 1 */
pid_t sys_thread_id(void);

/* Discards n >= 1 ranges; results[i] is what sys->discard gives for the i-th. */
void sys_discard_batch(const struct iovec *ranges, unsigned n, int *results);

/* This thread may use process_madvise for a batch: one call where it would be n. Others never do,
 * since the program may have sandboxed itself and not expect it. */
void sys_allow_batches(bool allow);

void sys_futex_wait(uint32_t *word, uint32_t value);
void sys_futex_wait_for(uint32_t *word, uint32_t value, uint64_t timeout_ms);
void sys_futex_wake(uint32_t *word, int count);

/* Reads this process's own memory where it may be unmapped; false when it is. */
bool sys_probe_read(const void *from, void *to, size_t length);

/* This thread has a descriptor table of its own (arch/loop.h). */
void sys_set_own_descriptors(void);
bool sys_has_own_descriptors(void);

/* A duplicate, in this thread's table, of what the process has under a number; negative errno. */
int sys_process_descriptor(int fd);

/* Writes all of it to a descriptor of the process (the main thread's, if this one has its own
 * table), retrying on EINTR and short writes; errors are dropped. */
void sys_write_all(int fd, const char *text, size_t length);

/* Last words: like snprintf for messages from places where stdio may not be used. Knows %s %d %u
 * %zu %lx %p and %%; returns the length, at most size - 1; always terminates. */
size_t sys_format(char *out, size_t size, const char *format, ...) printf_like(3, 4);

#endif
