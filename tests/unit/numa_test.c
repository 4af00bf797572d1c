/* What is found out about nodes of memory: the kernel's list, numbering of made-up machines, what
 * hwloc says of synthetic ones (through the real library, loaded as it is in a program), and how
 * looking and forking keep out of each other's way. */
#include "arch/numa.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc/nodes.h"
#include "alloc/options.h"
#include "arch/sys.h"
#include "slab/bin.h"
#include "tests/unit/check.h"
#include "tests/unit/fake_numa.h"

#define ARENA ((size_t)16 * HUGEPAGE_SIZE)

/* ---- the kernel's list ---- */

static bool several(const char *online) {
  fake_numa.online = online;
  return numa_several();
}

static void lists_are_read(void) {
  fake_numa_install();
  CU_ASSERT_FALSE(several(NULL));
  CU_ASSERT_FALSE(several(""));
  CU_ASSERT_FALSE(several("0\n"));
  CU_ASSERT_FALSE(several("17\n"));
  CU_ASSERT_TRUE(several("0-1\n"));
  CU_ASSERT_TRUE(several("0,8\n")); /* those between are offline */
  CU_ASSERT_TRUE(several("0-3,8,16-31\n"));
  fake_numa_remove();
}

static void this_kernel_has_a_list_or_none(void) {
  char text[256];
  int n = numa_sys_linux.online(text, sizeof text);
  CU_ASSERT(n < 0 || (n == (int)strlen(text) && text[0] >= '0' && text[0] <= '9'));
  int cpu = numa_sys_linux.cpu();
  CU_ASSERT(cpu >= 0 && cpu < CPUS_MAX);
}

/* ---- numbering ---- */

static unsigned node_on(int cpu) {
  fake_cpu = cpu;
  return numa_here();
}

static void one_node_is_no_division(void) {
  static const int machine[] = {0, 0, 0, 0, NO_CPU}, nothing[] = {NO_CPU};
  fake_numa_install();
  CU_ASSERT_FALSE(numa_on());
  CU_ASSERT_EQUAL(node_on(2), NODE_UNKNOWN);
  fake_numa_divide(machine);
  CU_ASSERT_FALSE(numa_on());
  CU_ASSERT_EQUAL(numa.count, 1);
  CU_ASSERT_EQUAL(node_on(2), NODE_UNKNOWN);
  fake_numa_divide(nothing);
  CU_ASSERT_EQUAL(numa.count, 1);
  nodes_over();
}

static void two_nodes(void) {
  static const int machine[] = {0, 1, 0, 1, NO_CPU};
  nodes_begin(ARENA, true, machine);
  CU_ASSERT_EQUAL(numa.count, 3);
  CU_ASSERT_EQUAL(node_on(0), 1);
  CU_ASSERT_EQUAL(node_on(1), 2);
  CU_ASSERT_EQUAL(node_on(2), 1);
  CU_ASSERT_EQUAL(node_on(3), 2);
  CU_ASSERT_EQUAL(numa.os_node[1], 0);
  CU_ASSERT_EQUAL(numa.os_node[2], 1);
  nodes_end();
}

/* Node 3 is offline, nodes 0 and 8 have no processors, processor 4 is offline, and the rest are
 * spread as they come. */
static void asymmetrical_machines(void) {
  static const int machine[] = {9, 1, 1, 5, -1, 5, 5, 2, NO_CPU};
  nodes_begin(ARENA, true, machine);
  CU_ASSERT_EQUAL(numa.count, 5);
  static const unsigned expected[] = {4, 1, 1, 3, NODE_UNKNOWN, 3, 3, 2};
  for (int cpu = 0; cpu < 8; cpu++) CU_ASSERT_EQUAL(node_on(cpu), expected[cpu]);
  CU_ASSERT_EQUAL(numa.os_node[1], 1);
  CU_ASSERT_EQUAL(numa.os_node[2], 2);
  CU_ASSERT_EQUAL(numa.os_node[3], 5);
  CU_ASSERT_EQUAL(numa.os_node[4], 9);
  /* One that came later, one beyond all tables, and not known. */
  CU_ASSERT_EQUAL(node_on(8), NODE_UNKNOWN);
  CU_ASSERT_EQUAL(node_on(CPUS_MAX), NODE_UNKNOWN);
  CU_ASSERT_EQUAL(node_on(-1), NODE_UNKNOWN);
  nodes_end();
}

static void more_nodes_than_places(void) {
  static int machine[CPUS_MAX + 1];
  for (int cpu = 0; cpu < 60; cpu++) machine[cpu] = 59 - cpu;
  machine[60] = NO_CPU;
  nodes_begin(ARENA, true, machine);
  CU_ASSERT_EQUAL(numa.count, NODES_MAX);
  CU_ASSERT_EQUAL(node_on(59), 1);
  CU_ASSERT_EQUAL(node_on(59 - (NODES_MAX - 2)), NODES_MAX - 1);
  CU_ASSERT_EQUAL(node_on(0), NODE_UNKNOWN);
  nodes_end();
}

