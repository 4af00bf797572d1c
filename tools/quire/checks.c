/* The checks of quire doctor. What each gap costs is what docs/design.md and the allocator's own
 * sources say of it; how much it is worth (value) orders them: memory that can't be given back
 * first, then speed, then sight. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "alloc/options.h"
#include "tools/quire/cli.h"
#include "tools/quire/doctor.h"

enum {
  KERNEL_GOOD = 6012,
  KERNEL_RING = 6007,    /* io_uring can wait for a futex */
  KERNEL_PRIVATE = 5009, /* close_range with a table of its own */
  MAPPINGS_GOOD = 1048576,
  BIT_SYS_PTRACE = 19,
};

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static __attribute__((format(printf, 3, 4))) void say(char *out, size_t size, const char *format,
                                                      ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(out, size, format, args);
  va_end(args);
}

#define FOUND(f, ...) say((f)->found, sizeof(f)->found, __VA_ARGS__)
#define COST(f, ...) say((f)->cost, sizeof(f)->cost, __VA_ARGS__)
#define FIX(f, n, ...) say((f)->fix[n], FIX_LENGTH, __VA_ARGS__)

static void gap(struct finding *f, int value) {
  f->state = FINDING_GAP;
  f->value = value;
}

static void note(struct finding *f) { f->state = FINDING_NOTE; }

/* A file's first line without its end; "" without one. */
static void read_line(const char *path, char *out, size_t size) {
  FILE *f = fopen(path, "re");
  out[0] = 0;
  if (f != NULL && fgets(out, (int)size, f) != NULL) out[strcspn(out, "\n")] = 0;
  if (f != NULL) fclose(f);
}

/* "always [madvise] never": what stands in brackets. */
static void read_choice(const char *path, char *out, size_t size) {
  char line[256];
  read_line(path, line, sizeof line);
  char *from = strchr(line, '['), *to = strchr(line, ']');
  if (from != NULL && to != NULL && to > from)
    say(out, size, "%.*s", (int)(to - from - 1), from + 1);
  else
    say(out, size, "%s", line);
}

static unsigned kernel_version(void) {
  struct utsname name;
  unsigned major = 0, minor = 0;
  if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) return 0;
  return major * 1000 + minor;
}

static bool has_capability(const struct patient *p, unsigned bit) {
  return p->capabilities >> bit & 1;
}

/* The line of a unit file, by the command that opens it for editing. */
static void fix_unit(const struct patient *p, struct finding *f, unsigned n, const char *line) {
  if (p->unit[0] != 0)
    FIX(f, n, "systemctl edit %s: [Service] %s", p->unit, line);
  else
    FIX(f, n, "in a service's unit file: [Service] %s", line);
}

/* ---- memory that can be given back ---- */

static bool may_open_device(const struct patient *p) {
  struct stat st;
  if (stat("/dev/userfaultfd", &st) != 0) return false;
  if (p->uid == 0) return true;
  if (st.st_uid == p->uid && (st.st_mode & 0600) == 0600) return true;
  if ((st.st_mode & 0006) == 0006) return true;
  return p->pid == 0 && access("/dev/userfaultfd", R_OK | W_OK) == 0;
}

