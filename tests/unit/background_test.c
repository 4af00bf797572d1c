/* The background thread: its turns on a fake clock, its loop and its life on the real kernel. */
#include "alloc/background.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alloc/options.h"
#include "arch/sys.h"
#include "slab/bin.h"
#include "tests/unit/check.h"
#include "tests/unit/elsewhere.h"
#include "tests/unit/fake.h"

/* ---- turns ---- */

static uint64_t cpu_us, collapse_costs_us;
static struct sys_ops timed;

static uint64_t fake_cpu_us(void) { return cpu_us; }

static void collapse_seen(enum fake_call call, unused char *p, unused char *to, unused size_t n) {
  if (call == FAKE_COLLAPSE) cpu_us += collapse_costs_us;
}

static void begin(bool made_up) {
  static uint64_t start_at;
  options_parse(NULL, NULL);
  options.decay_ms = 1000;
  heap_begin(64 * HUGEPAGE_SIZE, made_up);
  fake.now = start_at += (uint64_t)1 << 32; /* the thread's memory of times outlives a heap */
  timed = *sys;
  timed.thread_cpu_us = fake_cpu_us;
  sys = &timed;
}

/* Turns until there is nothing left to gain; how many it took. */
static unsigned turn_until_quiet(void) {
  int64_t next = 1;
  unsigned n = 0;
  for (; next != LOOP_FOREVER_MS && n < 1000; n++) {
    next = background_turn(fake.now);
    if (next != LOOP_FOREVER_MS) fake.now += (uint64_t)next;
  }
  return n;
}

static void decays_and_falls_quiet(void) {
  struct frames_run run[8];
  struct frames_stats stats;
  begin(true);
  for (int i = 0; i < 8; i++) CU_ASSERT_EQUAL(frames_alloc(512, 512, FRAMES_FOLIO, &run[i]), 0);
  (void)turn_until_quiet();
  for (int i = 0; i < 8; i++) frames_free(run[i].pfn, 512);
  uint64_t freed_at = fake.now;
  CU_ASSERT_NOT_EQUAL(background_turn(fake.now), LOOP_FOREVER_MS);
  frames_stats(&stats);
  CU_ASSERT_EQUAL(stats.free_resident, 8 * 512); /* still within demand */
  CU_ASSERT(turn_until_quiet() < 100);
  frames_stats(&stats);
  CU_ASSERT_EQUAL(stats.free_resident, 0);
  CU_ASSERT(fake.now - freed_at >= 1000);
  unsigned calls = fake.total;
  fake.now += 100000;
  (void)turn_until_quiet();
  CU_ASSERT_EQUAL(fake.total, calls);
  heap_end();
}

static void empties_idle_bins(void) {
  enum { N = 64 };
  void *objects[N];
  unsigned c = class_of(1024);
  struct bin_stats stats;
  begin(false);
  for (unsigned n = 0; n < N;) n += bin_refill(c, objects + n, N - n);
  flush_elsewhere(c, objects, N);
  bin_stats(c, &stats);
  CU_ASSERT(stats.transfer > 0);
  fake.now += 100000;
  CU_ASSERT(turn_until_quiet() < 100);
  bin_stats(c, &stats);
  CU_ASSERT_EQUAL(stats.transfer, 0);
  CU_ASSERT_EQUAL(stats.nslabs, 0);
  heap_end();
}

static void collapses_within_its_share(void) {
  enum { N = 40 };
  struct frames_run run;
  begin(true);
  for (int i = 0; i < N; i++) CU_ASSERT_EQUAL(frames_alloc(512, 512, FRAMES_SLAB, &run), 0);
  heap_configure(FRAMES_HUGE_AUTO, 0, 1000);
  fake.seen = collapse_seen;
  collapse_costs_us = 2500;
  fake.now += 100000;
  (void)background_turn(fake.now); /* at most 20 ms of credit: eight */
  CU_ASSERT_EQUAL(fake.calls[FAKE_COLLAPSE], 8);
  fake.now += 90;
  int64_t next = background_turn(fake.now); /* 0.9 ms earned since: one, and 1.6 ms owed */
  CU_ASSERT_EQUAL(fake.calls[FAKE_COLLAPSE], 9);
  CU_ASSERT(next > 0 && next <= 180);
  uint64_t from = fake.now;
  for (int i = 0; i < 10000 && fake.calls[FAKE_COLLAPSE] < N; i++) {
    next = background_turn(fake.now);
    CU_ASSERT(next > 0);
    fake.now += next > 0 ? (uint64_t)next : 1;
  }
  CU_ASSERT_EQUAL(fake.calls[FAKE_COLLAPSE], N);
  /* Thirty times 2.5 ms at one in a hundred. */
  CU_ASSERT(fake.now - from >= 30 * 250 && fake.now - from <= 32 * 260);
  heap_end();
}

