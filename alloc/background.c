/* The background thread.
 *
 * Theory. States, changed under background.lock:
 *
 *   NONE -> STARTING -> RUNNING -> NONE (stopped)
 *   NONE or RUNNING -> OFF for good: main has left by pthread_exit, or the program has sandboxed
 * itself any -> NONE in a forked child
 *
 * Who starts it sits in a slow path of malloc, and pthread_create allocates: STARTING keeps that
 * from starting another. A failure is tried again after a second, by then perhaps with more threads
 * allowed.
 *
 * Work comes in turns. A turn returns when the next has something to do; after two passes over the
 * caches without gain, and with no decay left, there is none. Where nothing is to be done for long
 * (for ever, or as long as the options have freed memory stay) it announces itself asleep, looks
 * once more after a pause, since a free just before may not have seen the announcement, and sleeps
 * until then: a free wakes it, as what is freed may be worth a pass of compaction. An idle process
 * costs nothing. background_notify is one load while the thread isn't asleep.
 *
 * What it must not do to the program: no signal is ever delivered to it; its descriptors are its
 * own (arch/loop.h); it starts no thread while the process is a vfork child or sandboxed; a process
 * whose main thread left by pthread_exit must end with its last other thread, so main takes it
 * along. The process may exit at any moment of its work, and a fork waits for the locks it holds,
 * as for any thread's.
 *
 * Mail. Another process may ask for a purge or a pass of compaction (quire.h, struct
 * quire_mailbox). What is to reach a thread that sleeps without end must wake it, and what can be
 * had for that from outside is little: a futex in private memory can't be woken by others, signals
 * are blocked (and the program's business), and a look from time to time would cost what an idle
 * process must not cost. A pipe or an eventfd could be opened by others too, but only a ring can
 * wait for that and for this process's own wake-ups at once, and many systems refuse rings. A futex
 * in a page that others can map serves all kinds of loop: it replaces the thread's private one
 * (arch/doorbell.h). A request is numbers in that page; whatever is written there, the worst is a
 * purge too many.
 *
 * Seccomp. Filters that were there when the library was loaded belong to whoever runs the program
 * (a container): calls they refuse have a fallback. One that comes later is the program's own, may
 * kill, and knows nothing of this thread: then it isn't started, and one that runs falls back to
 * futex and madvise. */
#include "alloc/background.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "alloc/compaction.h"
#include "alloc/nodes.h"
#include "alloc/options.h"
#include "alloc/stats.h"
#include "alloc/tcache.h"
#include "arch/rawcall.h"
#include "arch/sys.h"
#include "page/frames.h"
#include "quire.h"
#include "slab/bin.h"

enum {
  RETRY_MS = 1000,
  STACK_BYTES = 128 << 10,
  TRIM_MIN_MS = 20, /* between passes over the caches: half of decay_ms, but at least */
  TRIM_MAX_MS =
      1000,         /* and at most so much: what is taken goes to slabs, which no decay is about */
  QUIET_PASSES = 2, /* passes without gain until it sleeps: idle caches show only at the second */
  COLLAPSE_SHARE = 100, /* collapsing takes at most one part in so many of a core */
  COLLAPSE_CREDIT_US = 20000,
  PURGE_INTERVAL_MS = 1000, /* pressure is answered once in so long */
};

enum state { STATE_NONE, STATE_STARTING, STATE_RUNNING, STATE_OFF };

static struct {
  struct lock lock;
  enum state state;
  uint32_t asleep; /* set by the thread, cleared by whoever wakes it */
  uint32_t stop;
  pid_t pid;   /* of the process that may start it; 0 before the constructor */
  int seccomp; /* mode when the library was loaded */
  uint64_t retry_at;
  pthread_t thread;
  struct loop loop;
  uint64_t turns, purges;
} background = {.lock = LOCK_INIT(RANK_BACKGROUND)};

