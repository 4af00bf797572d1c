#include "arch/numa.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/auxv.h>

#include "arch/numa_sys.h"
#include "arch/sys.h"

#if QUIRE_HWLOC
#include <hwloc.h>
#endif

enum { OS_NODES_MAX = 1024 };

struct numa numa = {.count = 1};

static int preferred = OS_NODE_NONE; /* by the one thread that asks for it */

unsigned numa_node_here(void) {
  unsigned cpu = (unsigned)numa_sys->cpu();
  return cpu < CPUS_MAX ? load_relaxed(&numa.node_of_cpu[cpu]) : NODE_UNKNOWN;
}

void numa_prefer(unsigned node) {
  int want = node == NODE_UNKNOWN || !numa_on() ? OS_NODE_NONE : numa.os_node[node];
  if (likely(want == preferred)) return;
  (void)numa_sys->prefer(want); /* refused, it is no worse than before */
  preferred = want;
}

/* A list of one: "0\n". */
bool numa_several(void) {
  char text[256];
  if (numa_sys->online(text, sizeof text) <= 0) return false;
  return strpbrk(text, ",-") != NULL;
}

/* ---- numbering ---- */

void numa_forget(struct numa_topology *topology) {
  for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++) topology->os_node_of_cpu[cpu] = OS_NODE_NONE;
}

/* The next node that has processors, after one; OS_NODE_NONE: there is none. */
static int next_node(const struct numa_topology *topology, int after) {
  int next = OS_NODE_NONE;
  for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++) {
    int node = topology->os_node_of_cpu[cpu];
    if (node > after && (next == OS_NODE_NONE || node < next)) next = node;
  }
  return next;
}

unsigned numa_nodes_of(const struct numa_topology *topology) {
  unsigned n = 0;
  int node = OS_NODE_NONE;
  while (n < NODES_MAX - 1 && (node = next_node(topology, node)) != OS_NODE_NONE) n++;
  return n < 2 ? 1 : n + 1;
}

void numa_publish(const struct numa_topology *topology) {
  unsigned count = numa_nodes_of(topology);
  int node = OS_NODE_NONE;
  for (unsigned n = 1; n < count; n++) {
    node = next_node(topology, node);
    numa.os_node[n] = (int16_t)node;
    for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++)
      if (topology->os_node_of_cpu[cpu] == node) store_relaxed(&numa.node_of_cpu[cpu], (uint8_t)n);
  }
  store_release(&numa.count, count);
}

void numa_fini(void) {
  memset(&numa, 0, sizeof numa);
  numa.count = 1;
  preferred = OS_NODE_NONE;
}

/* ---- hwloc ---- */

#if QUIRE_HWLOC

/* In a static program there is no loader, or another libc's, and the linker is not to be made to
 * pull one in. */
#pragma weak dlopen
#pragma weak dlsym
#pragma weak dlclose

#define LIBRARY "libhwloc.so.15" /* versions 2.x */

/* Its functions by the prototypes of its header. */
#define CALLS(X)                                                                                   \
  X(get_api_version)                                                                               \
  X(topology_init)                                                                                 \
  X(topology_set_flags)                                                                            \
  X(topology_load)                                                                                 \
  X(topology_is_thissystem)                                                                        \
  X(topology_destroy)                                                                              \
  X(get_type_depth)                                                                                \
  X(get_obj_by_depth)                                                                              \
  X(bitmap_first)

struct library {
  void *handle;
#define MEMBER(name) typeof(hwloc_##name) *name;
  CALLS(MEMBER)
#undef MEMBER
};

/* hwloc takes directions from the environment, where to find code among them: not for programs that
 * run with rights that their caller has not. */
static bool may_load(void) {
  return dlopen != NULL && dlsym != NULL && dlclose != NULL && getauxval(AT_BASE) != 0 &&
         !getauxval(AT_SECURE);
}

static bool open_library(struct library *lib) {
  bool ok = may_load() && (lib->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL)) != NULL;
  if (!ok) return false;
#define FIND(name) ok = ok && (lib->name = (typeof(lib->name))dlsym(lib->handle, "hwloc_" #name));
  CALLS(FIND)
#undef FIND
  if (ok && lib->get_api_version() >> 16 == HWLOC_API_VERSION >> 16) return true;
  dlclose(lib->handle);
  return false;
}

/* Leaves the thread's binding alone, and finds out no more than what is asked. A library that is
 * older than the header doesn't know all of them. */
static void set_flags(const struct library *lib, hwloc_topology_t topology) {
  unsigned long flags = 0;
#if HWLOC_API_VERSION >= 0x00020500
  flags |= HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING;
#endif
#if HWLOC_API_VERSION >= 0x00020800
  flags |= HWLOC_TOPOLOGY_FLAG_NO_DISTANCES | HWLOC_TOPOLOGY_FLAG_NO_MEMATTRS |
           HWLOC_TOPOLOGY_FLAG_NO_CPUKINDS;
#endif
  if (lib->topology_set_flags(topology, flags) != 0) (void)lib->topology_set_flags(topology, 0);
}

/* A processor may be near several nodes: of ordinary memory and of others (high bandwidth, CXL).
 * The ordinary one has the lowest number: the kernel counts those with processors first. */
static void read_processors(const struct library *lib, hwloc_topology_t topology,
                            struct numa_topology *out) {
  int depth = lib->get_type_depth(topology, HWLOC_OBJ_PU);
  hwloc_obj_t pu;
  for (unsigned i = 0; (pu = lib->get_obj_by_depth(topology, depth, i)) != NULL; i++) {
    int node = pu->nodeset != NULL ? lib->bitmap_first(pu->nodeset) : -1;
    if (pu->os_index < CPUS_MAX && node >= 0 && node < OS_NODES_MAX)
      out->os_node_of_cpu[pu->os_index] = (int16_t)node;
  }
}

static bool read_topology(const struct library *lib, struct numa_topology *out) {
  hwloc_topology_t topology;
  numa_forget(out);
  if (lib->topology_init(&topology) != 0) return false;
  set_flags(lib, topology);
  bool ok = lib->topology_load(topology) == 0 && lib->topology_is_thissystem(topology);
  if (ok) read_processors(lib, topology, out);
  lib->topology_destroy(topology);
  return ok && numa_nodes_of(out) > 1;
}

enum numa_state numa_ask_library(struct numa_topology *out) {
  struct library lib;
  if (!open_library(&lib)) return NUMA_NO_LIBRARY;
  bool ok = read_topology(&lib, out);
  dlclose(lib.handle);
  return ok ? NUMA_KNOWN : NUMA_NO_TOPOLOGY;
}

#else

enum numa_state numa_ask_library(unused struct numa_topology *out) { return NUMA_NO_LIBRARY; }

#endif
