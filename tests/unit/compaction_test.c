/* When compaction begins and ends, on a fake clock; and how a fork stops it, with real threads. */
#include "alloc/compaction.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "alloc/background.h"
#include "alloc/options.h"
#include "arch/sys.h"
#include "page/compact.h"
#include "page/zone.h"
#include "quire.h"
#include "slab/bin.h"
#include "slab/pin.h"
#include "tests/unit/check.h"
#include "tests/unit/fake_zone.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

enum { SIZE = 256, MOST = 400000, LOOK_MS = 250, CALM_MS = 4 * LOOK_MS };

static const struct compact_options defaults = {.map_share = 50, .stall_us = 200, .inherited = -1};
static void *objects[MOST];
static size_t nobjects;

/* All that the policy remembers goes, as in a forked child. */
static void forget(void) {
  compaction_before_fork();
  compaction_after_fork_child();
}

static void begin(void) {
  static uint64_t start_at;
  options_parse(NULL, NULL);
  options.compact = CHOICE_COMPACT_AUTO;
  options.background = CHOICE_BACKGROUND_AUTO;
  options.background_threshold = SIZE_MAX; /* no thread but the tests' */
  zone_heap_begin(ARENA);
  fake.now = start_at += (uint64_t)1 << 32; /* what the policy remembers outlives a heap */
  compact_configure(&defaults);
  forget();
  nobjects = 0;
}

static void get(size_t bytes) {
  unsigned c = class_of(SIZE);
  for (size_t n = bytes / SIZE; n > 0 && nobjects < MOST;) {
    unsigned got =
        bin_refill(c, objects + nobjects, (unsigned)size_min(size_min(n, 64), MOST - nobjects));
    CU_ASSERT_TRUE_FATAL(got > 0);
    for (unsigned i = 0; i < got; i++) memset(objects[nobjects + i], 1, SIZE);
    nobjects += got;
    n -= got;
  }
}

static void thin_out(unsigned percent) {
  struct random r = {17};
  size_t left = nobjects * percent / 100;
  while (nobjects > left) {
    size_t i = random_below(&r, nobjects);
    void *p = objects[i];
    objects[i] = objects[--nobjects];
    bin_free_now(class_of(SIZE), p);
  }
}

/* A heap of which little lives, in slabs that no freeze has seen. */
static void make_sparse(size_t bytes) {
  thin_out(0);
  (void)bin_trim(true);
  (void)frames_purge(0);
  get(bytes);
  thin_out(15);
}

static void end(void) {
  CU_ASSERT_TRUE(zone_consistent());
  CU_ASSERT_TRUE(bin_consistent(class_of(SIZE)));
  thin_out(0);
  forget();
  zone_heap_end();
}

static uint64_t passes(void) {
  struct compact_stats stats;
  compact_stats(&stats);
  return stats.passes;
}

static struct zone_stats zone_now(void) {
  struct zone_stats stats;
  zone_stats(&stats);
  return stats;
}

static uint64_t turn(void) { return compaction_turn(fake.now, true); }

/* Turns as the background thread takes them, for so long; it sleeps no longer than `wake_ms`, as
 * where others wake it. When the first pass began, in ms from now; UINT64_MAX: none did. */
static uint64_t turns_for(uint64_t ms, uint64_t wake_ms) {
  uint64_t from = fake.now, before = passes(), began = UINT64_MAX;
  while (fake.now - from < ms) {
    uint64_t next = turn();
    if (began == UINT64_MAX && (compact_active() || passes() != before)) began = fake.now - from;
    fake.now += size_max(1, size_min(size_min(next, wake_ms), ms));
  }
  return began;
}

/* ---- when ---- */

static void nothing_to_gain_is_no_turn(void) {
  begin();
  CU_ASSERT_EQUAL(turn(), UINT64_MAX);
  get(8 << 20);
  CU_ASSERT_EQUAL(turn(), UINT64_MAX); /* all of it lives */
  thin_out(70);
  CU_ASSERT_EQUAL(turn(), UINT64_MAX); /* too little is slack */
  fake.now += 100000;
  CU_ASSERT_EQUAL(turn(), UINT64_MAX);
  CU_ASSERT_EQUAL(passes(), 0);
  CU_ASSERT_FALSE(compact_active());
  end();
}