/* ---- the loop ---- */

static struct loop loop;
static enum loop_kind best, got;
static unsigned first, second, third;
static uint32_t opened;
static bool file = true;
static char *page; /* of the doorbell */

static void *sleeper(unused void *arg) {
  loop_open(&loop, best, file);
  got = loop.kind;
  page = loop_page(&loop);
  loop_wake(&loop);
  first = loop_wait(&loop, LOOP_FOREVER_MS, true); /* woken before it slept */
  second = loop_wait(&loop, 1, false);
  __atomic_store_n(&opened, 1, __ATOMIC_RELEASE);
  while (((third = loop_wait(&loop, LOOP_FOREVER_MS, true)) & LOOP_WOKEN) == 0) continue;
  loop_close(&loop);
  return NULL;
}

static unsigned count_descriptors(void) {
  unsigned n = 0;
  for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

static bool run_loop(enum loop_kind kind) {
  pthread_t thread;
  unsigned before = count_descriptors();
  loop_forget(&loop);
  best = kind;
  opened = 0;
  if (pthread_create(&thread, NULL, sleeper, NULL) != 0) return false;
  while (!__atomic_load_n(&opened, __ATOMIC_ACQUIRE)) sched_yield();
  CU_ASSERT_EQUAL(count_descriptors(), before); /* neither gained nor lost any */
  loop_wake(&loop);
  pthread_join(thread, NULL);
  CU_ASSERT_EQUAL(count_descriptors(), before);
  CU_ASSERT(first & LOOP_WOKEN);
  CU_ASSERT_EQUAL(second & LOOP_WOKEN, 0);
  CU_ASSERT(third & LOOP_WOKEN);
  return true;
}

static void futex_loop_wakes(void) {
  CU_ASSERT(run_loop(LOOP_FUTEX));
  CU_ASSERT_EQUAL(got, LOOP_FUTEX);
}

static void poll_loop_wakes(void) {
  CU_ASSERT(run_loop(LOOP_POLL));
  CU_ASSERT(got <= LOOP_POLL);
  if (got < LOOP_POLL) unit_skip("no pressure file may be opened here");
}

static void ring_loop_wakes(void) {
  CU_ASSERT(run_loop(LOOP_RING));
  if (got < LOOP_RING) unit_skip("no io_uring, or no pressure file may be opened here");
}

/* Another process that has the page: nothing of this one's private memory can be woken from there.
 */
static bool ring_from_outside(void) {
  int state;
  uint32_t *bell = (uint32_t *)(page + DOORBELL_BELL);
  pid_t pid = fork();
  if (pid == 0) {
    (void)__atomic_fetch_add(bell, 1, __ATOMIC_RELEASE);
    doorbell_wake(bell);
    _exit(0);
  }
  return pid > 0 && waitpid(pid, &state, 0) == pid && state == 0;
}

/* Of all kinds of loop, by a file and by shared memory without a descriptor. */
static void others_ring(void) {
  for (unsigned i = 0; i < 4; i++) {
    pthread_t thread;
    loop_forget(&loop);
    best = i / 2 == 0 ? LOOP_POLL : LOOP_RING;
    file = i % 2 == 0;
    opened = 0;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, sleeper, NULL), 0);
    while (!__atomic_load_n(&opened, __ATOMIC_ACQUIRE)) sched_yield();
    bool rung = page != NULL && ring_from_outside();
    if (!rung) loop_wake(&loop);
    pthread_join(thread, NULL);
    CU_ASSERT(rung);
    CU_ASSERT(third & LOOP_WOKEN);
    CU_ASSERT_PTR_NULL(loop_page(&loop)); /* closed with the loop */
  }
  file = true;
}

/* Urgent data on a socket looks to poll as memory pressure does. */
static void *pressed(unused void *arg) {
  struct loop own = {0};
  int ends[2];
  loop_open(&own, best, true);
  got = own.kind;
  first = second = LOOP_PRESSURE;
  if (got == best && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0) {
    if (own.source[LOOP_STALLS] >= 0) close(own.source[LOOP_STALLS]);
    own.source[LOOP_STALLS] = ends[0];
    if (send(ends[1], "!", 1, MSG_OOB) != 1) got = LOOP_CLOSED;
    second = loop_wait(&own, 1, false);
    first = got == best ? loop_wait(&own, 30000, true) : 0;
  }
  loop_close(&own);
  return NULL;
}

static void sees_pressure(enum loop_kind kind) {
  pthread_t thread;
  best = kind;
  CU_ASSERT_EQUAL(pthread_create(&thread, NULL, pressed, NULL), 0);
  pthread_join(thread, NULL);
  if (got != best) return unit_skip("this kind of loop can't be had here");
  CU_ASSERT_EQUAL(first, LOOP_PRESSURE);
  CU_ASSERT_EQUAL(second, 0); /* not asked for */
}