/* The thread's own. */
static struct {
  uint64_t trim_at;
  unsigned quiet; /* passes over the caches without gain, in a row */
  int64_t credit_us;
  uint64_t turned_at;
  uint64_t mute_until; /* pressure isn't watched */
  uint32_t pass;       /* of compaction, which somebody wants by mail; 0: none */
  uint32_t pass_for;   /* his count of what was asked */
} work;

static pid_t process_id(void) { return (pid_t)raw_call3(SYS_getpid, 0, 0, 0); }
static int seccomp_mode(void) { return (int)raw_call3(SYS_prctl, PR_GET_SECCOMP, 0, 0); }

/* ---- a turn ---- */

static uint64_t trim_interval(void) {
  return size_min(TRIM_MAX_MS, size_max(TRIM_MIN_MS, options.decay_ms / 2));
}

/* Slabs and caches hold on to objects, these to frames. */
static uint64_t trim(uint64_t now) {
  if (now >= work.trim_at) {
    bool gain = tcache_reclaim(false) > 0;
    gain = bin_trim(false) || gain;
    work.quiet = gain ? 0 : work.quiet + 1;
    work.trim_at = now + trim_interval();
  }
  return work.quiet < QUIET_PASSES ? work.trim_at - now : UINT64_MAX;
}

/* Credit accrues with time and is spent by the CPU time of each hugepage. */
static uint64_t collapse(uint64_t now) {
  uint64_t earned = (now - work.turned_at) * 1000 / COLLAPSE_SHARE;
  work.credit_us += (int64_t)size_min(earned, COLLAPSE_CREDIT_US);
  if (work.credit_us > COLLAPSE_CREDIT_US) work.credit_us = COLLAPSE_CREDIT_US;
  while (work.credit_us > 0) {
    uint64_t began = sys->thread_cpu_us();
    if (!frames_collapse_one()) return UINT64_MAX;
    work.credit_us -= (int64_t)(sys->thread_cpu_us() - began) + 1;
  }
  return (uint64_t)(1 - work.credit_us) * COLLAPSE_SHARE / 1000 + 1;
}

/* Whoever sandboxed the process did not reckon with these calls, nor with files of memory. */
static bool may_mesh(void) { return background.seccomp == 0 && seccomp_mode() == 0; }

int64_t background_turn(uint64_t now) {
  uint64_t next = trim(now);
  next = size_min(next, frames_decay(now));
  next = size_min(next, collapse(now));
  next = size_min(next, nodes_turn(now, may_mesh()));
  next = size_min(next, compaction_turn(now, may_mesh()));
  work.turned_at = now;
  add_relaxed(&background.turns, 1);
  return next > INT64_MAX ? LOOP_FOREVER_MS : (int64_t)next;
}

/* Frames given back. */
static size_t purge_all(void) {
  (void)tcache_reclaim(true);
  (void)bin_trim(true);
  return frames_purge(0);
}

static void purge(uint64_t now) {
  (void)purge_all();
  compaction_pressed();
  work.mute_until = now + PURGE_INTERVAL_MS;
  add_relaxed(&background.purges, 1);
}

/* ---- the mailbox ---- */

_Static_assert(offsetof(struct quire_mailbox, bell) == DOORBELL_BELL &&
                   sizeof(struct quire_mailbox) <= DOORBELL_SIZE,
               "the doorbell's page is the mailbox");

static void open_mailbox(void) {
  struct quire_mailbox *mail = loop_page(&background.loop);
  work.pass = 0;
  if (mail != NULL) mail->magic = QUIRE_MAILBOX_MAGIC;
  int fd = background.loop.doorbell.fd;
  peek_background((uint32_t)sys_thread_id(), mail != NULL && fd != 0 ? fd : -1, mail);
}

static void answer(struct quire_mailbox *mail, enum quire_mail what, uint32_t asked,
                   size_t frames) {
  mail->gained[what] = (uint64_t)frames << FRAME_SHIFT;
  store_release(&mail->done[what], asked);
  doorbell_wake(&mail->done[what]);
}

/* A pass takes many turns: its answer comes in one of the later ones. Who asked meanwhile wants
 * another, and has rung already. */