static void a_large_slack_begins_a_pass(void) {
  begin();
  get(32 << 20);
  thin_out(20);
  uint64_t next = turn();
  CU_ASSERT_TRUE(next <= LOOK_MS); /* it looks again, whether it has settled */
  CU_ASSERT_FALSE(compact_active());
  uint64_t began = turns_for(10000, UINT64_MAX);
  CU_ASSERT_TRUE(began <= 4 * LOOK_MS);
  CU_ASSERT_EQUAL(passes(), 1);
  CU_ASSERT_TRUE(zone_now().guest > 0);
  CU_ASSERT_EQUAL(turn(), UINT64_MAX); /* and then nothing is left */
  end();
}

/* A heap that changes by much from look to look is waited for, but not for ever. */
static void a_restless_heap_is_waited_for(void) {
  begin();
  get(64 << 20);
  thin_out(80);
  uint64_t from = fake.now;
  for (int i = 0; i < 5; i++) {
    (void)turn();
    CU_ASSERT_FALSE(compact_active());
    fake.now += LOOK_MS;
    thin_out(80);
  }
  CU_ASSERT_EQUAL(passes(), 0);
  /* A change of a tenth in a second is one too, if less from look to look. */
  uint64_t until = fake.now + 1500;
  while (fake.now < until) {
    (void)turn();
    CU_ASSERT_FALSE(compact_active());
    fake.now += LOOK_MS;
    thin_out(90);
  }
  CU_ASSERT_EQUAL(passes(), 0);
  CU_ASSERT_TRUE(turns_for(10000, UINT64_MAX) != UINT64_MAX);
  CU_ASSERT_TRUE(fake.now - from > 5 * LOOK_MS);
  end();
}

static void off_never_begins(void) {
  begin();
  options.compact = CHOICE_COMPACT_OFF;
  get(32 << 20);
  thin_out(10);
  CU_ASSERT_EQUAL(turns_for(60000, 1000), UINT64_MAX);
  compaction_pressed();
  CU_ASSERT_EQUAL(turn(), UINT64_MAX);
  CU_ASSERT_EQUAL(passes(), 0);
  end();
}

static void aggressive_begins_for_less(void) {
  for (int choice = CHOICE_COMPACT_AUTO; choice <= CHOICE_COMPACT_AGGRESSIVE; choice++) {
    begin();
    options.compact = (size_t)choice;
    get(6 << 20);
    thin_out(30);
    bool began = turns_for(20000, 1000) != UINT64_MAX;
    CU_ASSERT_EQUAL(began, choice == CHOICE_COMPACT_AGGRESSIVE);
    end();
  }
}

/* Turns until a pass has been made; when, in ms from now. */
static uint64_t until_pass(void) {
  uint64_t from = fake.now, before = passes();
  while (passes() == before && fake.now - from < 1000000)
    fake.now += size_max(1, size_min(turn(), LOOK_MS));
  return fake.now - from;
}

/* No zone, and no frame in which nothing lives: the pauses between passes double. */
static void without_gain_it_backs_off(void) {
  uint64_t pause[3];
  begin();
  fake_zone.source[WATCH_CALL] = fake_zone.source[WATCH_DEVICE] = -EPERM;
  for (unsigned i = 0; i < array_size(pause); i++) {
    get((size_t)(24 + 15 * i) << 20); /* more slack each time, or it would not even try */
    thin_out(40);
    pause[i] = until_pass();
    CU_ASSERT_TRUE(compact_gained() <= 32); /* by chance */
  }
  CU_ASSERT_TRUE(pause[0] <= CALM_MS + 2 * LOOK_MS);
  CU_ASSERT_TRUE(pause[1] >= 1000 && pause[1] <= 1000 + 4 * LOOK_MS);
  CU_ASSERT_TRUE(pause[2] >= 2000 && pause[2] <= 2000 + 4 * LOOK_MS);
  end();
}

