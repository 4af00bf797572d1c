#include "arch/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "arch/atomic.h"
#include "arch/rawcall.h"
#include "arch/sys.h"

#if QUIRE_URING
#include <liburing.h>
#endif

enum {
  CALL_CLOSE_RANGE = 436, /* the same number on all architectures */
  RANGE_UNSHARE = 2,
  POLL_SLICE_MS = 1000, /* ppoll doesn't see wakes, so it looks this often */
  PATH_LENGTH = 512,
};

const char *loop_kind_name(enum loop_kind kind) {
  static const char *const names[] = {"closed", "futex", "poll", "ring"};
  return names[kind];
}

/* ---- pressure files ---- */

static int open_file(const char *path, int flags) {
  return (int)raw_call6(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0, 0, 0);
}

static void close_file(int fd) { (void)raw_call3(SYS_close, fd, 0, 0); }

/* Stalls of 150 ms within 2 s: what the kernel grants without privilege. Negative if it doesn't. */
static int open_stalls(const char *path) {
  static const char trigger[] = "some 150000 2000000";
  int fd = open_file(path, O_RDWR | O_NONBLOCK);
  if (fd < 0) return -1;
  if (raw_call3(SYS_write, fd, (long)trigger, sizeof trigger) >= 0) return fd;
  close_file(fd);
  return -1;
}

/* A kernfs file's next poll reports changes since it was read last. */
static bool read_events(int fd) {
  char text[512];
  return raw_call6(SYS_pread64, fd, (long)text, sizeof text, 0, 0, 0) > 0;
}

static int open_events(const char *path) {
  int fd = open_file(path, O_RDONLY);
  if (fd < 0) return -1;
  if (read_events(fd)) return fd;
  close_file(fd);
  return -1;
}

/* The path of this process's control group (version 2) in the hierarchy: "0::/a/b" gives "/a/b". */
static bool own_group(char *out, size_t size) {
  char text[2048];
  int fd = open_file("/proc/self/cgroup", O_RDONLY);
  if (fd < 0) return false;
  long n = raw_call3(SYS_read, fd, (long)text, sizeof text - 1);
  close_file(fd);
  if (n <= 0) return false;
  text[n] = 0;
  char *at = strstr(text, "0::/");
  if (at == NULL || (at != text && at[-1] != '\n')) return false;
  at += 3;
  size_t length = strcspn(at, "\n");
  if (length >= size) return false;
  memcpy(out, at, length);
  out[length] = 0;
  return true;
}

static int open_in_group(const char *group, const char *name, int (*open)(const char *path)) {
  static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
  char path[PATH_LENGTH];
  int fd = -1;
  for (unsigned i = 0; i < array_size(mounts) && fd < 0; i++) {
    sys_format(path, sizeof path, "%s%s/%s", mounts[i], group, name);
    fd = open(path);
  }
  return fd;
}

/* The group's pressure is closer to this program's than the machine's; not every system has either.
 */
static bool open_sources(struct loop *loop) {
  char group[PATH_LENGTH / 2];
  int stalls = -1, events = -1;
  if (own_group(group, sizeof group)) {
    stalls = open_in_group(group, "memory.pressure", open_stalls);
    events = open_in_group(group, "memory.events", open_events);
  }
  if (stalls < 0) stalls = open_stalls("/proc/pressure/memory");
  loop->source[LOOP_STALLS] = stalls;
  loop->source[LOOP_EVENTS] = events;
  return stalls >= 0 || events >= 0;
}

static void close_source(struct loop *loop, unsigned i) {
  if (loop->source[i] >= 0) close_file(loop->source[i]);
  loop->source[i] = -1;
}

/* What a poll of source i says. One that is broken (its group is gone) would say so for ever:
 * closed. */
static unsigned source_event(struct loop *loop, unsigned i, int revents) {
  bool broken =
      revents < 0 || (revents & POLLPRI) == 0 || (i == LOOP_STALLS && (revents & POLLERR));
  if (broken || (i == LOOP_EVENTS && !read_events(loop->source[i]))) {
    close_source(loop, i);
    return 0;
  }
  return LOOP_PRESSURE;
}

static bool have_sources(const struct loop *loop) {
  bool have = false;
  for (unsigned i = 0; i < LOOP_SOURCES; i++) have = have || loop->source[i] >= 0;
  return have;
}

/* ---- the ring ---- */

#if QUIRE_URING