static void serve_passes(struct quire_mailbox *mail) {
  uint32_t asked;
  size_t gained;
  while ((asked = load_acquire(&mail->asked[QUIRE_MAIL_COMPACT])) !=
         load_relaxed(&mail->done[QUIRE_MAIL_COMPACT])) {
    if (work.pass == 0) {
      work.pass = compaction_ask();
      work.pass_for = asked;
    }
    if (!compaction_answered(work.pass, &gained)) return;
    answer(mail, QUIRE_MAIL_COMPACT, work.pass_for, gained >> FRAME_SHIFT);
    work.pass = 0;
  }
}

/* One look at a page that only this thread and who asks touch. */
static void serve_mail(void) {
  struct quire_mailbox *mail = loop_page(&background.loop);
  if (mail == NULL) return;
  uint32_t asked = load_acquire(&mail->asked[QUIRE_MAIL_PURGE]);
  if (unlikely(asked != load_relaxed(&mail->done[QUIRE_MAIL_PURGE])))
    answer(mail, QUIRE_MAIL_PURGE, asked, purge_all());
  serve_passes(mail);
}

/* ---- the thread ---- */

static bool announced(void) { return load_relaxed(&background.asleep) != 0; }

/* The caller may have been told that nothing is left, or nothing for long; how long is it to wait
 * really? As unsigned, for ever is most. */
static int64_t announce(int64_t next) {
  if ((uint64_t)next <= trim_interval()) {
    store_relaxed(&background.asleep, 0);
  } else if (!announced()) {
    (void)exchange_acq_rel(&background.asleep, 1);
    next = (int64_t)trim_interval();
  }
  return next;
}

/* The program may have sandboxed itself while this thread worked, or while it slept: before
 * anything else is called. */
static void notice_sandbox(void) {
  if (likely(seccomp_mode() == background.seccomp)) return;
  loop_close(&background.loop);
  open_mailbox(); /* there is none any more */
  sys_allow_batches(false);
}

static void wait_for_work(int64_t next, uint64_t now) {
  bool watch = now >= work.mute_until;
  /* Muted it is deaf, so it must not sleep for longer than that. As unsigned, for ever is most. */
  if (!watch) next = (int64_t)size_min((size_t)next, work.mute_until - now);
  notice_sandbox();
  unsigned events = loop_wait(&background.loop, next, watch);
  notice_sandbox();
  if (events & LOOP_WOKEN) work.quiet = 0;
  if ((events & LOOP_PRESSURE) && sys->now_ms() >= work.mute_until) purge(sys->now_ms());
}

static void begin(void) {
  (void)raw_call3(SYS_prctl, PR_SET_NAME, (long)"quire", 0);
  /* A fork waits, so that the child gets no half of a ring. */
  lock_acquire(&background.lock);
  loop_open(&background.loop, LOOP_RING, may_mesh());
  open_mailbox();
  lock_release(&background.lock);
  sys_allow_batches(true);
}

static void end(void) {
  compaction_stop();
  lock_acquire(&background.lock);
  peek_background(0, -1, NULL);
  loop_close(&background.loop);
  store_relaxed(&background.loop.kind, LOOP_CLOSED);
  store_relaxed(&background.asleep, 0);
  lock_release(&background.lock);
}

static void *run(unused void *arg) {
  begin();
  while (!load_acquire(&background.stop)) {
    nodes_look();
    uint64_t now = sys->now_ms();
    serve_mail();
    wait_for_work(announce(background_turn(now)), now);
  }
  end();
  return NULL;
}

bool background_running(void) { return load_relaxed(&background.state) == STATE_RUNNING; }

void background_notify(void) {
  if (likely(!announced())) return;
  if (exchange_acq_rel(&background.asleep, 0) != 0) loop_wake(&background.loop);
}

void background_wake(void) {
  store_relaxed(&background.asleep, 0);
  loop_wake(&background.loop);
}

/* ---- starting and stopping ---- */

static int add_tls(struct dl_phdr_info *info, unused size_t size, void *total) {
  for (unsigned i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_TLS)
      *(size_t *)total += info->dlpi_phdr[i].p_memsz + info->dlpi_phdr[i].p_align;
  return 0;
}

