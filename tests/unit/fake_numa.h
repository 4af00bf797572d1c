/* Machines of several nodes of memory, for unit tests: `numa_sys` without a kernel.
 *
 *   static const int machine[] = {0, 0, 1, 1, NO_CPU};   processors 0 and 1 on the kernel's node 0
 * ... nodes_begin(64 * HUGEPAGE_SIZE, true, machine);      heap_begin, and the heap is divided
 *   fake_cpu = 2;                                        this thread runs on processor 2
 *   ...
 *   nodes_end();
 */
#ifndef QUIRE_TESTS_UNIT_FAKE_NUMA_H
#define QUIRE_TESTS_UNIT_FAKE_NUMA_H

#include "arch/numa.h"
#include "arch/numa_sys.h"
#include "tests/unit/fake.h"

enum { NO_CPU = -2, FAKE_MOVES = 64 };

struct fake_move {
  char *p;
  size_t length;
  int os_node;
};

struct fake_numa {
  const char *online; /* what the kernel lists; NULL: it has no such file */
  unsigned looked;    /* how often it was asked that */
  bool policy;        /* the program has one of its own */
  int preferred;      /* of memory for the thread that asked last */
  unsigned prefers;
  int move_error;     /* negative errno of every move */
  size_t refuse;      /* pages of each that stay where they were, from the first */
  unsigned refuse_at; /* this move, from 1, fails with -ENOMEM; 0: none */
  unsigned nmoves;
  struct fake_move moves[FAKE_MOVES];
  void (*on_look)(void);                   /* called when the list is asked for */
  void (*on_move)(char *p, size_t length); /* before it is made */
};

extern struct fake_numa fake_numa;
extern _Thread_local int fake_cpu;

void fake_numa_install(void);
void fake_numa_remove(void);

/* The heap is divided from now on, by the kernel's node of each processor; -1: on none. */
void fake_numa_divide(const int *os_nodes);

void nodes_begin(size_t size, bool made_up, const int *os_nodes);

/* What nodes_begin has done beside heap_begin; for who has another heap. */
void nodes_over(void);
void nodes_end(void);

#endif
