/* Nodes of memory (NUMA): which one is near the processor that a thread runs on.
 *
 * Theory. Memory of another node is slower to reach, for as long as an object lives. So the heap is
 * divided: each hugepage belongs to a node, each slab to its hugepage's, and a thread is served
 * from its own. Who asks for a node's memory is who touches it first, mostly, and the kernel takes
 * it from there: no policy is set on the arena. (mbind would cost a mapping for each hugepage whose
 * neighbour is of another node, out of some 65,000, and override what numactl was told.)
 *
 * Nodes have quire's own numbers:
 *
 *   0        no node known: everything, as long as nobody has looked or there is but one; later
 * what was allocated before 1 ...    the machine's nodes that have processors, in the order of the
 * kernel's numbers
 *
 * States of what is known; it becomes KNOWN at most once and stays so:
 *
 *   UNKNOWN -> ONE, KNOWN, or one of the reasons against it
 *
 * hwloc says which processor is near which node. It is loaded (dlopen) only where the kernel lists
 * more than one node, never by a program's own thread, and let go again: alloc/nodes.c, the
 * background thread's. Everything is as on one node until then, and where it can't be had.
 *
 * Threads read `numa` without a lock: `count` is raised last, with release. */
#ifndef QUIRE_ARCH_NUMA_H
#define QUIRE_ARCH_NUMA_H

#include "arch/atomic.h"
#include "arch/compiler.h"

enum {
  NODE_UNKNOWN = 0,
  NODES_MAX = 33,  /* processors of further nodes are served from node 0 */
  CPUS_MAX = 4096, /* and so are further processors */
};

enum numa_state {
  NUMA_UNKNOWN,     /* nobody has looked */
  NUMA_ONE,         /* one node */
  NUMA_KNOWN,       /* several: the heap is divided by them */
  NUMA_OFF,         /* several, but not to be looked at */
  NUMA_NO_LIBRARY,  /* hwloc is not there, or may not be loaded here */
  NUMA_NO_TOPOLOGY, /* hwloc refuses, or what it knows is of another machine, or of one node */
  NUMA_POLICY,      /* the program was given a memory policy, and that counts */
  NUMA_NO_MEMORY,   /* for the lists by node */
};

/* What was found out: the kernel's node of each processor, OS_NODE_NONE for none. */
struct numa_topology {
  int16_t os_node_of_cpu[CPUS_MAX];
};

struct numa {
  uint32_t count; /* nodes by quire's numbers, 0 included: 1 until several are known */
  uint8_t node_of_cpu[CPUS_MAX];
  int16_t os_node[NODES_MAX]; /* the kernel's number */
};

extern struct numa numa;

/* Is the heap divided? One load of a word that hardly ever changes. */
static inline bool numa_on(void) { return unlikely(load_acquire(&numa.count) > 1); }

unsigned numa_node_here(void);

/* The node near the processor that this thread runs on. */
static inline unsigned numa_here(void) { return numa_on() ? numa_node_here() : NODE_UNKNOWN; }

/* Has this thread's memory come from that node, until it is called for another; NODE_UNKNOWN: from
 * where it runs. For threads of quire's own. */
void numa_prefer(unsigned node);

/* Does the kernel list more than one node? */
bool numa_several(void);

/* Nobody has a processor on any node. */
void numa_forget(struct numa_topology *topology);

/* Asks hwloc. KNOWN, NO_LIBRARY or NO_TOPOLOGY. Allocates memory, takes the dynamic loader's locks
 * and opens files: in a thread of quire's own that has its own descriptors. */
enum numa_state numa_ask_library(struct numa_topology *out);

/* As many as `numa.count` would become by it; 1 where it has fewer than two nodes. */
unsigned numa_nodes_of(const struct numa_topology *topology);

/* From now on the heap is divided. The caller has made room for that, and nobody forks. */
void numa_publish(const struct numa_topology *topology);

void numa_fini(void); /* tests: nothing is known again */

#endif