static void check_userfaultfd(const struct patient *p, struct finding *f) {
  uint64_t unprivileged = 0;
  bool device = access("/dev/userfaultfd", F_OK) == 0;
  f->name = "userfaultfd";
  if (p->runs_quire && p->report.numbers.stats.mesh_state == QUIRE_MESH_OPEN) {
    FOUND(f, "the process has it: meshing is open");
    return;
  }
  (void)kernel_number("/proc/sys/vm/unprivileged_userfaultfd", &unprivileged);
  if (p->uid == 0 || has_capability(p, BIT_SYS_PTRACE)) {
    FOUND(f, p->uid == 0 ? "permitted: it is root's" : "permitted: it has CAP_SYS_PTRACE");
    return;
  }
  if (unprivileged == 1) {
    FOUND(f, "permitted to all (vm.unprivileged_userfaultfd is 1)");
    return;
  }
  if (may_open_device(p)) {
    FOUND(f, "permitted: /dev/userfaultfd may be opened");
    return;
  }
  gap(f, 100);
  FOUND(f,
        "not permitted: user %u has neither CAP_SYS_PTRACE nor the right to open "
        "/dev/userfaultfd%s",
        (unsigned)p->uid, device ? "" : ", which there is not");
  COST(f, "no meshing: sparse heaps keep frames in which little lives. Frames in which nothing "
          "lives are given back all the same.");
  unsigned n = 0;
  if (device) fix_unit(p, f, n++, "OpenFile=/dev/userfaultfd:userfaultfd");
  if (device) FIX(f, n++, "setfacl -m u:%u:rw /dev/userfaultfd", (unsigned)p->uid);
  fix_unit(p, f, n++, "AmbientCapabilities=CAP_SYS_PTRACE");
  FIX(f, n++, "sysctl -w vm.unprivileged_userfaultfd=1");
}

static void check_kernel(const struct patient *p, struct finding *f) {
  struct utsname name;
  unsigned version = kernel_version();
  bool forced = p->runs_quire && p->report.numbers.noptions > 8 &&
                p->report.numbers.stats.mesh_state == QUIRE_MESH_OPEN;
  f->name = "kernel";
  if (uname(&name) != 0) name.release[0] = 0;
  FOUND(f, "Linux %s", name.release);
  if (version >= KERNEL_GOOD) return;
  if (forced) {
    note(f);
    COST(f, "compact_force:on meshes on a kernel whose UFFDIO_MOVE has known defects");
    return;
  }
  gap(f, 95);
  COST(f, "no meshing before Linux 6.12: %s",
       version >= 6008 ? "UFFDIO_MOVE has known defects there" : "there is no UFFDIO_MOVE");
  FIX(f, 0, "a kernel from 6.12 on");
  if (version >= 6008) FIX(f, 1, "quire run --compact_force=on PROGRAM (at your own risk)");
}

static void check_seccomp(const struct patient *p, struct finding *f) {
  f->name = "seccomp";
  if (p->seccomp <= 0) {
    FOUND(f, p->seccomp == 0 ? "no filter on system calls" : "unknown");
    return;
  }
  gap(f, 90);
  FOUND(f, "a filter on its system calls (mode %d)", p->seccomp);
  COST(f, "no meshing: calls that whoever wrote the filter did not reckon with may end the "
          "process. Frames in which nothing lives are given back all the same.");
  FIX(f, 0, "a container: docker run --security-opt seccomp=unconfined ...");
  if (p->unit[0] != 0)
    FIX(f, 1, "systemctl edit %s: take SystemCallFilter= and what implies it out", p->unit);
}

static void check_mappings(const struct patient *p, struct finding *f) {
  uint64_t most = 0, used = p->runs_quire ? p->report.numbers.stats.mappings : 0;
  f->name = "max_map_count";
  if (!kernel_number("/proc/sys/vm/max_map_count", &most)) {
    FOUND(f, "vm.max_map_count is unknown");
    return;
  }
  FOUND(f, "vm.max_map_count is %llu%s", (unsigned long long)most,
        used > most / 4 ? ", and compaction is near its share of it" : "");
  if (most >= MAPPINGS_GOOD) return;
  gap(f, used > most / 4 ? 92 : 70);
  COST(f, "meshing maps frame by frame, and each lone one costs two mappings of these: heaps above "
          "some hundred MiB mesh in longer runs only, which gain less.");
  FIX(f, 0, "sysctl -w vm.max_map_count=%d", MAPPINGS_GOOD);
  FIX(f, 1, "echo vm.max_map_count=%d >/etc/sysctl.d/90-quire.conf", MAPPINGS_GOOD);
}

