/* Nodes of memory, as far as a process is concerned.
 *
 * Theory. A heap that is small enough to have no background thread isn't worth dividing. That
 * thread looks once, before anything else: does the kernel list several nodes (one small file)?
 * Only then hwloc is loaded and asked, in a thread that the program doesn't know, with descriptors
 * of its own, holding no lock of quire's, since it allocates. What it says is kept as a table, and
 * hwloc is let go.
 *
 *   not looked -> LOOKING -> looked: nodes_state() says what came of it
 *
 * Fork. The child of a fork in the midst of that would inherit a dynamic loader that somebody has
 * half changed. So looking and forking keep out of each other's way: whoever forks raises `forks`
 * and waits while somebody looks; who looks says so and gives up, for now, when a fork is under
 * way. A thread may fork while it holds the loader's lock itself (from a library's constructor),
 * and looking waits for that lock: the forking thread waits for a second at most. Then nothing is
 * half changed either; the child never looks.
 *
 * The heap is divided from one moment on, under `lock` (RANK_NODES), which a fork holds: it takes
 * and gives back as many locks as there are. What was allocated before stays node 0's. */
#include "alloc/nodes.h"

#include "alloc/options.h"
#include "alloc/tcache.h"
#include "arch/lock.h"
#include "arch/numa_sys.h"
#include "arch/sys.h"
#include "page/bring.h"
#include "page/frames.h"
#include "slab/bin.h"

enum {
  FORK_WAIT_MS = 1000,
  BRING_SHARE = 10, /* bringing takes at most one part in so many of a core */
  BRING_CREDIT_US = 20000,
};

static struct {
  struct lock lock;
  uint32_t forks;   /* that are under way */
  uint32_t looking; /* futex */
  bool looked;
  enum numa_state state;
} nodes = {.lock = LOCK_INIT(RANK_NODES)};

/* The background thread's own. */
static int64_t credit_us;
static uint64_t turned_at;

enum numa_state nodes_state(void) { return load_relaxed(&nodes.state); }
const enum numa_state *nodes_state_place(void) { return &nodes.state; }

static enum numa_state divide(const struct numa_topology *topology) {
  unsigned count = numa_nodes_of(topology);
  lock_acquire(&nodes.lock);
  bool ok = frames_open_nodes(count) && bin_open_nodes(count);
  if (ok) numa_publish(topology);
  lock_release(&nodes.lock);
  return ok ? NUMA_KNOWN : NUMA_NO_MEMORY;
}

static enum numa_state look(void) {
  static struct numa_topology topology;
  if (!numa_several()) return NUMA_ONE;
  if (options.numa == CHOICE_NUMA_OFF) return NUMA_OFF;
  if (!numa_sys->is_local()) return NUMA_POLICY;
  if (!sys_has_own_descriptors()) return NUMA_NO_LIBRARY;
  enum numa_state state = numa_ask_library(&topology);
  tcache_flush(); /* of what it allocated */
  return state == NUMA_KNOWN ? divide(&topology) : state;
}

void nodes_look(void) {
  if (likely(nodes.looked)) return;
  store_relaxed(&nodes.looking, 1);
  fence_seq_cst();
  if (load_relaxed(&nodes.forks) == 0) {
    nodes.looked = true;
    store_relaxed(&nodes.state, look());
  }
  store_release(&nodes.looking, 0);
  sys_futex_wake(&nodes.looking, INT32_MAX);
}

uint64_t nodes_turn(uint64_t now, bool may_call) {
  if (likely(!bring_pending()) || !may_call) return UINT64_MAX;
  uint64_t earned = (now - turned_at) * 1000 / BRING_SHARE;
  turned_at = now;
  credit_us += (int64_t)size_min(earned, BRING_CREDIT_US);
  if (credit_us > BRING_CREDIT_US) credit_us = BRING_CREDIT_US;
  bool more = true;
  while (more && credit_us > 0) {
    uint64_t began = sys->thread_cpu_us();
    more = bring_next();
    credit_us -= (int64_t)(sys->thread_cpu_us() - began) + 1;
  }
  return more ? (uint64_t)(1 - credit_us) * BRING_SHARE / 1000 + 1 : UINT64_MAX;
}

/* ---- fork ---- */

void nodes_before_fork(void) {
  (void)add_relaxed(&nodes.forks, 1);
  fence_seq_cst();
  uint64_t until = sys->now_ms() + FORK_WAIT_MS;
  while (load_acquire(&nodes.looking) != 0 && sys->now_ms() < until)
    sys_futex_wait_for(&nodes.looking, 1, FORK_WAIT_MS / 10);
  lock_acquire(&nodes.lock);
}

void nodes_after_fork_parent(void) {
  lock_release(&nodes.lock);
  (void)sub_relaxed(&nodes.forks, 1);
}

void nodes_after_fork_child(void) {
  nodes.forks = 0;
  nodes.looking = 0;
  credit_us = 0;
  turned_at = 0;
  lock_reset(&nodes.lock);
}

void nodes_fini(void) {
  nodes.looked = false;
  nodes.state = NUMA_UNKNOWN;
  credit_us = 0;
  turned_at = 0;
  bring_fini();
  numa_fini();
}