static const struct sys_ops *fake_sys;

static uint64_t costly_cpu_us(void) {
  fake.now++;
  return fake.cpu_us += 1000;
}

/* From here on a look at the clock costs a millisecond; until sys is fake_sys again. */
static void let_looks_cost(void) {
  static struct sys_ops costly;
  fake_sys = sys;
  costly = *sys;
  costly.thread_cpu_us = costly_cpu_us;
  sys = &costly;
}

/* A turn is a few units of work, and is followed by a pause that leaves it its share of a
 * processor, also where each pause lasts longer than it should. */
static void takes_a_share(unsigned percent, unsigned cpu_option, unsigned runnable,
                          uint64_t overslept) {
  begin();
  options.compact_cpu = cpu_option;
  fake.runnable = runnable;
  get(16 << 20);
  thin_out(10);
  let_looks_cost();
  unsigned turns = 0;
  uint64_t began = 0, used = 0;
  while (passes() == 0 && turns < 100000) {
    uint64_t cpu = fake.cpu_us, next = turn();
    if (compact_active()) {
      if (turns++ == 0) began = fake.now;
      used += fake.cpu_us - cpu;
      fake.now += overslept;
    }
    fake.now += size_min(next, LOOK_MS);
  }
  uint64_t took = fake.now - began;
  CU_ASSERT_TRUE(turns > 10);
  CU_ASSERT_TRUE(used / 10 / took >= percent - percent / 8);
  CU_ASSERT_TRUE(used / 10 / took <= percent + percent / 8);
  sys = fake_sys;
  end();
}

static void a_pass_takes_its_share_of_a_processor(void) {
  takes_a_share(25, 25, 1, 0);
  takes_a_share(50, 50, 1, 0);
  takes_a_share(15, 15, 1, 0);
  takes_a_share(25, 25, 1, 2);
}

/* As many others as processors: a quarter of it. */
static void with_all_processors_in_demand_it_takes_less(void) {
  unsigned cpus = (unsigned)sys_cpu_count();
  takes_a_share(60, 60, cpus, 0);
  takes_a_share(15, 60, cpus + 1, 0);
  takes_a_share(60, 60, 0, 0); /* unknown */
}

static uint32_t spinning, stop_spinning;

static void *spin(unused void *arg) {
  (void)add_relaxed(&spinning, 1);
  while (load_relaxed(&stop_spinning) == 0) {
  }
  return NULL;
}

/* The kernel's own count: who never waits is in it, and so is who asks. */
static void the_kernel_counts_who_could_run(void) {
  pthread_t threads[3];
  stop_spinning = spinning = 0;
  for (unsigned i = 0; i < array_size(threads); i++)
    CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, spin, NULL), 0);
  while (load_relaxed(&spinning) < array_size(threads)) sys_linux.rest();
  unsigned n = sys_linux.runnable();
  store_relaxed(&stop_spinning, 1);
  for (unsigned i = 0; i < array_size(threads); i++) pthread_join(threads[i], NULL);
  CU_ASSERT_TRUE(n > array_size(threads) && n < 100000);
}

/* ---- asked for ---- */

static void pressure_asks_for_a_pass(void) {
  begin();
  get(2 << 20);
  thin_out(20);
  CU_ASSERT_EQUAL(turn(), UINT64_MAX);
  compaction_pressed();
  (void)turn();
  CU_ASSERT_EQUAL(passes(), 1);
  (void)turn();
  CU_ASSERT_EQUAL(passes(), 1); /* once */
  end();
}

/* One that has begun by itself pauses, to take no more than its share; no longer once it is
 * waited for. */