/* ---- hwloc ---- */

static struct numa_topology topology;

static bool have_hwloc(void) {
  void *library = dlopen("libhwloc.so.15", RTLD_LAZY);
  if (library != NULL) dlclose(library);
  if (library == NULL) unit_skip("there is no libhwloc.so.15");
#if defined QUIRE_HWLOC && !QUIRE_HWLOC
  unit_skip("built without hwloc.h");
  return false;
#endif
  return library != NULL;
}

/* What hwloc says when it is told to describe this machine. */
static enum numa_state ask(const char *synthetic, bool as_this_system) {
  setenv("HWLOC_SYNTHETIC", synthetic, 1);
  setenv("HWLOC_THISSYSTEM", as_this_system ? "1" : "0", 1);
  enum numa_state state = numa_ask_library(&topology);
  unsetenv("HWLOC_SYNTHETIC");
  unsetenv("HWLOC_THISSYSTEM");
  return state;
}

static bool is_mapped(const char *name) {
  char line[512];
  bool found = false;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
    found = found || strstr(line, name) != NULL;
  if (maps != NULL) fclose(maps);
  return found;
}

static bool nodes_are(const int *expected) {
  unsigned cpu = 0;
  for (; expected[cpu] != NO_CPU; cpu++)
    if (topology.os_node_of_cpu[cpu] != expected[cpu]) return false;
  return topology.os_node_of_cpu[cpu] == OS_NODE_NONE;
}

static void hwloc_knows_two_nodes(void) {
  static const int expected[] = {0, 0, 1, 1, NO_CPU};
  if (!have_hwloc()) return;
  CU_ASSERT_EQUAL(ask("node:2 pu:2", true), NUMA_KNOWN);
  CU_ASSERT_TRUE(nodes_are(expected));
  CU_ASSERT_EQUAL(numa_nodes_of(&topology), 3);
  CU_ASSERT_FALSE(is_mapped("libhwloc")); /* it was let go */
}

static void hwloc_knows_four_nodes(void) {
  static const int expected[] = {3, 3, 2, 2, 1, 1, 0, 0, NO_CPU};
  if (!have_hwloc()) return;
  CU_ASSERT_EQUAL(ask("package:2 node:2(indexes=3,2,1,0) core:2 pu:1", true), NUMA_KNOWN);
  CU_ASSERT_TRUE(nodes_are(expected));
  CU_ASSERT_EQUAL(numa_nodes_of(&topology), 5);
}

/* High bandwidth memory beside each, or memory far away that all share. */
static void the_ordinary_node_counts(void) {
  static const int beside[] = {0, 0, 2, 2, NO_CPU}, shared[] = {0, 0, 1, 1, NO_CPU};
  if (!have_hwloc()) return;
  CU_ASSERT_EQUAL(ask("package:2 [numa] [numa] pu:2", true), NUMA_KNOWN);
  CU_ASSERT_TRUE(nodes_are(beside));
  CU_ASSERT_EQUAL(numa_nodes_of(&topology), 3);
  CU_ASSERT_EQUAL(ask("[numa] package:2 [numa] pu:2", true), NUMA_KNOWN);
  CU_ASSERT_TRUE(nodes_are(shared));
  CU_ASSERT_EQUAL(numa_nodes_of(&topology), 3);
}

static void one_node_is_not_several(void) {
  if (!have_hwloc()) return;
  CU_ASSERT_EQUAL(ask("node:1 pu:4", true), NUMA_NO_TOPOLOGY);
}

static void other_machines_do_not_count(void) {
  if (!have_hwloc()) return;
  CU_ASSERT_EQUAL(ask("node:2 pu:2", false), NUMA_NO_TOPOLOGY);
}

/* ---- looking ---- */

static void *look_thread(void *own_descriptors) {
  if (own_descriptors != NULL) sys_set_own_descriptors();
  nodes_look();
  return NULL;
}

/* In a thread that is, or is not, one of quire's own. */
static enum numa_state look(bool own) {
  pthread_t thread;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, look_thread, own ? &topology : NULL), 0);
  pthread_join(thread, NULL);
  return nodes_state();
}

static void begin(const char *online) {
  heap_begin(ARENA, true);
  fake_numa_install();
  fake_numa.online = online;
  options.numa = CHOICE_NUMA_AUTO;
}

static void end(void) {
  heap_end();
  nodes_fini();
  fake_numa_remove();
  options.numa = CHOICE_NUMA_AUTO;
}

static void looks_once(void) {
  begin("0\n");
  CU_ASSERT_EQUAL(nodes_state(), NUMA_UNKNOWN);
  CU_ASSERT_EQUAL(look(true), NUMA_ONE);
  fake_numa.online = "0-1\n";
  CU_ASSERT_EQUAL(look(true), NUMA_ONE);
  CU_ASSERT_EQUAL(fake_numa.looked, 1);
  CU_ASSERT_FALSE(numa_on());
  end();
}

