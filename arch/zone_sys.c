#include "arch/zone_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

#include "arch/rawcall.h"
#include "arch/sys.h"

/* Values that older headers lack; they are the kernel's ABI. */
enum {
  MEMFD_NOEXEC_SEAL = 8,
  FEATURE_MOVE = 1 << 16,
  MOVE_ALLOW_HOLES = 2,
  REMAP_DONTUNMAP = 4,
  SHIFT_TRIES = 100, /* without any progress */
  HUGEPAGE = 2 << 20,
};

/* of /proc/PID/pagemap */
static const uint64_t PAGE_SWAPPED = (uint64_t)1 << 62, PAGE_PRESENT = (uint64_t)1 << 63;

struct move_request {
  uint64_t dst, src, len, mode;
  int64_t move;
};

#define IOCTL_MOVE _IOWR(UFFDIO, 0x05, struct move_request)
#define IOCTL_NEW_WATCH _IO(0xAA, 0x00) /* of /dev/userfaultfd */

static int call_ioctl(int fd, unsigned long request, void *argument) {
  return (int)raw_call3(SYS_ioctl, fd, (long)request, (long)argument);
}

static void linux_close(int descriptor) { (void)raw_call3(SYS_close, descriptor, 0, 0); }

static int linux_open(size_t size) {
  long fd = raw_call3(SYS_memfd_create, (long)"quire", MFD_CLOEXEC | MEMFD_NOEXEC_SEAL, 0);
  if (fd == -EINVAL) fd = raw_call3(SYS_memfd_create, (long)"quire", MFD_CLOEXEC, 0);
  if (fd < 0) return (int)fd;
  long err = raw_call3(SYS_ftruncate, fd, (long)size, 0);
  if (err != 0) linux_close((int)fd);
  return (int)(err != 0 ? err : fd);
}

static int map_zone(int zone, void *p, size_t length, uint64_t offset, int flags, void **out) {
  long r =
      raw_call6(SYS_mmap, (long)p, (long)length, PROT_READ | PROT_WRITE, flags, zone, (long)offset);
  if (r < 0 && r > -4096) return (int)r;
  *out = (void *)r;
  return 0;
}

static void unmap(const char *from, const char *to) {
  if (from < to) (void)raw_call3(SYS_munmap, (long)from, to - from, 0);
}

/* Where the file's hugepages can be mapped as such: at a multiple of their size, which the kernel
 * would choose only by accident. */
