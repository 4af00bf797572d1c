/* Start-up, fork, and the periodic work of a process without a background thread.
 *
 * Theory. States: COLD -> STARTING -> READY, or COLD -> FAILED when no address space is to be had
 * (then every allocation fails with ENOMEM, and the next one tries again). The first miss starts;
 * that may be inside the dynamic loader, before libc's constructors, so start-up allocates nothing,
 * needs no libc state but the environment, and finds that on the stack if `environ` isn't set yet.
 * Periodic work and the background thread wait for the library's constructor (late init).
 *
 * Fork. All locks are taken in order of rank before, released after in the parent, reset in the
 * child, which is then alone: nodes, compaction, background, discard, registry and thread caches,
 * transfer areas, bins, pins, failed frames, zone, frames, descriptor caches and their region. Work
 * in progress elsewhere is finished first, since it runs under one of these. */
#include "alloc/init.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "alloc/background.h"
#include "alloc/compaction.h"
#include "alloc/malloc.h"
#include "alloc/nodes.h"
#include "alloc/options.h"
#include "alloc/stats.h"
#include "arch/sys.h"
#include "page/compact.h"
#include "page/folio.h"
#include "page/owned.h"
#include "page/pin.h"
#include "page/poison.h"
#include "page/zone.h"
#include "slab/bin.h"
#include "slab/mesh.h"

enum startup { COLD, STARTING, READY, FAILED };

enum { TICK_CALLS = 32 };

static uint32_t startup;
static struct lock startup_lock = LOCK_INIT(RANK_STARTUP);
static uint32_t late;
static uint32_t have_fork_handlers;

/* glibc's record of where the kernel put argc, argv and the environment. */
extern void *__libc_stack_end __attribute__((weak));

static const char *find_in(char **env, const char *name) {
  size_t n = strlen(name);
  for (; env != NULL && *env != NULL; env++)
    if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') return *env + n + 1;
  return NULL;
}

static const char *variable(const char *name) {
  if (getauxval(AT_SECURE)) return NULL; /* a setuid program takes no options from its caller */
  if (environ != NULL) return find_in(environ, name);
  if (&__libc_stack_end == NULL || __libc_stack_end == NULL) return NULL;
  uintptr_t *stack = __libc_stack_end;
  return find_in((char **)(stack + 1 + stack[0] + 1), name);
}

static void complain(const char *line) { sys_write_all(2, line, strlen(line)); }

void alloc_configure(void) {
  static uint32_t done;
  if (exchange_acq_rel(&done, 1) == 0) options_parse(variable("QUIRE_CONF"), complain);
}

static size_t number(const char *name) {
  const char *text = variable(name);
  size_t value = 0;
  for (; text != NULL && *text >= '0' && *text <= '9' && value < SIZE_MAX / 100; text++)
    value = value * 10 + (size_t)(*text - '0');
  return text != NULL && *text == 0 ? value : 0;
}

/* Which descriptor a service manager calls by this name: LISTEN_FDS of them are numbered from 3 on,
 * in the order of the names in LISTEN_FDNAMES (sd_listen_fds_with_names(3)). The variables may have
 * been meant for a parent: LISTEN_PID tells. -1 for none. */
static int listen_descriptor(const char *name) {
  enum { FIRST = 3 };
  const char *names = variable("LISTEN_FDNAMES");
  size_t n = strlen(name), end_fd = FIRST + number("LISTEN_FDS");
  if (number("LISTEN_PID") != (size_t)getpid()) return -1;
  for (int fd = FIRST; names != NULL && (size_t)fd < end_fd; fd++) {
    const char *end = strchr(names, ':');
    size_t length = end == NULL ? strlen(names) : (size_t)(end - names);
    if (length == n && memcmp(names, name, n) == 0) return fd;
    names = end == NULL ? NULL : end + 1;
  }
  return -1;
}

static int inherited_watch(void) {
  return options.watch_fd != 0 ? (int)options.watch_fd : listen_descriptor("userfaultfd");
}