static void a_pass_under_way_hurries_for_who_asks(void) {
  begin();
  get(16 << 20);
  thin_out(10);
  let_looks_cost();
  uint64_t next = 0, turns = 0;
  while (!compact_active() && turns++ < 100) fake.now += size_min(turn(), LOOK_MS);
  CU_ASSERT_TRUE_FATAL(compact_active());
  for (int i = 0; i < 4; i++) fake.now += next = turn();
  CU_ASSERT_TRUE(compact_active() && next > 1);
  compaction_pressed();
  while (passes() == 0 && turns++ < 100000) {
    next = turn();
    CU_ASSERT_TRUE(passes() != 0 || next == 0);
  }
  CU_ASSERT_EQUAL(passes(), 1);
  while (passes() == 1 && turns++ < 100000) CU_ASSERT_TRUE(turn() <= 1); /* what was asked for */
  CU_ASSERT_EQUAL(passes(), 2);
  sys = fake_sys;
  end();
}

static void without_a_thread_the_caller_works(void) {
  begin();
  options.background = CHOICE_BACKGROUND_OFF;
  get(4 << 20);
  thin_out(2);
  size_t gained = compaction_now();
  CU_ASSERT_TRUE(gained > 0);
  CU_ASSERT_EQUAL(passes(), 1);
  CU_ASSERT_EQUAL(zone_state(), ZONE_CLOSED); /* no zone that nobody could freeze */
  end();
}

static void a_sandbox_ends_meshing(void) {
  begin();
  get(32 << 20);
  thin_out(20);
  (void)turns_for(10000, UINT64_MAX);
  CU_ASSERT_TRUE(zone_now().guest > 0);
  (void)compaction_turn(fake.now, false);
  CU_ASSERT_EQUAL(zone_state(), ZONE_CLOSED);
  CU_ASSERT_EQUAL(zone_now().guest, 0);
  compaction_pressed();
  (void)compaction_turn(fake.now, false);
  CU_ASSERT_EQUAL(zone_now().guest + zone_now().home, 0);
  end();
}

/* ---- forks ---- */

static uint32_t turning;

/* In place of the background thread, which isn't there: answers what forks ask. */
static void *turner(unused void *arg) {
  while (load_acquire(&turning)) {
    (void)compaction_turn(load_relaxed(&fake.now), true);
    sched_yield();
  }
  return NULL;
}

/* Without a background thread to wait for, the engine's lock alone keeps a fork and a pass apart.
 */
static void a_fork_keeps_passes_away(void) {
  pthread_t thread;
  begin();
  get(16 << 20);
  thin_out(20);
  turning = 1;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, turner, NULL), 0);
  for (int i = 0; i < 50; i++) {
    add_relaxed(&fake.now, 100);
    compaction_pressed();
    compaction_before_fork();
    uint64_t before = passes();
    for (int k = 0; k < 100; k++) sched_yield(); /* turns that must do nothing, or wait */
    CU_ASSERT_EQUAL(passes(), before);
    compaction_after_fork_parent();
  }
  store_release(&turning, 0);
  pthread_join(thread, NULL);
  for (int i = 0; passes() == 0 && i < 1000; i++) (void)turn(); /* the last request stands */
  CU_ASSERT_TRUE(passes() > 0);
  end();
}

static bool all_hold(int value) {
  for (size_t i = 0; i < nobjects; i++)
    for (size_t k = 0; k < SIZE; k++)
      if (((char *)objects[i])[k] != (char)value) return false;
  return true;
}

/* The background thread itself, which alone has the zone's descriptors: whoever forks waits until
 * it has frozen the zone, and it begins nothing until the fork is over. */