static void poll_loop_sees_pressure(void) { sees_pressure(LOOP_POLL); }
static void ring_loop_sees_pressure(void) { sees_pressure(LOOP_RING); }

static void *last_words(unused void *arg) {
  struct loop own = {0};
  loop_open(&own, LOOP_RING, true);
  sys_write_all(2, "words", 5);
  loop_close(&own);
  return NULL;
}

static void last_words_reach_stderr(void) {
  pthread_t thread;
  int ends[2], kept = dup(2);
  char text[8] = {0};
  CU_ASSERT_EQUAL(pipe(ends), 0);
  dup2(ends[1], 2);
  CU_ASSERT_EQUAL(pthread_create(&thread, NULL, last_words, NULL), 0);
  pthread_join(thread, NULL);
  dup2(kept, 2);
  close(kept);
  close(ends[1]);
  ssize_t n = read(ends[0], text, sizeof text);
  close(ends[0]);
  if (n == 0) return unit_skip("pidfd_getfd is refused here");
  CU_ASSERT_EQUAL(n, 5);
  CU_ASSERT_STRING_EQUAL(text, "words");
}

/* qemu's user mode shows its own name, answers some calls by itself, and has bugs in threads after
 * fork. */
static bool is_emulated(void) {
  char name[32] = {0};
  FILE *f = fopen("/proc/self/comm", "r");
  if (f == NULL) return false;
  size_t n = fread(name, 1, sizeof name - 1, f);
  fclose(f);
  return n > 5 && strncmp(name, "qemu-", 5) == 0;
}

