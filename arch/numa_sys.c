#include "arch/numa_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#include "arch/rawcall.h"
#include "arch/sys.h"

enum {
  OS_NODES = 1024, /* as many as any kernel is built for */
  BITS = 64,       /* of a word of the kernel's masks */
  PAGES_MAX = 128, /* asked of the kernel in one call: their records are on the stack */
  LARGEST = 2 << 20,
};

static int linux_online(char *out, size_t size) {
  long fd = raw_call6(SYS_openat, AT_FDCWD, (long)"/sys/devices/system/node/online",
                      O_RDONLY | O_CLOEXEC, 0, 0, 0);
  if (fd < 0) return (int)fd;
  long n = raw_call3(SYS_read, fd, (long)out, (long)size - 1);
  (void)raw_call3(SYS_close, fd, 0, 0);
  out[n > 0 ? n : 0] = 0;
  return (int)n;
}

/* libc has it from the restartable sequences' area, or from the vdso: no system call. */
static int linux_cpu(void) {
  int saved = errno, cpu = sched_getcpu();
  errno = saved;
  return cpu;
}

/* Where the call is refused (containers do) nothing is known against it. */
static bool linux_is_local(void) {
  int mode = MPOL_DEFAULT;
  if (raw_call6(SYS_get_mempolicy, (long)&mode, 0, 0, 0, 0, 0) != 0) return true;
  return mode == MPOL_DEFAULT || mode == MPOL_LOCAL;
}

static int linux_prefer(int os_node) {
  unsigned long mask[OS_NODES / BITS] = {0};
  if (os_node < 0) return (int)raw_call3(SYS_set_mempolicy, MPOL_DEFAULT, 0, 0);
  if (os_node >= OS_NODES) return -EINVAL;
  mask[os_node / BITS] = 1ul << os_node % BITS;
  return (int)raw_call3(SYS_set_mempolicy, MPOL_PREFERRED, (long)mask, OS_NODES + 1);
}

/* Pages that are not there stay so: who touches them first gets them where it runs. */
static int move_some(char *p, unsigned n, int os_node, struct numa_moved *out) {
  void *pages[PAGES_MAX];
  int nodes[PAGES_MAX], status[PAGES_MAX];
  for (unsigned i = 0; i < n; i++) {
    pages[i] = p + i * sys_page_size();
    nodes[i] = os_node;
    status[i] = -EBUSY; /* the kernel leaves out those behind the first that it can't take on */
  }
  long err =
      raw_call6(SYS_move_pages, 0, (long)n, (long)pages, (long)nodes, (long)status, MPOL_MF_MOVE);
  if (err < 0) return (int)err;
  for (unsigned i = 0; i < n; i++) {
    bool nothing = status[i] == -ENOENT || status[i] == -EFAULT;
    out->there += status[i] == os_node;
    out->refused += status[i] != os_node && !nothing;
  }
  return 0;
}

static int linux_move(void *p, size_t length, int os_node, struct numa_moved *out) {
  size_t n = size_min(length, LARGEST) / sys_page_size();
  *out = (struct numa_moved){0};
  for (size_t at = 0; at < n; at += PAGES_MAX) {
    unsigned here = (unsigned)size_min(n - at, PAGES_MAX);
    int err = move_some((char *)p + at * sys_page_size(), here, os_node, out);
    if (err != 0) return err;
  }
  return 0;
}

const struct numa_sys_ops numa_sys_linux = {
    .online = linux_online,
    .cpu = linux_cpu,
    .is_local = linux_is_local,
    .prefer = linux_prefer,
    .move = linux_move,
};

const struct numa_sys_ops *numa_sys = &numa_sys_linux;