static void the_thread_freezes_for_a_fork(void) {
  unsigned meshed = 0;
  begin();
  fake.real_clock = true;
  options.background_threshold = 1000;
  background_consider(1000);
  CU_ASSERT_TRUE_FATAL(background_running());
  for (int i = 0; i < 20; i++) {
    if (i % 4 == 0) make_sparse(4 << 20); /* the thread sleeps or only looks: too small a heap */
    (void)compaction_now();
    meshed += zone_now().guest > 0;
    compaction_before_fork();
    CU_ASSERT_EQUAL(zone_state(), ZONE_CLOSED);
    CU_ASSERT_EQUAL(zone_now().guest + zone_now().home, 0);
    CU_ASSERT_FALSE(compact_active());
    /* Everybody's own memory now: what is written here stays here. */
    CU_ASSERT_TRUE(all_hold(1));
    for (size_t k = 0; k < nobjects; k++) memset(objects[k], i + 2, SIZE);
    CU_ASSERT_TRUE(all_hold(i + 2));
    for (size_t k = 0; k < nobjects; k++) memset(objects[k], 1, SIZE);
    compaction_after_fork_parent();
  }
  CU_ASSERT_TRUE(meshed >= 5);
  (void)compaction_now();
  background_stop();
  CU_ASSERT_EQUAL(zone_state(), ZONE_CLOSED); /* nobody could freeze it any more */
  CU_ASSERT_EQUAL(zone_now().guest + zone_now().home, 0);
  CU_ASSERT_TRUE(all_hold(1));
  end();
}

/* What a refused freeze left shared is never handed out twice. */
static void refused_freezes_share_no_object(void) {
  begin();
  make_sparse(8 << 20);
  compaction_pressed();
  (void)turn();
  CU_ASSERT_TRUE(zone_now().guest > 0);
  fake_zone_refuse(FAKE_ZONE_FREEZE, -ENOMEM, 1, 0);
  (void)compaction_turn(fake.now, false);
  CU_ASSERT_TRUE(zone_now().stuck > 0);
  fake_zone_permit();
  compaction_pressed();
  (void)turn();
  get(8 << 20);
  for (size_t i = 0; i < nobjects; i++) *(size_t *)objects[i] = i;
  bool own = true;
  for (size_t i = 0; i < nobjects; i++) own = own && *(size_t *)objects[i] == i;
  CU_ASSERT_TRUE(own);
  end();
}

/* ---- pins for long ---- */

static pfn_t frame_of(size_t i) { return arena_pfn(objects[i]); }

/* An object that another slab's frame holds; nobjects when there is none. */
static size_t a_meshed_object(void) {
  size_t i = 0;
  while (i < nobjects && zone_backing(frame_of(i)) != ZONE_GUEST) i++;
  return i;
}

/* A sparse heap, meshed by the background thread, or by turns of this one. */
static size_t begin_meshed(bool with_thread) {
  begin();
  fake.real_clock = with_thread;
  make_sparse(8 << 20);
  for (size_t i = 0; i < nobjects; i++) memset(objects[i], (int)i, SIZE);
  if (with_thread) {
    options.background_threshold = 1000;
    background_consider(1000);
    CU_ASSERT_TRUE_FATAL(background_running());
    (void)compaction_now();
  } else {
    compaction_pressed();
    (void)turn();
  }
  size_t i = a_meshed_object();
  CU_ASSERT_TRUE_FATAL(i < nobjects);
  return i;
}

static bool holds_own(size_t i) {
  for (size_t k = 0; k < SIZE; k++)
    if (((char *)objects[i])[k] != (char)i) return false;
  return true;
}

static bool all_hold_own(void) {
  for (size_t i = 0; i < nobjects; i++)
    if (!holds_own(i)) return false;
  return true;
}

static void pins_for_long_move_memory_out(void) {
  size_t i = begin_meshed(true), moved = 0;
  CU_ASSERT_EQUAL(quire_pin(objects[i], SIZE, QUIRE_PIN_TRANSIENT), 0);
  CU_ASSERT_TRUE(zone_is_shared(frame_of(i), 1)); /* not for these */
  CU_ASSERT_EQUAL(quire_unpin(objects[i], SIZE, QUIRE_PIN_TRANSIENT), 0);
  for (; i < nobjects && moved < 200; i += 7) {
    bool shared = zone_is_shared(frame_of(i), 1);
    CU_ASSERT_EQUAL(quire_pin(objects[i], SIZE, QUIRE_PIN_LONG), 0);
    CU_ASSERT_FALSE(zone_is_shared(frame_of(i), 1));
    CU_ASSERT_TRUE(holds_own(i));
    moved += shared;
  }
  CU_ASSERT_TRUE(moved > 100);
  CU_ASSERT_EQUAL(zone_state(), ZONE_OPEN);
  CU_ASSERT_TRUE(zone_now().guest > 0);
  CU_ASSERT_TRUE(pin_consistent());
  (void)compaction_now(); /* with these pinned */
  CU_ASSERT_TRUE(pin_consistent());
  CU_ASSERT_TRUE(all_hold_own());
  size_t before = nobjects; /* what the hosts hand out from now on reaches nobody else */
  get(8 << 20);
  for (size_t k = before; k < nobjects; k++) memset(objects[k], (int)k, SIZE);
  CU_ASSERT_TRUE(all_hold_own());
  background_stop();
  CU_ASSERT_TRUE(all_hold_own());
  end();
}