static void *batches(void *arg) {
  enum { N = 16 };
  struct iovec ranges[N];
  int *failures = arg, results[N];
  size_t page = sys_page_size();
  sys_allow_batches(true);
  char *p = mmap(NULL, 2 * N * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(p, 1, 2 * N * page);
  for (unsigned i = 0; i < N; i++) ranges[i] = (struct iovec){p + 2 * i * page, page};
  munmap(p + 2 * 5 * page, page);
  sys_discard_batch(ranges, N, results);
  for (unsigned i = 0; i < N; i++) {
    *failures += results[i] != (i == 5 ? -ENOMEM : 0);
    if (i != 5) *failures += p[2 * i * page] != 0;
    *failures += p[(2 * i + 1) * page] != 1;
  }
  munmap(p, 2 * N * page);
  return NULL;
}

static void batches_discard_all_but_the_refused(void) {
  pthread_t thread;
  int failures = 0;
  if (is_emulated()) return unit_skip("the emulator takes advice for memory that is not mapped");
  CU_ASSERT_EQUAL(pthread_create(&thread, NULL, batches, &failures), 0);
  pthread_join(thread, NULL);
  CU_ASSERT_EQUAL(failures, 0);
}

/* ---- its life ---- */

static bool read_status(int tid, char *out, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
  FILE *f = fopen(path, "r");
  if (f == NULL) return false;
  out[fread(out, 1, size - 1, f)] = 0;
  fclose(f);
  return true;
}

/* The thread's id, 0 if there is none; its status in *out. */
static int find_thread(char *out, size_t size) {
  for (int tid = getpid() + 1; tid < getpid() + 10000; tid++)
    if (read_status(tid, out, size) && strncmp(out, "Name:\tquire\n", 12) == 0) return tid;
  return 0;
}

/* Turns happen on the real kernel, on a heap that stays empty. */
static void begin_life(void) {
  options_parse(NULL, NULL);
  options.background_threshold = 1000;
}

static bool start_thread(void) {
  background_consider(1000);
  return background_running();
}

static void starts_once_and_stops(void) {
  char status[4096];
  unsigned long long blocked = 0;
  begin_life();
  background_consider(999);
  CU_ASSERT_FALSE(background_running());
  options.background = CHOICE_BACKGROUND_OFF;
  background_consider(1000);
  CU_ASSERT_FALSE(background_running());
  options.background = CHOICE_BACKGROUND_AUTO;
  errno = 77;
  CU_ASSERT(start_thread());
  CU_ASSERT_EQUAL(errno, 77);
  struct background_stats stats = {0};
  while (!stats.asleep) { /* an empty heap leaves nothing to do */
    sched_yield();
    background_stats(&stats);
  }
  int tid = find_thread(status, sizeof status);
  CU_ASSERT(tid != 0);
  const char *at = tid == 0 ? NULL : strstr(status, "SigBlk:");
  if (at != NULL) sscanf(at, "SigBlk: %llx", &blocked);
  /* All but libc's own two, 32 and 33, and the two that can't be; an emulator has its own mask. */
  if (!is_emulated())
    CU_ASSERT_EQUAL(blocked | 1ull << 31 | 1ull << 32 | 1ull << 8 | 1ull << 18, ~0ull);
  background_consider(1000);
  background_stop();
  CU_ASSERT_FALSE(background_running());
  /* A joined thread is still listed until the kernel has put its last bits away. */
  while (find_thread(status, sizeof status) != 0) sched_yield();
}

static void starts_again(void) {
  begin_life();
  for (int i = 0; i < 50; i++) {
    CU_ASSERT(start_thread());
    background_notify();
    background_stop();
    CU_ASSERT_FALSE(background_running());
  }
}

static void forked_child_has_its_own(void) {
#ifdef __SANITIZE_THREAD__
  return unit_skip("the thread sanitizer allows a forked child no threads");
#endif
  int status = -1;
  if (is_emulated()) return unit_skip("the emulator fails at threads of a forked child");
  begin_life();
  CU_ASSERT(start_thread());
  background_before_fork();
  pid_t pid = fork();
  if (pid == 0) {
    background_after_fork_child();
    if (background_running()) _exit(1);
    if (!start_thread()) _exit(2);
    background_stop();
    _exit(0);
  }
  background_after_fork_parent();
  waitpid(pid, &status, 0);
  CU_ASSERT_EQUAL(status, 0);
  CU_ASSERT(background_running());
  background_stop();
}

/* By status, since some emulators and sanitizers make a fork of it: then nobody ran the handlers
 * either. */
static void vfork_child_starts_none(void) {
  int status = -1;
  begin_life();
  pid_t pid = vfork();
  if (pid == 0) _exit(start_thread());
  waitpid(pid, &status, 0);
  CU_ASSERT_EQUAL(status, 0);
  CU_ASSERT_FALSE(background_running());
}

static void *nothing(unused void *arg) { return NULL; }

static bool can_create_thread(void) {
  pthread_t thread;
  return pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

enum { NOBODY = 65534 };

/* No thread more for this user, and root, whom the limit doesn't bind, becomes somebody else. */
static bool forbid_threads(struct rlimit *before) {
  CU_ASSERT_EQUAL(getrlimit(RLIMIT_NPROC, before), 0);
  struct rlimit none = {0, before->rlim_max};
  CU_ASSERT_EQUAL(setrlimit(RLIMIT_NPROC, &none), 0);
  return getuid() == 0 && setresuid(NOBODY, NOBODY, 0) == 0;
}

static void allow_threads(const struct rlimit *before, bool was_root) {
  if (was_root) CU_ASSERT_EQUAL(setresuid(0, 0, 0), 0);
  CU_ASSERT_EQUAL(setrlimit(RLIMIT_NPROC, before), 0);
}

static void tries_again_after_a_second(void) {
  struct rlimit before;
  begin_life();
  fake_install();
  fake.now = (uint64_t)1 << 62; /* later than any time that other tests left behind */
  bool was_root = forbid_threads(&before), forbidden = !can_create_thread();
  errno = 77;
  background_consider(1000);
  bool started = background_running();
  CU_ASSERT_EQUAL(errno, 77);
  allow_threads(&before, was_root);
  if (forbidden) {
    CU_ASSERT_FALSE(started);
    fake.now += 999;
    background_consider(1000);
    CU_ASSERT_FALSE(background_running());
    fake.now += 1;
    CU_ASSERT(start_thread());
  } else {
    unit_skip("nothing keeps this user from creating threads");
  }
  background_stop();
  fake_remove();
}

static const struct unit_test tests[] = {
    {"background: freed frames decay, then nothing is done", decays_and_falls_quiet},
    {"background: idle bins are emptied", empties_idle_bins},
    {"background: collapsing takes a hundredth of a core", collapses_within_its_share},
    {"loop: a futex wakes it", futex_loop_wakes},
    {"loop: poll and a futex wake it", poll_loop_wakes},
    {"loop: a ring wakes it", ring_loop_wakes},
    {"loop: another process rings", others_ring},
    {"loop: poll sees memory pressure", poll_loop_sees_pressure},
    {"loop: a ring sees memory pressure", ring_loop_sees_pressure},
    {"loop: last words reach the process's stderr", last_words_reach_stderr},
    {"sys: a batch discards all but the refused", batches_discard_all_but_the_refused},
    {"background: starts once, blocks signals, stops", starts_once_and_stops},
    {"background: starts again", starts_again},
    {"background: a forked child starts its own", forked_child_has_its_own},
    {"background: a vfork child starts none", vfork_child_starts_none},
    {"background: tries again a second after it could have no thread", tries_again_after_a_second},
    {0},
};

int main(void) { return unit_main("background", tests); }