static void says_why_not(void) {
  begin("0-1\n");
  options.numa = CHOICE_NUMA_OFF;
  CU_ASSERT_EQUAL(look(true), NUMA_OFF);
  end();
  begin("0-1\n");
  fake_numa.policy = true;
  CU_ASSERT_EQUAL(look(true), NUMA_POLICY);
  end();
  begin("0-1\n"); /* it would open files among the program's */
  CU_ASSERT_EQUAL(look(false), NUMA_NO_LIBRARY);
  CU_ASSERT_FALSE(numa_on());
  end();
}

static void divides_by_what_hwloc_says(void) {
  if (!have_hwloc()) return;
  begin("0-1\n");
  setenv("HWLOC_SYNTHETIC", "node:2 pu:1", 1);
  setenv("HWLOC_THISSYSTEM", "1", 1);
  CU_ASSERT_EQUAL(look(true), NUMA_KNOWN);
  CU_ASSERT_EQUAL(numa.count, 3);
  CU_ASSERT_EQUAL(node_on(0), 1);
  CU_ASSERT_EQUAL(node_on(1), 2);
  end();
  begin("0-1\n");
  fake.refuse[FAKE_RESERVE] = -12;
  CU_ASSERT_EQUAL(look(true), NUMA_NO_MEMORY);
  CU_ASSERT_FALSE(numa_on());
  fake.refuse[FAKE_RESERVE] = 0;
  end();
  unsetenv("HWLOC_SYNTHETIC");
  unsetenv("HWLOC_THISSYSTEM");
}

/* ---- forks ---- */

static void no_look_while_somebody_forks(void) {
  begin("0\n");
  nodes_before_fork();
  CU_ASSERT_EQUAL(look(true), NUMA_UNKNOWN);
  CU_ASSERT_EQUAL(fake_numa.looked, 0);
  nodes_after_fork_parent();
  CU_ASSERT_EQUAL(look(true), NUMA_ONE);
  end();
}

static uint32_t is_looking, has_looked;

static void look_slowly(void) {
  store_release(&is_looking, 1);
  for (int i = 0; i < 1000; i++) sched_yield();
  store_release(&has_looked, 1);
}

static void a_fork_waits_for_the_look(void) {
  pthread_t thread;
  begin("0\n"); /* its clock stands still: the fork has all the time it needs */
  is_looking = has_looked = 0;
  fake_numa.on_look = look_slowly;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, look_thread, &topology), 0);
  while (!load_acquire(&is_looking)) sched_yield();
  nodes_before_fork();
  CU_ASSERT_TRUE(load_acquire(&has_looked));
  nodes_after_fork_parent();
  pthread_join(thread, NULL);
  end();
}

static uint32_t forked;

static void look_until_somebody_forked(void) {
  store_release(&is_looking, 1);
  while (!load_acquire(&forked)) sched_yield();
}

/* Who is looking may wait for a lock that the forking thread holds. */
static void but_not_for_ever(void) {
  pthread_t thread;
  begin("0\n");
  fake.real_clock = true;
  is_looking = forked = 0;
  fake_numa.on_look = look_until_somebody_forked;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, look_thread, &topology), 0);
  while (!load_acquire(&is_looking)) sched_yield();
  nodes_before_fork();
  store_release(&forked, 1);
  nodes_after_fork_parent();
  pthread_join(thread, NULL);
  CU_ASSERT_EQUAL(nodes_state(), NUMA_ONE);
  end();
}

static const struct unit_test tests[] = {
    {"lists_are_read", lists_are_read},
    {"this_kernel_has_a_list_or_none", this_kernel_has_a_list_or_none},
    {"one_node_is_no_division", one_node_is_no_division},
    {"two_nodes", two_nodes},
    {"asymmetrical_machines", asymmetrical_machines},
    {"more_nodes_than_places", more_nodes_than_places},
    {"hwloc_knows_two_nodes", hwloc_knows_two_nodes},
    {"hwloc_knows_four_nodes", hwloc_knows_four_nodes},
    {"the_ordinary_node_counts", the_ordinary_node_counts},
    {"one_node_is_not_several", one_node_is_not_several},
    {"other_machines_do_not_count", other_machines_do_not_count},
    {"looks_once", looks_once},
    {"says_why_not", says_why_not},
    {"divides_by_what_hwloc_says", divides_by_what_hwloc_says},
    {"no_look_while_somebody_forks", no_look_while_somebody_forks},
    {"a_fork_waits_for_the_look", a_fork_waits_for_the_look},
    {"but_not_for_ever", but_not_for_ever},
    {0},
};

int main(void) { return unit_main("numa", tests); }
