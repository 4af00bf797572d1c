#include "tests/unit/fake_numa.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/sys.h"
#include "page/bring.h"
#include "slab/bin.h"

struct fake_numa fake_numa;
_Thread_local int fake_cpu;

static int fake_online(char *out, size_t size) {
  add_relaxed(&fake_numa.looked, 1);
  if (fake_numa.on_look != NULL) fake_numa.on_look();
  if (fake_numa.online == NULL) return -ENOENT;
  return snprintf(out, size, "%s", fake_numa.online);
}

static int fake_cpu_now(void) { return fake_cpu; }

static bool fake_is_local(void) { return !fake_numa.policy; }

static int fake_prefer(int os_node) {
  fake_numa.prefers++;
  fake_numa.preferred = os_node;
  return 0;
}

static int fake_move(void *p, size_t length, int os_node, struct numa_moved *out) {
  size_t pages = length / sys_page_size();
  *out = (struct numa_moved){0};
  if (fake_numa.nmoves < FAKE_MOVES)
    fake_numa.moves[fake_numa.nmoves] = (struct fake_move){p, length, os_node};
  fake_numa.nmoves++;
  if (fake_numa.on_move != NULL) fake_numa.on_move(p, length);
  if (fake_numa.move_error != 0) return fake_numa.move_error;
  if (fake_numa.nmoves == fake_numa.refuse_at) return -ENOMEM;
  out->refused = size_min(fake_numa.refuse, pages);
  out->there = pages - out->refused;
  return 0;
}

static const struct numa_sys_ops fake_ops = {
    .online = fake_online,
    .cpu = fake_cpu_now,
    .is_local = fake_is_local,
    .prefer = fake_prefer,
    .move = fake_move,
};

void fake_numa_install(void) {
  memset(&fake_numa, 0, sizeof fake_numa);
  fake_numa.online = "0\n";
  fake_numa.preferred = OS_NODE_NONE;
  fake_cpu = 0;
  numa_sys = &fake_ops;
}

void fake_numa_remove(void) { numa_sys = &numa_sys_linux; }

void fake_numa_divide(const int *os_nodes) {
  static struct numa_topology topology;
  numa_forget(&topology);
  for (unsigned cpu = 0; os_nodes[cpu] != NO_CPU; cpu++)
    topology.os_node_of_cpu[cpu] = (int16_t)os_nodes[cpu];
  unsigned count = numa_nodes_of(&topology);
  if (count > 1 && (!frames_open_nodes(count) || !bin_open_nodes(count))) {
    printf("FAIL fake_numa_divide: no memory for %u nodes\n", count);
    exit(1);
  }
  numa_publish(&topology);
}

void nodes_begin(size_t size, bool made_up, const int *os_nodes) {
  heap_begin(size, made_up);
  fake_numa_install();
  fake_numa_divide(os_nodes);
}

void nodes_over(void) {
  numa_fini();
  bring_fini();
  fake_numa_remove();
}

void nodes_end(void) {
  heap_end();
  nodes_over();
}