static void check_process(const struct patient *p, struct finding *f) {
  const struct snapshot_numbers *n = &p->report.numbers;
  char a[24];
  f->name = "background thread";
  if (n->stats.background) {
    FOUND(f, "it runs: thread %llu", (unsigned long long)n->background_tid);
    return;
  }
  uint64_t heap = n->stats.frames_used * 4096;
  note(f);
  FOUND(f, "none, with %s in use", cli_bytes(heap, a));
  COST(f, "memory goes back only when the program allocates or frees; there is no meshing, and "
          "nothing answers quire compact and quire purge");
  FIX(f, 0, "quire run --background=auto --background_threshold=0 PROGRAM");
}

/* ---- hugepages ---- */

static void check_thp(const struct patient *p, struct finding *f) {
  char enabled[32], defrag[32];
  f->name = "transparent hugepages";
  read_choice("/sys/kernel/mm/transparent_hugepage/enabled", enabled, sizeof enabled);
  read_choice("/sys/kernel/mm/transparent_hugepage/defrag", defrag, sizeof defrag);
  FOUND(f, "enabled: %s, defrag: %s", *enabled != 0 ? enabled : "not in this kernel", defrag);
  if (p->runs_quire && p->report.numbers.stats.huge_fallbacks + p->report.numbers.huge_stalls > 100)
    COST(f, "the process has been refused %llu hugepages, and %llu came late",
         (unsigned long long)p->report.numbers.stats.huge_fallbacks,
         (unsigned long long)p->report.numbers.huge_stalls);
  if (strcmp(enabled, "madvise") == 0 || strcmp(enabled, "always") == 0) return;
  gap(f, 60);
  COST(f, "no hugepages: more page faults and more misses of the TLB. User time of programs with "
          "large heaps was 5 to 10 %% lower with them.");
  FIX(f, 0, "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled");
}

/* ---- limits ---- */

static void check_address_space(const struct patient *p, struct finding *f) {
  uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  char a[24];
  f->name = "address space";
  if (p->address_space == UINT64_MAX) {
    FOUND(f, "not limited (RLIMIT_AS)");
    return;
  }
  FOUND(f, "limited to %s (RLIMIT_AS)", cli_bytes(p->address_space, a));
  if (p->address_space >= 17 * memory) return;
  gap(f, p->address_space < memory ? 65 : 20);
  COST(f, "the arena is smaller than 16 times the memory, and what does not fit in it fails%s",
       p->address_space < 4 * GIB ? "; meshing needs as much again for its view of the zone" : "");
  FIX(f, 0, "ulimit -v unlimited");
  fix_unit(p, f, 1, "LimitAS=infinity");
}

static void check_overcommit(const struct patient *p, struct finding *f) {
  uint64_t mode = 0;
  (void)p;
  f->name = "overcommit";
  if (!kernel_number("/proc/sys/vm/overcommit_memory", &mode)) mode = 0;
  FOUND(f, "vm.overcommit_memory is %llu", (unsigned long long)mode);
  if (mode != 2) return;
  note(f);
  COST(f, "quire opens its arena in steps, so only what is in use is charged; a fork of a large "
          "process may still be refused");
}

static void check_locked(const struct patient *p, struct finding *f) {
  char a[24];
  f->name = "locked memory";
  if (p->locked_memory == UINT64_MAX) {
    FOUND(f, "not limited (RLIMIT_MEMLOCK)");
    return;
  }
  FOUND(f, "limited to %s (RLIMIT_MEMLOCK)", cli_bytes(p->locked_memory, a));
  if (p->locked_memory < 64 * MIB && (kernel_version() < 5012)) {
    note(f);
    COST(f, "before Linux 5.12 a ring of io_uring counts against it");
  }
}

/* ---- the background thread's means ---- */

static void check_ring(const struct patient *p, struct finding *f) {
  uint64_t disabled = 0;
  unsigned version = kernel_version();
  (void)kernel_number("/proc/sys/kernel/io_uring_disabled", &disabled);
  f->name = "io_uring";
  bool refused = disabled == 2 || (disabled == 1 && p->uid != 0);
  FOUND(f, "kernel.io_uring_disabled is %llu%s", (unsigned long long)disabled,
        version < KERNEL_RING ? ", and before Linux 6.7 it can't wait for a futex" : "");
  if (!refused && version >= KERNEL_RING) return;
  gap(f, 10);
  COST(f, "the background thread polls instead: while it has work it wakes once a second at least, "
          "and an idle process hears of memory pressure only once it works again");
  if (refused) FIX(f, 0, "sysctl -w kernel.io_uring_disabled=0");
}