/* The zone stays open, and a part of a guest is frozen: it is no ordinary slab for that. */
static void what_was_moved_out_is_not_thawed(void) {
  size_t i = begin_meshed(false);
  struct slab *guest = memdesc_owner(memmap_get(frame_of(i)));
  CU_ASSERT_EQUAL(guest->state, SLAB_GUEST);
  unsigned first = 0;
  while (zone_backing(pfn_add(guest->pfn, first)) != ZONE_GUEST) first++;
  CU_ASSERT_EQUAL(slab_move_out(pfn_add(guest->pfn, first), 1), 0);
  compaction_pressed();
  (void)turn();
  CU_ASSERT_EQUAL(zone_state(), ZONE_OPEN);
  CU_ASSERT_EQUAL(guest->state, SLAB_GUEST);
  size_t before = nobjects;
  get(8 << 20);
  for (size_t k = before; k < nobjects; k++) memset(objects[k], (int)k, SIZE);
  CU_ASSERT_TRUE(all_hold_own());
  (void)compaction_turn(fake.now, false);
  end();
}

/* Neither pinned nor anything else is different then. */
static void refused_pins_change_nothing(void) {
  size_t i = begin_meshed(false);
  struct slab *slab = memdesc_owner(memmap_get(frame_of(i)));
  CU_ASSERT_FALSE(background_running()); /* an open zone, and nobody to ask */
  CU_ASSERT_EQUAL(quire_pin(objects[i], SIZE, QUIRE_PIN_LONG), EBUSY);
  CU_ASSERT_EQUAL(zone_backing(frame_of(i)), ZONE_GUEST);
  CU_ASSERT_EQUAL(slab->pins, 0);
  CU_ASSERT_EQUAL(pin_frames(), 0);
  (void)compaction_turn(fake.now, false);
  end();
  i = begin_meshed(true);
  slab = memdesc_owner(memmap_get(frame_of(i)));
  fake_zone_refuse(FAKE_ZONE_FREEZE, -ENOMEM, 1, 1);
  CU_ASSERT_EQUAL(quire_pin(objects[i], SIZE, QUIRE_PIN_LONG), EBUSY);
  CU_ASSERT_EQUAL(zone_backing(frame_of(i)), ZONE_GUEST);
  CU_ASSERT_EQUAL(slab->pins, 0);
  CU_ASSERT_EQUAL(pin_frames(), 0);
  fake.refuse[FAKE_POPULATE] = -ENOMEM;
  CU_ASSERT_EQUAL(quire_pin(objects[i], SIZE, QUIRE_PIN_LONG), EBUSY);
  CU_ASSERT_EQUAL(slab->pins, 0);
  fake.refuse[FAKE_POPULATE] = 0;
  CU_ASSERT_EQUAL(quire_pin(objects[i], SIZE, QUIRE_PIN_LONG), 0);
  CU_ASSERT_TRUE(all_hold_own());
  CU_ASSERT_EQUAL(quire_unpin(objects[i], SIZE, QUIRE_PIN_LONG), 0);
  background_stop();
  end();
}

static uint32_t holding, held, over;