static int map_aligned(int zone, size_t size, void **out) {
  size_t room = size + HUGEPAGE;
  long r = raw_call6(SYS_mmap, 0, (long)room, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (r < 0 && r > -4096) return (int)r;
  char *p = (char *)r, *at = (char *)align_up((uintptr_t)p, HUGEPAGE);
  int err = map_zone(zone, at, size, 0, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, out);
  unmap(p, err != 0 ? p + room : at);
  if (err == 0) unmap(at + size, p + room);
  return err;
}

/* A forked child has no use for it, and a process that gets a copy of the address space behind
 * libc's back must not write into its parent's memory. */
static int linux_view(int zone, size_t size, void **out) {
  int err = map_aligned(zone, size, out);
  if (err != 0) return err;
  err = (int)raw_call3(SYS_madvise, (long)*out, (long)size, MADV_DONTFORK);
  /* A program that has all its future memory locked has it filled, too: that is no place for this.
   */
  unsigned char filled = 0;
  if (err == 0) err = (int)raw_call3(SYS_mincore, (long)*out + (long)size - 4096, 1, (long)&filled);
  if (err == 0 && (filled & 1) != 0) err = -EPERM;
  if (err != 0) (void)raw_call3(SYS_munmap, (long)*out, (long)size, 0);
  return err;
}

/* One call that needs no descriptor, and copies the flag that keeps children out: 4.3 us, where
 * mmap and madvise took 4.6. */
static int linux_share(void *view, void *p, size_t length) {
  long r =
      raw_call6(SYS_mremap, (long)view, 0, (long)length, MREMAP_MAYMOVE | MREMAP_FIXED, (long)p, 0);
  return r < 0 && r > -4096 ? (int)r : 0;
}

/* How often this thread has waited for something. */
static long sleeps(void) {
  struct rusage usage;
  return raw_call3(SYS_getrusage, RUSAGE_THREAD, (long)&usage, 0) == 0 ? usage.ru_nvcsw : 0;
}

/* Making a mapping and taking it away need the list for themselves, and nothing else that others
 * have for long. Where there may be no mapping more there is no share either. */
static bool linux_contended(void *view) {
  long before = sleeps();
  long r = raw_call6(SYS_mremap, (long)view, 0, 4096, MREMAP_MAYMOVE, 0, 0);
  if (r >= 0 || r <= -4096) (void)raw_call3(SYS_munmap, r, 4096, 0);
  return sleeps() != before;
}

static int linux_freeze(int zone, void *p, size_t length, uint64_t offset) {
  void *at;
  return map_zone(zone, p, length, offset, MAP_FIXED | MAP_NORESERVE | MAP_PRIVATE, &at);
}

static int linux_replace(void *from, void *to, size_t length) {
  long r = raw_call6(SYS_mremap, (long)from, (long)length, (long)length,
                     MREMAP_MAYMOVE | MREMAP_FIXED | REMAP_DONTUNMAP, (long)to, 0);
  return r < 0 && r > -4096 ? (int)r : 0;
}

static int linux_punch(int zone, uint64_t offset, size_t length) {
  return (int)raw_call6(SYS_fallocate, zone, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        (long)offset, (long)length, 0, 0);
}

/* A wrong number may name anything; only this device may be asked for a watch. Its number is given
 * out at boot, so it is compared with the device's own where that can be seen, else its class. */
static bool is_watch_device(int fd) {
  enum { MISC = 10 }; /* major number, for ever */
  struct stat st, own;
  if (raw_call3(SYS_fstat, fd, (long)&st, 0) != 0 || !S_ISCHR(st.st_mode)) return false;
  if (raw_call6(SYS_newfstatat, AT_FDCWD, (long)"/dev/userfaultfd", (long)&own, 0, 0, 0) == 0)
    return S_ISCHR(own.st_mode) && own.st_rdev == st.st_rdev;
  return major(st.st_rdev) == MISC;
}

/* Faults of the kernel on the program's behalf must be served too, or its system calls would fail:
 * so not with UFFD_USER_MODE_ONLY. */
static int linux_watch_open(enum watch_source source, int inherited) {
  struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_MOVE};
  long fd, device;
  switch (source) {
  case WATCH_CALL:
    fd = raw_call3(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0);
    break;
  case WATCH_DEVICE:
    device = raw_call6(SYS_openat, AT_FDCWD, (long)"/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0, 0, 0);
    if (device < 0) return (int)device;
    fd = raw_call3(SYS_ioctl, device, IOCTL_NEW_WATCH, O_CLOEXEC | O_NONBLOCK);
    linux_close((int)device);
    break;
  default: /* the process's, not this thread's */
    device = sys_process_descriptor(inherited);
    if (device < 0) return (int)device;
    if (!is_watch_device((int)device)) {
      linux_close((int)device);
      return -EBADF;
    }
    fd = raw_call3(SYS_ioctl, device, IOCTL_NEW_WATCH, O_CLOEXEC | O_NONBLOCK);
    linux_close((int)device);
    break;
  }
  if (fd < 0) return (int)fd;
  int err = call_ioctl((int)fd, UFFDIO_API, &api);
  if (err != 0) linux_close((int)fd);
  return err != 0 ? (err == -EINVAL ? -ENOSYS : err) : (int)fd;
}

static int linux_watch(int watch, void *p, size_t length) {
  struct uffdio_register r = {.range = {(uintptr_t)p, length},
                              .mode = UFFDIO_REGISTER_MODE_MISSING};
  return call_ioctl(watch, UFFDIO_REGISTER, &r);
}

static int linux_unwatch(int watch, void *p, size_t length) {
  struct uffdio_range r = {(uintptr_t)p, length};
  return call_ioctl(watch, UFFDIO_UNREGISTER, &r);
}

static int linux_wake(int watch, void *p, size_t length) {
  struct uffdio_range r = {(uintptr_t)p, length};
  return call_ioctl(watch, UFFDIO_WAKE, &r);
}

/* A page that the kernel is migrating makes it wait and try that page again. Since 6.18 (its pages
 * have been moved in batches since) what it moves then is not counted, and found at the destination
 * the next time round: the call ends with EEXIST, and more pages have gone than it says. Its count
 * is good for going on, then, and no basis for an undoing. */
static int linux_shift(int watch, void *from, void *to, size_t length) {
  size_t done = 0;
  for (int idle = 0; done < length; idle++) {
    struct move_request m = {.dst = (uintptr_t)to + done,
                             .src = (uintptr_t)from + done,
                             .len = length - done,
                             .mode = MOVE_ALLOW_HOLES};
    int err = call_ioctl(watch, IOCTL_MOVE, &m);
    if (err != -EAGAIN) return err;
    if (m.move > 0) {
      done += (size_t)m.move;
      idle = 0;
    }
    if (idle == SHIFT_TRIES) return -EBUSY;
  }
  return 0;
}

/* Unlike mincore this tells what is in swap, or on its way to another page, from nothing. */
static int linux_holds(const void *page) {
  uint64_t entry = 0;
  long fd =
      raw_call6(SYS_openat, AT_FDCWD, (long)"/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0, 0, 0);
  if (fd < 0) return (int)fd;
  long n = raw_call6(SYS_pread64, fd, (long)&entry, sizeof entry,
                     (long)((uintptr_t)page / sys_page_size() * sizeof entry), 0, 0);
  linux_close((int)fd);
  if (n != sizeof entry) return n < 0 ? (int)n : -EIO;
  return (entry & (PAGE_PRESENT | PAGE_SWAPPED)) != 0;
}

static size_t linux_max_mappings(void) {
  char text[32];
  size_t value = 0;
  long fd = raw_call6(SYS_openat, AT_FDCWD, (long)"/proc/sys/vm/max_map_count",
                      O_RDONLY | O_CLOEXEC, 0, 0, 0);
  if (fd < 0) return 65530;
  long n = raw_call3(SYS_read, fd, (long)text, sizeof text);
  linux_close((int)fd);
  for (long i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++)
    value = value * 10 + (size_t)(text[i] - '0');
  return value > 0 ? value : 65530;
}

/* ---- threads that wait ---- */

enum {
  CALL_FUTEX_WAITV = 449, /* numbers that all architectures share */
  CALL_FUTEX_WAIT = 455,
  LOCK_PI2 = 13,                /* FUTEX_LOCK_PI2 */
  PRIVATE = FUTEX_PRIVATE_FLAG, /* and in the flags of futex_wait */
};

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "202 0x7f12 0x80 ...": the number, then arguments; "running" has none. */
static bool parse_call(const char *text, long *number, uint64_t argument[4]) {
  if (*text < '0' || *text > '9') return false;
  for (*number = 0; *text >= '0' && *text <= '9'; text++) *number = *number * 10 + (*text - '0');
  for (int i = 0; i < 4; i++) {
    if (memcmp(text, " 0x", 3) != 0) return false;
    argument[i] = 0;
    for (text += 3; hex_digit(*text) >= 0; text++)
      argument[i] = argument[i] << 4 | (uint64_t)hex_digit(*text);
  }
  return true;
}

/* Does a thread in this system call wait at an address that is not private? */
static bool waits_openly(long number, const uint64_t argument[4]) {
  switch (number) {
  case SYS_futex:
    switch (argument[1] & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_WAIT_REQUEUE_PI:
    case LOCK_PI2:
      return (argument[1] & PRIVATE) == 0;
    default:
      return false;
    }
  case CALL_FUTEX_WAIT:
    return (argument[3] & PRIVATE) == 0;
  default:
    return false;
  }
}

/* What the thread is doing as the kernel tells it; false when it has ended or can't be read. */
static bool read_call(long directory, const char *tid, char text[160]) {
  char path[32];
  (void)sys_format(path, sizeof path, "%s/syscall", tid);
  long fd = raw_call6(SYS_openat, directory, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
  if (fd < 0) return false;
  long n = raw_call3(SYS_read, fd, (long)text, 159);
  linux_close((int)fd);
  if (n <= 0) return false;
  text[n] = 0;
  return true;
}

struct entry { /* of getdents64 */
  uint64_t inode, offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

static unsigned linux_waiters(uintptr_t *out, unsigned most) {
  char entries[2048] __attribute__((aligned(8))), text[160];
  unsigned count = 0;
  bool looked = false, hidden = false;
  uint64_t argument[4];
  long number, n;
  long directory = raw_call6(SYS_openat, AT_FDCWD, (long)"/proc/self/task",
                             O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
  if (directory < 0) return UINT_MAX;
  while ((n = raw_call3(SYS_getdents64, directory, (long)entries, sizeof entries)) > 0)
    for (long at = 0; at < n;) {
      const struct entry *e = (const struct entry *)(entries + at);
      at += e->length;
      if (e->name[0] == '.' || !read_call(directory, e->name, text)) continue;
      looked = true;
      if (!parse_call(text, &number, argument)) continue;
      hidden = hidden || number == CALL_FUTEX_WAITV; /* its list isn't told */
      if (!waits_openly(number, argument)) continue;
      if (count < most) out[count] = (uintptr_t)argument[0];
      count++;
    }
  linux_close((int)directory);
  return n < 0 || !looked || hidden ? UINT_MAX : count;
}

static unsigned linux_kernel(void) {
  struct utsname name;
  unsigned part[2] = {0, 0}, i = 0;
  if (raw_call3(SYS_uname, (long)&name, 0, 0) != 0) return 0;
  for (const char *c = name.release; *c != 0 && i < 2; c++) {
    if (*c >= '0' && *c <= '9')
      part[i] = part[i] * 10 + (unsigned)(*c - '0');
    else
      i++;
  }
  return part[0] * 1000 + part[1];
}

const struct zone_sys_ops zone_sys_linux = {
    .open = linux_open,
    .view = linux_view,
    .share = linux_share,
    .freeze = linux_freeze,
    .contended = linux_contended,
    .replace = linux_replace,
    .punch = linux_punch,
    .watch_open = linux_watch_open,
    .watch = linux_watch,
    .unwatch = linux_unwatch,
    .wake = linux_wake,
    .shift = linux_shift,
    .holds = linux_holds,
    .close = linux_close,
    .max_mappings = linux_max_mappings,
    .waiters = linux_waiters,
    .kernel = linux_kernel,
};

const struct zone_sys_ops *zone_sys = &zone_sys_linux;