/* libc takes static TLS out of the stack: a program with much of it must not leave us none. */
static size_t stack_size(void) {
  size_t tls = 0;
  long least = sysconf(_SC_THREAD_STACK_MIN);
  dl_iterate_phdr(add_tls, &tls);
  return align_up(STACK_BYTES + tls + (least > 0 ? (size_t)least : 0), sys_page_size());
}

static bool create(void) {
  pthread_attr_t attributes;
  sigset_t all, before;
  if (pthread_attr_init(&attributes) != 0) return false;
  (void)pthread_attr_setstacksize(&attributes, stack_size());
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int err = pthread_create(&background.thread, &attributes, run, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return err == 0;
}

static cold void start(void) {
  if (!lock_try(&background.lock)) return;
  int saved = errno;
  /* A vfork child shares this memory and must not have threads made in it. */
  if (background.state == STATE_NONE && background.pid == process_id()) {
    if (seccomp_mode() != background.seccomp) {
      store_relaxed(&background.state, STATE_OFF);
    } else {
      store_relaxed(&background.state, STATE_STARTING);
      store_relaxed(&background.stop, 0);
      store_relaxed(&background.retry_at, sys->now_ms() + RETRY_MS);
      store_relaxed(&background.state, create() ? STATE_RUNNING : STATE_NONE);
    }
  }
  errno = saved;
  lock_release(&background.lock);
}

void background_consider(size_t heap_bytes) {
  if (likely(heap_bytes < options.background_threshold)) return;
  if (load_relaxed(&background.state) != STATE_NONE || options.background != CHOICE_BACKGROUND_AUTO)
    return;
  if (sys->now_ms() >= load_relaxed(&background.retry_at)) start();
}

static void stop(enum state then) {
  lock_acquire(&background.lock);
  bool was_running = background.state == STATE_RUNNING;
  /* STARTING keeps others from starting or stopping it meanwhile. */
  store_relaxed(&background.state, was_running ? STATE_STARTING : then);
  store_release(&background.stop, 1);
  lock_release(&background.lock);
  if (!was_running) return;
  loop_wake(&background.loop);
  pthread_join(background.thread, NULL);
  store_relaxed(&background.retry_at, 0);
  store_release(&background.state, then);
}

void background_stop(void) { stop(STATE_NONE); }

void background_stats(struct background_stats *out) {
  enum loop_kind kind = load_relaxed(&background.loop.kind);
  *out = (struct background_stats){
      .running = background_running(),
      .asleep = announced(),
      .kind = kind,
      .pressure = kind > LOOP_FUTEX,
      .turns = load_relaxed(&background.turns),
      .purges = load_relaxed(&background.purges),
  };
}

static pthread_key_t main_key;
static bool have_main_key;

static void main_leaves(unused void *value) { stop(STATE_OFF); }

/* Called in the main thread. Its value of the key has the destructor run when it leaves by
 * pthread_exit, and not at exit. */
static void watch_main(void) {
  if (have_main_key && pthread_getspecific(main_key) == NULL)
    (void)pthread_setspecific(main_key, &background);
}

__attribute__((constructor)) static void loaded(void) {
  background.seccomp = seccomp_mode();
  background.pid = process_id();
  have_main_key = pthread_key_create(&main_key, main_leaves) == 0;
  if (sys_thread_id() == background.pid) watch_main();
}

/* ---- fork ---- */

void background_before_fork(void) { lock_acquire(&background.lock); }
void background_after_fork_parent(void) { lock_release(&background.lock); }

void background_after_fork_child(void) {
  if (background.state != STATE_OFF) background.state = STATE_NONE;
  background.asleep = 0;
  background.pid = process_id();
  background.retry_at = 0;
  background.turns = background.purges = 0;
  loop_forget(&background.loop);
  peek_background(0, -1, NULL);
  work = (typeof(work)){0};
  watch_main();
  lock_reset(&background.lock);
}