static void check_pressure(const struct patient *p, struct finding *f) {
  char path[600], line[256];
  f->name = "memory pressure";
  say(path, sizeof path, "%s/memory.pressure", p->group);
  read_line(path, line, sizeof line);
  if (p->group[0] != 0 && line[0] != 0) {
    FOUND(f, "told by its control group");
    return;
  }
  read_line("/proc/pressure/memory", line, sizeof line);
  if (line[0] != 0) {
    FOUND(f, "told by the machine (/proc/pressure/memory)");
    return;
  }
  gap(f, 30);
  FOUND(f, "this kernel doesn't tell (no PSI)");
  COST(f, "free memory goes back after decay_ms only, not sooner when memory gets short");
  FIX(f, 0, "boot with psi=1 (a kernel with CONFIG_PSI)");
}

static void check_group(const struct patient *p, struct finding *f) {
  char a[24], b[24];
  f->name = "control group";
  if (!p->counted) {
    FOUND(f, "none that counts memory");
    return;
  }
  if (p->group_limit == UINT64_MAX) {
    FOUND(f, "%s used, no limit%s%s", cli_bytes(p->group_used, a), p->unit[0] != 0 ? ", unit " : "",
          p->unit);
    return;
  }
  FOUND(f, "%s of %s used", cli_bytes(p->group_used, a), cli_bytes(p->group_limit, b));
  if (p->group_used < p->group_limit / 10 * 9) return;
  note(f);
  COST(f, "its limit is near: memory is reclaimed by force, and the process may be killed");
  FIX(f, 0, "quire purge PID, quire compact PID");
}

/* ---- sight ---- */

static void check_ptrace(const struct patient *p, struct finding *f) {
  uint64_t scope = 0;
  (void)p;
  f->name = "reading from outside";
  (void)kernel_number("/proc/sys/kernel/yama/ptrace_scope", &scope);
  bool permitted = geteuid() == 0 || scope == 0;
  if (scope == 3) permitted = false;
  FOUND(f, "kernel.yama.ptrace_scope is %llu%s", (unsigned long long)scope,
        permitted ? "" : ": one's own processes may not be read");
  if (permitted) return;
  gap(f, 5);
  COST(f, "stat, map, top and export can't look into running processes");
  if (scope == 3) {
    FIX(f, 0, "start the machine anew with kernel.yama.ptrace_scope=1 or less");
    return;
  }
  FIX(f, 0, "sudo quire ...");
  if (scope == 1) FIX(f, 1, "sysctl -w kernel.yama.ptrace_scope=0");
}

/* ---- all ---- */

static int by_value(const void *a, const void *b) {
  const struct finding *x = a, *y = b;
  if (x->state != y->state) return (int)y->state - (int)x->state;
  return y->value - x->value;
}

unsigned doctor_check(const struct patient *p, struct finding findings[FINDINGS_MAX]) {
  static void (*const checks[])(const struct patient *, struct finding *) = {
      check_userfaultfd, check_kernel,        check_seccomp,    check_mappings,
      check_thp,         check_address_space, check_overcommit, check_locked,
      check_ring,        check_pressure,      check_group,      check_ptrace,
  };
  unsigned n = 0;
  memset(findings, 0, FINDINGS_MAX * sizeof findings[0]);
  for (; n < sizeof checks / sizeof checks[0]; n++) checks[n](p, &findings[n]);
  if (p->runs_quire) check_process(p, &findings[n++]);
  /* Equal values keep their order: the array is sorted by insertion. */
  for (unsigned i = 1; i < n; i++)
    for (unsigned j = i; j > 0 && by_value(&findings[j - 1], &findings[j]) > 0; j--) {
      struct finding swap = findings[j];
      findings[j] = findings[j - 1];
      findings[j - 1] = swap;
    }
  return n;
}