/* Stands for a callback of the program's that waits: the thread comes to nothing else. */
static void hold_here(enum fake_zone_call call, unused char *p, unused char *to,
                      unused size_t length) {
  if (call != FAKE_ZONE_SHIFT || exchange_acq_rel(&holding, 0) == 0) return;
  store_release(&held, 1);
  while (load_acquire(&held)) sched_yield();
}

static void *compact_once(unused void *arg) {
  (void)compaction_now();
  store_release(&over, 1);
  return NULL;
}

/* Such a callback may be waiting for the very thread that pins. */
static void a_pin_does_not_wait_for_ever(void) {
  size_t i = begin_meshed(true);
  pthread_t thread;
  size_t before = nobjects;
  get(8 << 20);
  for (size_t k = nobjects; k-- > before;) {
    if (k % 8 == 0) continue;
    bin_free_now(class_of(SIZE), objects[k]);
    objects[k] = objects[--nobjects];
  }
  for (size_t k = before; k < nobjects; k++) memset(objects[k], (int)k, SIZE);
  holding = 1;
  held = over = 0;
  fake_zone.seen = hold_here;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, compact_once, NULL), 0);
  while (!load_acquire(&held) && !load_acquire(&over)) sched_yield();
  CU_ASSERT_TRUE_FATAL(load_acquire(&held));
  CU_ASSERT_EQUAL(quire_pin(objects[i], SIZE, QUIRE_PIN_LONG), EBUSY);
  CU_ASSERT_EQUAL(pin_frames(), 0);
  store_release(&held, 0);
  pthread_join(thread, NULL);
  fake_zone.seen = NULL;
  CU_ASSERT_EQUAL(quire_pin(objects[i], SIZE, QUIRE_PIN_LONG), 0);
  CU_ASSERT_EQUAL(quire_unpin(objects[i], SIZE, QUIRE_PIN_LONG), 0);
  background_stop();
  CU_ASSERT_TRUE(all_hold_own());
  end();
}

static uint32_t pinning;
static uint64_t pinned_in_all, wrong_pins;

static void *pin_always(void *arg) {
  struct random r = {(uintptr_t)arg};
  while (load_acquire(&pinning)) {
    size_t i = random_below(&r, nobjects);
    int err = quire_pin(objects[i], SIZE, QUIRE_PIN_LONG);
    if (err != 0) {
      if (err != EBUSY) add_relaxed(&wrong_pins, 1);
      continue;
    }
    if (!holds_own(i) || zone_is_shared(frame_of(i), 1)) add_relaxed(&wrong_pins, 1);
    sched_yield();
    if (quire_unpin(objects[i], SIZE, QUIRE_PIN_LONG) != 0) add_relaxed(&wrong_pins, 1);
    add_relaxed(&pinned_in_all, 1);
  }
  return NULL;
}

/* While passes are made, forks freeze, and the thread is stopped and started again. Nobody stores
 * meanwhile: the fake moves pages by copying them. */
static void pins_forks_and_stops_meet(void) {
  pthread_t threads[3];
  (void)begin_meshed(true);
  pinning = 1;
  pinned_in_all = wrong_pins = 0;
  for (uintptr_t i = 0; i < array_size(threads); i++)
    CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, pin_always, (void *)(i + 1)), 0);
  for (int i = 0; i < 60; i++) {
    (void)compaction_now();
    uint64_t before = load_relaxed(&pinned_in_all);
    while (load_relaxed(&pinned_in_all) - before < 20) sched_yield();
    if (i % 3 == 0) {
      compaction_before_fork();
      CU_ASSERT_EQUAL(zone_now().guest + zone_now().home, 0);
      compaction_after_fork_parent();
    }
    if (i % 16 == 15) {
      background_stop();
      background_consider(1000);
    }
  }
  store_release(&pinning, 0);
  for (size_t i = 0; i < array_size(threads); i++) pthread_join(threads[i], NULL);
  CU_ASSERT_EQUAL(wrong_pins, 0);
  CU_ASSERT_EQUAL(pin_frames(), 0);
  background_stop();
  CU_ASSERT_TRUE(all_hold_own());
  end();
}

