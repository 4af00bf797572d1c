/* Raw system calls: the allocator may run where libc's wrappers are interposed, not yet relocated,
 * or would disturb errno. Only vdso-backed clock_gettime goes through libc. */
#include "arch/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <stdarg.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "arch/atomic.h"
#include "arch/rawcall.h"

/* Values that older headers lack; they are the kernel's ABI. */
enum {
  ADVICE_POPULATE_WRITE = 23,
  ADVICE_COLLAPSE = 25,
  REMAP_DONTUNMAP = 4,
  CALL_PIDFD_OPEN = 434, /* numbers that all architectures share */
  CALL_PIDFD_GETFD = 438,
  CALL_PROCESS_MADVISE = 440,
  PIDFD_THIS_THREAD = -10000, /* as a pidfd (Linux 6.14) */
  REST_NS = 50000,
  BARRIER_PRIVATE_EXPEDITED_RSEQ = 1 << 7,
  BARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ = 1 << 8,
};

static int linux_map(void *p, size_t length, int prot, int flags, void **out) {
  long r =
      raw_call6(SYS_mmap, (long)p, (long)length, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (r < 0 && r > -4096) return (int)r;
  if (out != NULL) *out = (void *)r;
  return 0;
}

static int linux_advise(void *p, size_t length, int advice) {
  long r;
  do r = raw_call3(SYS_madvise, (long)p, (long)length, advice);
  while (r == -EINTR || r == -EAGAIN);
  return (int)r;
}

static int linux_protect(void *p, size_t length, int prot) {
  return (int)raw_call3(SYS_mprotect, (long)p, (long)length, prot);
}

static int linux_reserve(size_t length, void **out) {
  return linux_map(NULL, length, PROT_NONE, MAP_NORESERVE, out);
}

static int linux_unreserve(void *p, size_t length) {
  return (int)raw_call3(SYS_munmap, (long)p, (long)length, 0);
}

static int linux_open_read(void *p, size_t length) { return linux_protect(p, length, PROT_READ); }
static int linux_open_write(void *p, size_t length) {
  return linux_protect(p, length, PROT_READ | PROT_WRITE);
}
static int linux_close(void *p, size_t length) { return linux_protect(p, length, PROT_NONE); }
static int linux_discard(void *p, size_t length) { return linux_advise(p, length, MADV_DONTNEED); }
static int linux_advise_huge(void *p, size_t length, bool huge) {
  return linux_advise(p, length, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}
static int linux_collapse(void *p, size_t length) {
  return (int)raw_call3(SYS_madvise, (long)p, (long)length, ADVICE_COLLAPSE);
}
static int linux_populate(void *p, size_t length) {
  return (int)raw_call3(SYS_madvise, (long)p, (long)length, ADVICE_POPULATE_WRITE);
}

static int linux_refresh(void *p, size_t length) {
  return linux_map(p, length, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_NORESERVE, NULL);
}

/* mmap and mremap with a fixed target unmap what is there before they can fail, and then anybody's
 * mapping may fill the hole. So the range is mapped anew; its charge was just given back, but under
 * strict overcommit another process may have taken it by now: then the address range at least is
 * kept. */
static int linux_mend(void *p, size_t length, int err) {
  if (linux_refresh(p, length) == 0) return err;
  assert_always(linux_map(p, length, PROT_NONE, MAP_FIXED | MAP_NORESERVE, NULL) == 0);
  return -ENOTRECOVERABLE;
}

static int linux_move_onto(void *from, void *to, size_t length, int flags) {
  long r = raw_call6(SYS_mremap, (long)from, (long)length, (long)length,
                     MREMAP_MAYMOVE | MREMAP_FIXED | flags, (long)to, 0);
  return r < 0 && r > -4096 ? linux_mend(to, length, (int)r) : 0;
}

static int linux_move(void *from, void *to, size_t length) {
  return linux_move_onto(from, to, length, REMAP_DONTUNMAP);
}

/* Elsewhere first, so that an empty pool changes nothing here. */
static int linux_refresh_hugetlb(void *p, size_t length) {
  void *pages;
  int err = linux_map(NULL, length, PROT_READ | PROT_WRITE, MAP_HUGETLB | MAP_HUGE_2MB, &pages);
  if (err != 0) return err;
  err = linux_move_onto(pages, p, length, 0);
  if (err != 0) (void)linux_unreserve(pages, length);
  return err;
}

static uint64_t linux_now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t linux_thread_cpu_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* /proc/loadavg: three means, then "runnable/all". */
static unsigned linux_runnable(void) {
  char text[128];
  unsigned fields = 0, n = 0;
  long fd = raw_call6(SYS_openat, AT_FDCWD, (long)"/proc/loadavg", O_RDONLY | O_CLOEXEC, 0, 0, 0);
  if (fd < 0) return 0;
  long length = raw_call3(SYS_read, fd, (long)text, sizeof text);
  (void)raw_call3(SYS_close, fd, 0, 0);
  for (long i = 0; i < length && text[i] != '/'; i++) {
    fields += text[i] == ' ';
    if (fields == 3 && text[i] >= '0' && text[i] <= '9') n = n * 10 + (unsigned)(text[i] - '0');
  }
  return n;
}

/* By a futex: who may not sleep otherwise may do this, since locks wait so. */
static void linux_rest(void) {
  uint32_t word = 0;
  struct timespec t = {0, REST_NS};
  raw_call6(SYS_futex, (long)&word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, (long)&t, 0, 0);
}

static uint64_t linux_minor_faults(void) {
  struct rusage usage;
  if (raw_call3(SYS_getrusage, RUSAGE_THREAD, (long)&usage, 0) != 0) return 0;
  return (uint64_t)usage.ru_minflt;
}

static int linux_rseq_fence(void) {
  static uint32_t registered;
  if (!load_acquire(&registered)) {
    long r = raw_call3(SYS_membarrier, BARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0);
    if (r != 0) return (int)r;
    store_release(&registered, 1);
  }
  return (int)raw_call3(SYS_membarrier, BARRIER_PRIVATE_EXPEDITED_RSEQ, 0, 0);
}

const struct sys_ops sys_linux = {
    .reserve = linux_reserve,
    .unreserve = linux_unreserve,
    .open_read = linux_open_read,
    .open_write = linux_open_write,
    .close = linux_close,
    .discard = linux_discard,
    .advise_huge = linux_advise_huge,
    .collapse = linux_collapse,
    .populate = linux_populate,
    .move = linux_move,
    .refresh = linux_refresh,
    .refresh_hugetlb = linux_refresh_hugetlb,
    .now_ms = linux_now_ms,
    .thread_cpu_us = linux_thread_cpu_us,
    .runnable = linux_runnable,
    .rest = linux_rest,
    .minor_faults = linux_minor_faults,
    .rseq_fence = linux_rseq_fence,
};

const struct sys_ops *sys = &sys_linux;

static _Thread_local bool batches_allowed tls_initial_exec;

void sys_allow_batches(bool allow) { batches_allowed = allow; }

/* Holes of a page or a few, 64 at a time (Linux 6.18): 95 us by 64 calls, 34 us by one
 * process_madvise, and 345 us through io_uring, which hands every madvise to a worker thread of the
 * kernel. On one's own process it takes MADV_DONTNEED since Linux 6.13; it stops at the first
 * refusal, the rest goes one by one. */
void sys_discard_batch(const struct iovec *ranges, unsigned n, int *results) {
  unsigned i = 0;
  if (batches_allowed && n > 1 && sys == &sys_linux) {
    long done = raw_call6(CALL_PROCESS_MADVISE, PIDFD_THIS_THREAD, (long)ranges, (long)n,
                          MADV_DONTNEED, 0, 0);
    for (; i < n && done >= (long)ranges[i].iov_len; i++) {
      done -= (long)ranges[i].iov_len;
      results[i] = 0;
    }
  }
  for (; i < n; i++) results[i] = sys->discard(ranges[i].iov_base, ranges[i].iov_len);
}

static size_t page_size;

size_t sys_page_size(void) {
  size_t size = load_relaxed(&page_size);
  if (unlikely(size == 0)) {
    size = getauxval(AT_PAGESZ);
    store_relaxed(&page_size, size);
  }
  return size;
}

void sys_set_page_size(size_t bytes) { store_relaxed(&page_size, bytes); }

/* The kernel's struct sysinfo begins: uptime, loads[3], totalram, ... and has mem_unit after
 * totalhigh. */
uint64_t sys_physical_memory(void) {
  struct {
    long uptime;
    unsigned long loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
    unsigned short procs, pad;
    unsigned long totalhigh, freehigh;
    unsigned int mem_unit;
    char rest[64];
  } info;
  if (raw_call3(SYS_sysinfo, (long)&info, 0, 0) != 0) return (uint64_t)1 << 30;
  return (uint64_t)info.totalram * info.mem_unit;
}

uint64_t sys_address_space_limit(void) {
  struct {
    uint64_t soft, hard;
  } limit;
  if (raw_call6(SYS_prlimit64, 0, RLIMIT_AS, 0, (long)&limit, 0, 0) != 0) return UINT64_MAX;
  if (limit.soft == UINT64_MAX) return UINT64_MAX;
  return limit.soft;
}

int sys_cpu_count(void) {
  unsigned long mask[128] = {0};
  long bytes = raw_call3(SYS_sched_getaffinity, 0, sizeof mask, (long)mask);
  int count = 0;
  for (long i = 0; i < bytes / (long)sizeof mask[0]; i++) count += __builtin_popcountl(mask[i]);
  return count > 0 ? count : 1;
}

pid_t sys_thread_id(void) { return (pid_t)raw_call3(SYS_gettid, 0, 0, 0); }

void sys_futex_wait(uint32_t *word, uint32_t value) {
  raw_call6(SYS_futex, (long)word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, 0, 0, 0);
}

void sys_futex_wait_for(uint32_t *word, uint32_t value, uint64_t timeout_ms) {
  struct timespec t = {(time_t)(timeout_ms / 1000), (long)(timeout_ms % 1000) * 1000000};
  raw_call6(SYS_futex, (long)word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, (long)&t, 0, 0);
}

void sys_futex_wake(uint32_t *word, int count) {
  raw_call3(SYS_futex, (long)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count);
}

bool sys_probe_read(const void *from, void *to, size_t length) {
  struct iovec local = {to, length}, remote = {(void *)(uintptr_t)from, length};
  long pid = raw_call3(SYS_getpid, 0, 0, 0);
  return raw_call6(SYS_process_vm_readv, pid, (long)&local, 1, (long)&remote, 1, 0) == (long)length;
}

static _Thread_local bool own_descriptors tls_initial_exec;

void sys_set_own_descriptors(void) { own_descriptors = true; }
bool sys_has_own_descriptors(void) { return own_descriptors; }

int sys_process_descriptor(int fd) {
  long pidfd = raw_call3(CALL_PIDFD_OPEN, raw_call3(SYS_getpid, 0, 0, 0), 0, 0);
  if (pidfd < 0) return (int)pidfd;
  long own = raw_call3(CALL_PIDFD_GETFD, pidfd, fd, 0);
  (void)raw_call3(SYS_close, pidfd, 0, 0);
  return (int)own;
}

void sys_write_all(int fd, const char *text, size_t length) {
  bool own = own_descriptors;
  if (unlikely(own)) fd = sys_process_descriptor(fd);
  while (length > 0) {
    long n = raw_call3(SYS_write, fd, (long)text, (long)length);
    if (n == -EINTR) continue;
    if (n <= 0) break;
    text += n;
    length -= (size_t)n;
  }
  if (unlikely(own) && fd >= 0) (void)raw_call3(SYS_close, fd, 0, 0);
}

static char *put(char *at, char *end, const char *text, size_t length) {
  for (; length > 0 && at < end; length--) *at++ = *text++;
  return at;
}

static char *put_number(char *at, char *end, uint64_t value, unsigned base) {
  char digits[24];
  size_t n = sizeof digits;
  do digits[--n] = "0123456789abcdef"[value % base];
  while ((value /= base) != 0);
  return put(at, end, digits + n, sizeof digits - n);
}

size_t sys_format(char *out, size_t size, const char *format, ...) {
  va_list args;
  char *at = out, *end = out + size - 1;
  va_start(args, format);
  for (const char *f = format; *f != 0; f++) {
    if (*f != '%') {
      at = put(at, end, f, 1);
      continue;
    }
    bool wide = false;
    for (f++; *f == 'l' || *f == 'z'; f++) wide = true;
    switch (*f) {
    case 's': {
      const char *s = va_arg(args, const char *);
      at = put(at, end, s, strlen(s));
      break;
    }
    case 'd': {
      int64_t v = wide ? va_arg(args, long) : va_arg(args, int);
      if (v < 0) at = put(at, end, "-", 1);
      at = put_number(at, end, v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
      break;
    }
    case 'u':
      at = put_number(at, end, wide ? va_arg(args, unsigned long) : va_arg(args, unsigned), 10);
      break;
    case 'x':
      at = put_number(at, end, wide ? va_arg(args, unsigned long) : va_arg(args, unsigned), 16);
      break;
    case 'p':
      at = put(at, end, "0x", 2);
      at = put_number(at, end, (uintptr_t)va_arg(args, void *), 16);
      break;
    default:
      at = put(at, end, f, 1);
      break;
    }
  }
  va_end(args);
  *at = 0;
  return (size_t)(at - out);
}

_Noreturn void quire_bug(const char *file, int line, const char *what) {
  char text[256];
  size_t n =
      sys_format(text, sizeof text, "quire: internal error at %s:%d: %s\n", file, line, what);
  sys_write_all(2, text, n);
  __builtin_trap();
}