enum {
  RING_ENTRIES = 8,
  OP_FUTEX_WAIT = 51, /* Linux 6.7; older headers lack it, and these two */
  FUTEX_WORD = 2,
  FUTEX_WORD_PRIVATE = 2 | 128,
  TAG_FUTEX = LOOP_SOURCES, /* tags below are sources */
};

_Static_assert(sizeof(struct io_uring) <= sizeof((struct loop *)0)->ring, "the ring fits");

static struct io_uring *ring_of(struct loop *loop) { return (struct io_uring *)loop->ring; }

static bool ring_open(struct loop *loop) {
  struct io_uring *ring = ring_of(loop);
  if (io_uring_queue_init(RING_ENTRIES, ring, 0) != 0) return false;
  /* A forked child must not have the ring's memory either. */
  if (io_uring_ring_dontfork(ring) == 0) return true;
  io_uring_queue_exit(ring);
  return false;
}

static void ring_close(struct loop *loop) {
  io_uring_queue_exit(ring_of(loop));
  loop->futex_armed = false;
  memset(loop->armed, 0, sizeof loop->armed);
}

static void ring_arm(struct loop *loop, bool watch) {
  struct io_uring *ring = ring_of(loop);
  struct io_uring_sqe *sqe;
  if (!loop->futex_armed && (sqe = io_uring_get_sqe(ring)) != NULL) {
    if (loop->bell != NULL)
      io_uring_prep_rw(OP_FUTEX_WAIT, sqe, FUTEX_WORD, loop->bell, 0, loop->rung);
    else
      io_uring_prep_rw(OP_FUTEX_WAIT, sqe, FUTEX_WORD_PRIVATE, &loop->wakes, 0, loop->seen);
    sqe->addr3 = UINT32_MAX;
    io_uring_sqe_set_data64(sqe, TAG_FUTEX);
    loop->futex_armed = true;
  }
  for (unsigned i = 0; i < LOOP_SOURCES && watch; i++) {
    if (loop->source[i] < 0 || loop->armed[i] || (sqe = io_uring_get_sqe(ring)) == NULL) continue;
    io_uring_prep_poll_add(sqe, loop->source[i], POLLPRI);
    io_uring_sqe_set_data64(sqe, i);
    loop->armed[i] = true;
  }
}

static unsigned ring_complete(struct loop *loop, bool *usable) {
  struct io_uring_cqe *cqe;
  unsigned head, n = 0, events = 0;
  io_uring_for_each_cqe(ring_of(loop), head, cqe) {
    uint64_t tag = io_uring_cqe_get_data64(cqe);
    n++;
    if (tag == TAG_FUTEX) {
      loop->futex_armed = false;
      if (cqe->res != 0 && cqe->res != -EAGAIN && cqe->res != -EINTR) *usable = false;
    } else if (tag < LOOP_SOURCES) {
      loop->armed[tag] = false;
      events |= source_event(loop, (unsigned)tag, cqe->res);
    }
  }
  io_uring_cq_advance(ring_of(loop), n);
  return events;
}

/* *usable turns false where the kernel's io_uring knows no futex, or has been refused since. */
static unsigned ring_wait(struct loop *loop, int64_t timeout_ms, bool watch, bool *usable) {
  struct __kernel_timespec t = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
  struct io_uring_cqe *cqe;
  ring_arm(loop, watch);
  int r =
      io_uring_submit_and_wait_timeout(ring_of(loop), &cqe, 1, timeout_ms < 0 ? NULL : &t, NULL);
  *usable = r >= 0 || r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY;
  return ring_complete(loop, usable);
}

#else

static bool ring_open(unused struct loop *loop) { return false; }
static void ring_close(unused struct loop *loop) {}
static unsigned ring_wait(unused struct loop *loop, unused int64_t timeout_ms, unused bool watch,
                          bool *usable) {
  *usable = false;
  return 0;
}

#endif

/* ---- the loop ---- */

static void set_bell(struct loop *loop, uint32_t *bell) {
  store_relaxed(&loop->bell, bell);
  fence_seq_cst();
}

static void open_bell(struct loop *loop, bool file) {
  if (doorbell_open(&loop->doorbell, file) != 0) return;
  set_bell(loop, (uint32_t *)(loop->doorbell.page + DOORBELL_BELL));
}