static void a_child_begins_anew(void) {
  begin();
  get(32 << 20);
  thin_out(20);
  (void)turns_for(10000, UINT64_MAX);
  CU_ASSERT_EQUAL(passes(), 1);
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  compaction_before_fork();
  compaction_after_fork_child();
  CU_ASSERT_EQUAL(zone_state(), ZONE_CLOSED);
  CU_ASSERT_FALSE(compact_active());
  make_sparse(8 << 20);
  compaction_pressed();
  (void)turn();
  CU_ASSERT_EQUAL(passes(), 2);
  CU_ASSERT_TRUE(zone_now().guest > 0);
  end();
}

/* How long the process stays unmeshed after it has been frozen by a sandbox or a fork. */
static uint64_t unmeshed_for(void) {
  uint64_t from = fake.now;
  while (zone_now().guest == 0 && fake.now - from < 2000000) {
    uint64_t next = turn();
    fake.now += size_max(1, size_min(next, LOOK_MS));
  }
  return fake.now - from;
}

static void each_freeze_doubles_the_pause(void) {
  uint64_t last = 0;
  begin();
  make_sparse(24 << 20);
  (void)unmeshed_for();
  CU_ASSERT_TRUE(zone_now().guest > 0);
  for (int i = 0; i < 5; i++) {
    (void)compaction_turn(fake.now, false); /* freezes as a fork does */
    CU_ASSERT_EQUAL(zone_now().guest, 0);
    make_sparse(24 << 20);
    uint64_t pause = unmeshed_for();
    CU_ASSERT_TRUE(zone_now().guest > 0);
    if (i > 0) CU_ASSERT_TRUE(pause >= 2 * last - 10 * LOOK_MS && pause <= 2 * last + 4000);
    last = pause;
  }
  /* A long time without any: as at first. */
  fake.now += 10 * last;
  (void)compaction_turn(fake.now, false);
  make_sparse(24 << 20);
  CU_ASSERT_TRUE(unmeshed_for() < last / 2);
  end();
}

static const struct unit_test tests[] = {
    {"nothing_to_gain_is_no_turn", nothing_to_gain_is_no_turn},
    {"a_large_slack_begins_a_pass", a_large_slack_begins_a_pass},
    {"a_restless_heap_is_waited_for", a_restless_heap_is_waited_for},
    {"off_never_begins", off_never_begins},
    {"aggressive_begins_for_less", aggressive_begins_for_less},
    {"without_gain_it_backs_off", without_gain_it_backs_off},
    {"a_pass_takes_its_share_of_a_processor", a_pass_takes_its_share_of_a_processor},
    {"with_all_processors_in_demand_it_takes_less", with_all_processors_in_demand_it_takes_less},
    {"the_kernel_counts_who_could_run", the_kernel_counts_who_could_run},
    {"pressure_asks_for_a_pass", pressure_asks_for_a_pass},
    {"a_pass_under_way_hurries_for_who_asks", a_pass_under_way_hurries_for_who_asks},
    {"without_a_thread_the_caller_works", without_a_thread_the_caller_works},
    {"a_sandbox_ends_meshing", a_sandbox_ends_meshing},
    {"a_fork_keeps_passes_away", a_fork_keeps_passes_away},
    {"the_thread_freezes_for_a_fork", the_thread_freezes_for_a_fork},
    {"refused_freezes_share_no_object", refused_freezes_share_no_object},
    {"pins_for_long_move_memory_out", pins_for_long_move_memory_out},
    {"what_was_moved_out_is_not_thawed", what_was_moved_out_is_not_thawed},
    {"refused_pins_change_nothing", refused_pins_change_nothing},
    {"a_pin_does_not_wait_for_ever", a_pin_does_not_wait_for_ever},
    {"pins_forks_and_stops_meet", pins_forks_and_stops_meet},
    {"a_child_begins_anew", a_child_begins_anew},
    {"each_freeze_doubles_the_pause", each_freeze_doubles_the_pause},
    {0},
};

int main(void) { return zone_unit_main("compaction", tests); }
