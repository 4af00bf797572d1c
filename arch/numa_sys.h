/* What the division of the heap by nodes of memory (NUMA) asks of the kernel.
 *
 * All of it is reached through `numa_sys`, which tests replace as they do `sys`; conventions are
 * those of sys.h: 0 or a negative errno, errno untouched, nothing allocated. Nodes are the kernel's
 * numbers here. */
#ifndef QUIRE_ARCH_NUMA_SYS_H
#define QUIRE_ARCH_NUMA_SYS_H

#include "arch/compiler.h"

enum { OS_NODE_NONE = -1 };

struct numa_moved {
  size_t there;   /* system pages of the range that lie on the node now */
  size_t refused; /* that lie elsewhere: pinned, shared, or no memory left there */
};

struct numa_sys_ops {
  /* The machine's list of nodes ("0-1,3"), a terminated text: its length or a negative errno. Has a
   * descriptor for a moment. */
  int (*online)(char *out, size_t size);
  /* The processor that this thread runs on, which may be another one on return; -1: not known. */
  int (*cpu)(void);
  /* Does the process leave it to the kernel where memory comes from? Then that is the node of
   * whoever touches it first. */
  bool (*is_local)(void);
  /* Where this thread's memory is to come from, if there is any; OS_NODE_NONE: from where it runs.
   */
  int (*prefer)(int os_node);
  /* Migrates what is resident of a range to a node, at most 2 MiB at a time. A failure may have
   * moved some of it. */
  int (*move)(void *p, size_t length, int os_node, struct numa_moved *out);
};

extern const struct numa_sys_ops *numa_sys; /* the kernel's, unless a test put its own here */
extern const struct numa_sys_ops numa_sys_linux;

#endif