/* Nothing of ours may be 0, 1 or 2 even here: a library's last words must not go into a ring. */
static void open_best(struct loop *loop, enum loop_kind best, bool file) {
  int low[3];
  for (unsigned i = 0; i < array_size(low); i++) low[i] = open_file("/", O_PATH);
  open_bell(loop, file);
  /* A futex alone does as well as a ring with nothing to poll. */
  if (open_sources(loop)) {
    bool ring = best == LOOP_RING && ring_open(loop);
    store_relaxed(&loop->kind, ring ? LOOP_RING : LOOP_POLL);
  }
  for (unsigned i = 0; i < array_size(low); i++) close_file(low[i]);
}

void loop_open(struct loop *loop, enum loop_kind best, bool file) {
  store_relaxed(&loop->kind, LOOP_FUTEX);
  for (unsigned i = 0; i < LOOP_SOURCES; i++) loop->source[i] = -1;
  if (best <= LOOP_FUTEX) return;
  if (raw_call3(CALL_CLOSE_RANGE, 0, UINT_MAX, RANGE_UNSHARE) != 0) {
    open_bell(loop, false);
    return;
  }
  sys_set_own_descriptors();
  open_best(loop, best, file);
}

void loop_close(struct loop *loop) {
  if (loop->kind == LOOP_RING) ring_close(loop);
  for (unsigned i = 0; i < LOOP_SOURCES; i++) close_source(loop, i);
  doorbell_close(&loop->doorbell);
  set_bell(loop, NULL);
  store_relaxed(&loop->kind, LOOP_FUTEX);
}

void loop_forget(struct loop *loop) {
  doorbell_forget(&loop->doorbell);
  memset(loop, 0, sizeof *loop);
}

void loop_wake(struct loop *loop) {
  (void)__atomic_fetch_add(&loop->wakes, 1, __ATOMIC_RELEASE);
  fence_seq_cst();
  uint32_t *bell = load_relaxed(&loop->bell);
  if (bell == NULL) {
    sys_futex_wake(&loop->wakes, 1);
  } else {
    (void)__atomic_fetch_add(bell, 1, __ATOMIC_RELEASE);
    doorbell_wake(bell);
  }
}

static unsigned poll_wait(struct loop *loop, int64_t timeout_ms) {
  struct pollfd fds[LOOP_SOURCES];
  unsigned events = 0;
  if (timeout_ms > POLL_SLICE_MS) timeout_ms = POLL_SLICE_MS;
  struct timespec t = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
  for (unsigned i = 0; i < LOOP_SOURCES; i++)
    fds[i] = (struct pollfd){.fd = loop->source[i], .events = POLLPRI};
  if (raw_call6(SYS_ppoll, (long)fds, LOOP_SOURCES, (long)&t, 0, 0, 0) <= 0) return 0;
  for (unsigned i = 0; i < LOOP_SOURCES; i++)
    if (fds[i].revents != 0) events |= source_event(loop, i, fds[i].revents);
  return events;
}

static unsigned wait_by_kind(struct loop *loop, int64_t timeout_ms, bool watch) {
  if (loop->kind == LOOP_RING) {
    bool usable;
    unsigned events = ring_wait(loop, timeout_ms, watch, &usable);
    if (usable) return events;
    ring_close(loop);
    store_relaxed(&loop->kind, LOOP_POLL);
    return events;
  }
  if (loop->kind == LOOP_POLL && watch && timeout_ms >= 0 && have_sources(loop))
    return poll_wait(loop, timeout_ms);
  if (loop->bell != NULL)
    doorbell_wait(loop->bell, loop->rung, timeout_ms);
  else if (timeout_ms < 0)
    sys_futex_wait(&loop->wakes, loop->seen);
  else
    sys_futex_wait_for(&loop->wakes, loop->seen, (uint64_t)timeout_ms);
  return 0;
}

static bool changed(const uint32_t *word, uint32_t *known) {
  uint32_t now = load_acquire(word), before = *known;
  *known = now;
  return now != before;
}

/* The bell is looked at first: what is counted before it rings is seen then. */
static bool was_woken(struct loop *loop) {
  bool rung = loop->bell != NULL && changed(loop->bell, &loop->rung);
  return changed(&loop->wakes, &loop->seen) || rung;
}

unsigned loop_wait(struct loop *loop, int64_t timeout_ms, bool watch) {
  if (was_woken(loop)) return LOOP_WOKEN;
  unsigned events = wait_by_kind(loop, timeout_ms, watch);
  return events | (was_woken(loop) ? LOOP_WOKEN : 0);
}