static void start(void) {
  alloc_configure();
  struct frames_options frames = {
      .huge = (enum frames_huge)options.huge,
      .huge_threshold = options.huge_threshold,
      .decay_ms = options.decay_ms,
  };
  frames_configure(&frames);
  struct compact_options compact = {
      .map_share = (unsigned)options.compact_maps,
      .stall_us = (unsigned)options.compact_stall,
      .force = options.compact_force != 0,
      .inherited = inherited_watch(),
  };
  compact_configure(&compact);
  if (arena_init(options.reserve) != 0) {
    store_release(&startup, FAILED);
    return;
  }
  tcache_init();
  peek_init();
  store_release(&startup, READY);
}

static cold bool start_once(void) {
  lock_acquire(&startup_lock);
  if (load_acquire(&startup) != READY) {
    store_release(&startup, STARTING);
    start();
  }
  lock_release(&startup_lock);
  if (load_acquire(&startup) != READY) return false;
  /* As early as this, so that the handlers of other libraries, which may allocate, run before these
   * take the locks, and after these have given them back. May allocate itself. */
  if (exchange_acq_rel(&have_fork_handlers, 1) == 0)
    pthread_atfork(alloc_before_fork, alloc_after_fork_parent, alloc_after_fork_child);
  return true;
}

bool alloc_ready(void) { return likely(load_acquire(&startup) == READY) || start_once(); }

/* A program that allocates nothing gets no heap. */
void alloc_late_init(void) { store_release(&late, 1); }

void alloc_tick(void) {
  static _Thread_local unsigned calls tls_initial_exec;
  static _Thread_local bool inside tls_initial_exec;
  background_notify(); /* one load; a single large free must not wait for its turn */
  if (likely(++calls % TICK_CALLS != 0) || inside || !load_acquire(&late)) return;
  inside = true; /* starting a thread allocates */
  if (!background_running()) {
    background_consider(frames_used() << FRAME_SHIFT);
    if (frames_decay_due()) {
      (void)bin_trim(false);
      (void)frames_decay(sys->now_ms());
    }
  }
  inside = false;
}

/* ---- fork ---- */

static struct desc_cache *const desc_caches[] = {
    &tcache_cache, &folio_cache,    &slab_cache_small,   &slab_cache_large,
    &mesh_cache,   &mesh_run_cache, &mesh_blocked_small, &mesh_blocked_large,
    &pin_cache,    &holder_cache,   &owned_cache};

void alloc_before_fork(void) {
  lock_acquire(&startup_lock);
  nodes_before_fork();
  compaction_before_fork();
  background_before_fork();
  frames_lock_discard();
  tcache_lock_all();
  bin_lock_all();
  pin_lock();
  poison_lock();
  zone_lock();
  frames_lock();
  for (unsigned i = 0; i < array_size(desc_caches); i++) lock_acquire(&desc_caches[i]->lock);
  desc_lock_region();
}

void alloc_after_fork_parent(void) {
  desc_unlock_region();
  for (unsigned i = 0; i < array_size(desc_caches); i++) lock_release(&desc_caches[i]->lock);
  frames_unlock();
  zone_unlock();
  poison_unlock();
  pin_unlock();
  bin_unlock_all();
  tcache_unlock_all();
  frames_unlock_discard();
  background_after_fork_parent();
  compaction_after_fork_parent();
  nodes_after_fork_parent();
  lock_release(&startup_lock);
}

void alloc_after_fork_child(void) {
  desc_reset_region();
  for (unsigned i = 0; i < array_size(desc_caches); i++) lock_reset(&desc_caches[i]->lock);
  frames_reset();
  zone_reset();
  poison_reset();
  pin_reset();
  bin_reset_all();
  tcache_reset_all();
  frames_reset_discard();
  background_after_fork_child();
  compaction_after_fork_child();
  nodes_after_fork_child();
  lock_reset(&startup_lock);
}
