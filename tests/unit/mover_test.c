/* Taking memory away and putting it back, with every step refused: contents are always there
 * again, nothing stays watched, nobody is left waiting. */
#include "page/mover.h"

#include <errno.h>
#include <string.h>

#include "arch/sys.h"
#include "page/zone_impl.h"
#include "tests/unit/check.h"
#include "tests/unit/fake_zone.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)32 * HUGEPAGE_SIZE)

enum { N = 24, HOSTS = 100 }; /* frames of a run; where hosts' frames begin */

static pfn_t first;

static pfn_t frame(size_t i) { return pfn_add(first, i); }
static char *page(size_t i) { return arena_addr(frame(i)); }

/* Every third frame was never touched. */
static bool is_hole(size_t i) { return i % 3 == 2; }

static void write_run(void) {
  for (size_t i = 0; i < N; i++)
    if (!is_hole(i)) memset(page(i), (int)i + 1, FRAME_SIZE);
}

static bool filled_with(const char *p, int value) {
  for (size_t k = 0; k < FRAME_SIZE; k++)
    if (p[k] != (char)value) return false;
  return true;
}

static bool run_intact(void) {
  for (size_t i = 0; i < N; i++)
    if (!filled_with(page(i), is_hole(i) ? 0 : (int)i + 1)) return false;
  return true;
}

static bool staging_empty(void) { return fake_resident(zone.staging, HUGEPAGE_SIZE) == 0; }

static void begin(void) {
  struct frames_run run;
  zone_heap_begin(ARENA);
  CU_ASSERT_EQUAL_FATAL(frames_alloc(HUGEPAGE_FRAMES, 1, FRAMES_SLAB, &run), 0);
  first = run.pfn;
  CU_ASSERT_EQUAL_FATAL(zone_open(false, -1), ZONE_OPEN);
  write_run();
  fake_zone_clear_log();
}

static void end(void) {
  fake_zone_permit();
  CU_ASSERT_TRUE(fake_zone_quiet());
  CU_ASSERT_TRUE(staging_empty());
  CU_ASSERT_TRUE(zone_consistent());
  CU_ASSERT_PTR_NULL(fake_zone.wrong);
  zone_fini();
  CU_ASSERT_EQUAL(fake_zone.open_files, 0);
  zone_heap_end();
}

/* What compaction does with a run: frames [4, 8) and [12, 20) go to hosts, the rest comes back.
 * Returns how many of the two parts were mapped. */
static unsigned move(int *err) {
  static const size_t parts[2][2] = {{4, 4}, {12, 8}};
  struct lift lift;
  unsigned mapped = 0;
  size_t at = 0;
  *err = lift_begin(&lift, frame(0), N);
  if (*err != 0) return 0;
  for (unsigned k = 0; k < 2; k++) {
    size_t from = parts[k][0], n = parts[k][1];
    if (from > at) lift_put_back(&lift, at, from - at);
    memcpy(zone_view(frame(HOSTS + from)), lift.staging + from * FRAME_SIZE, n * FRAME_SIZE);
    if (lift_map(&lift, from, n, frame(HOSTS + from)) == 0)
      mapped++;
    else
      lift_put_back(&lift, from, n);
    at = from + n;
  }
  lift_put_back(&lift, at, N - at);
  lift_end(&lift);
  return mapped;
}

static size_t guests(void) {
  size_t n = 0;
  for (size_t i = 0; i < N; i++) n += zone_backing(frame(i)) == ZONE_GUEST;
  return n;
}

static bool backed_as(unsigned mapped) {
  return guests() == (mapped == 2   ? 12u
                      : mapped == 0 ? 0u
                                    : guests()) &&
         (mapped != 1 || guests() == 4 || guests() == 8);
}

/* ---- as it should be ---- */

static void what_is_lifted_is_gone_until_it_is_back(void) {
  struct lift lift;
  begin();
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), 0);
  CU_ASSERT_EQUAL(fake_resident(page(0), N * FRAME_SIZE), 0);
  CU_ASSERT_EQUAL(lift.nframes, N);
  for (size_t i = 0; i < N; i++)
    CU_ASSERT_TRUE(filled_with(lift.staging + i * FRAME_SIZE, is_hole(i) ? 0 : (int)i + 1));
  CU_ASSERT_FALSE(fake_zone_quiet()); /* others wait */
  lift_put_back(&lift, 0, N);
  lift_end(&lift);
  CU_ASSERT_TRUE(run_intact());
  end();
}

static void holes_stay_holes(void) {
  struct lift lift;
  begin();
  size_t before = fake_resident(page(0), N * FRAME_SIZE);
  CU_ASSERT_EQUAL(before, (N - N / 3) * FRAME_SIZE);
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), 0);
  lift_put_back(&lift, 0, N);
  lift_end(&lift);
  CU_ASSERT_EQUAL(fake_resident(page(0), N * FRAME_SIZE), before);
  CU_ASSERT_TRUE(run_intact());
  end();
}

static void parts_go_to_hosts(void) {
  int err;
  begin();
  CU_ASSERT_EQUAL(move(&err), 2);
  CU_ASSERT_EQUAL(err, 0);
  CU_ASSERT_TRUE(run_intact());
  CU_ASSERT_EQUAL(guests(), 12);
  CU_ASSERT_EQUAL(zone_frame_of(frame(13)).n, frame(HOSTS + 13).n);
  end();
}

static int place_in_log(enum fake_zone_call call, int nth) {
  for (unsigned i = 0; i < fake_zone.logged && i < FAKE_ZONE_LOG; i++)
    if (fake_zone.log[i].call == call && nth-- == 0) return (int)i;
  return -1;
}

/* Watching comes before moving, waking after the last mapping. */
static void steps_come_in_order(void) {
  int err;
  begin();
  (void)move(&err);
  CU_ASSERT_EQUAL(fake_zone_logged(FAKE_ZONE_WATCH), 2); /* staging and the run */
  CU_ASSERT_TRUE(place_in_log(FAKE_ZONE_WATCH, 1) < place_in_log(FAKE_ZONE_SHIFT, 0));
  CU_ASSERT_TRUE(place_in_log(FAKE_ZONE_SHIFT, 0) < place_in_log(FAKE_ZONE_SHARE, 0));
  CU_ASSERT_TRUE(place_in_log(FAKE_ZONE_SHARE, 1) < place_in_log(FAKE_ZONE_WAKE, 0));
  CU_ASSERT_EQUAL(fake_zone_logged(FAKE_ZONE_WAKE), 1);
  int wake = place_in_log(FAKE_ZONE_WAKE, 0);
  CU_ASSERT_TRUE_FATAL(wake >= 0);
  CU_ASSERT_PTR_EQUAL(fake_zone.log[wake].p, page(0));
  CU_ASSERT_EQUAL(fake_zone.log[wake].length, N * FRAME_SIZE);
  end();
}

static void a_run_without_memory_is_lifted_too(void) {
  struct lift lift;
  begin();
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(200), 32), 0);
  (void)sys->advise_huge(zone.staging, HUGEPAGE_SIZE, true); /* the fake had advised against */
  for (size_t i = 0; i < 32; i++) CU_ASSERT_TRUE(filled_with(lift.staging + i * FRAME_SIZE, 0));
  lift_put_back(&lift, 0, 32);
  lift_end(&lift);
  /* Whatever reading it left behind (a kernel may map a hugepage of zeros) must not stand in the
   * way of a longer run. */
  CU_ASSERT_TRUE(staging_empty());
  memset(page(0), 9, 64 * FRAME_SIZE);
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), 64), 0);
  lift_put_back(&lift, 0, 64);
  lift_end(&lift);
  for (size_t i = 0; i < 64; i++) CU_ASSERT_TRUE(filled_with(page(i), 9));
  end();
}

/* ---- refusals ---- */

static void refused_watches_change_nothing(void) {
  for (unsigned nth = 1; nth <= 2; nth++) {
    struct lift lift;
    begin();
    fake_zone_refuse(FAKE_ZONE_WATCH, -ENOMEM, nth, 1);
    CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), -ENOMEM);
    CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_SHIFT], 0);
    CU_ASSERT_TRUE(fake_zone_quiet());
    CU_ASSERT_TRUE(run_intact());
    int err;
    CU_ASSERT_EQUAL(move(&err), 2);
    CU_ASSERT_TRUE(run_intact());
    end();
  }
}

static bool populated;

static void note_populate(enum fake_call call, char *p, unused char *to, size_t length) {
  populated = populated || (call == FAKE_POPULATE && p == page(0) && length == N * FRAME_SIZE);
}

/* Once, as after a fork: the pages are written to, and then they go. */
static void a_page_that_was_shared_is_tried_again(void) {
  int err;
  begin();
  populated = false;
  fake.seen = note_populate;
  fake_zone_refuse(FAKE_ZONE_SHIFT, -EBUSY, 1, 1);
  CU_ASSERT_EQUAL(move(&err), 2);
  CU_ASSERT_EQUAL(err, 0);
  CU_ASSERT_TRUE(populated);
  CU_ASSERT_TRUE(run_intact());
  end();
}

static void a_pinned_page_stays(void) {
  for (size_t i = 0; i < N; i += 3) {
    int err;
    begin();
    fake_zone.pinned = page(i);
    CU_ASSERT_EQUAL(move(&err), 0);
    CU_ASSERT_EQUAL(err, -EBUSY);
    CU_ASSERT_TRUE(fake_zone_quiet());
    CU_ASSERT_TRUE(staging_empty());
    CU_ASSERT_EQUAL(guests(), 0);
    CU_ASSERT_TRUE(run_intact());
    end();
  }
}

static void pinned_for_one_attempt(enum fake_call call, unused char *p, unused char *to,
                                   unused size_t length) {
  if (call == FAKE_POPULATE) fake_zone.pinned = NULL;
}

/* A part had moved before the first attempt failed. */
static void a_partial_move_is_undone_and_tried_again(void) {
  int err;
  begin();
  fake_zone.pinned = page(15);
  fake.seen = pinned_for_one_attempt;
  CU_ASSERT_EQUAL(move(&err), 2);
  CU_ASSERT_EQUAL(err, 0);
  CU_ASSERT_TRUE(run_intact());
  end();
}

static void *migrating[2]; /* by attempt */

/* With staging watched another attempt to take pages away begins. */
static void migrate_again(enum fake_zone_call call, char *p, unused char *to,
                          unused size_t length) {
  if (call != FAKE_ZONE_WATCH || p != zone.staging) return;
  fake_zone.migrating = migrating[0];
  migrating[0] = migrating[1];
}

/* The kernel migrates a page meanwhile, and more have moved than it says. */
static void pages_that_move_uncounted_are_not_lost(void) {
  for (int attempts = 1; attempts <= 2; attempts++)
    for (size_t i = 0; i < N; i++) {
      int err;
      if (is_hole(i)) continue;
      begin();
      migrating[0] = page(i);
      migrating[1] = attempts == 2 ? page(i) : NULL;
      fake_zone.seen = migrate_again;
      unsigned mapped = move(&err);
      CU_ASSERT_EQUAL(err, attempts == 2 ? -EEXIST : 0);
      CU_ASSERT_EQUAL(mapped, attempts == 2 ? 0 : 2);
      fake_zone.seen = NULL;
      CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_REPLACE], 0);
      CU_ASSERT_TRUE(fake_zone_quiet());
      CU_ASSERT_TRUE(run_intact());
      CU_ASSERT_TRUE(backed_as(mapped));
      end();
    }
}

static void pages_that_come_back_uncounted_are_not_lost(void) {
  for (size_t i = 0; i < N; i++) {
    struct lift lift;
    begin();
    CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), 0);
    fake_zone.migrating = lift.staging + i * FRAME_SIZE;
    lift_put_back(&lift, 0, N);
    lift_end(&lift);
    CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_REPLACE], 0);
    CU_ASSERT_TRUE(run_intact());
    end();
  }
}

/* It isn't known where a page is: nothing is replaced before it is. */
static void what_is_not_known_to_be_away_is_not_replaced(void) {
  struct lift lift;
  begin();
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), 0);
  lift_put_back(&lift, 0, N / 2);
  fake_zone_refuse(FAKE_ZONE_SHIFT, -EPERM, 1, 0);
  fake_zone_refuse(FAKE_ZONE_HOLDS, -EACCES, 1, 3 * N);
  lift_put_back(&lift, 0, N);
  lift_end(&lift);
  CU_ASSERT_EQUAL(fake_zone_logged(FAKE_ZONE_REPLACE), N / 2 - N / 2 / 3);
  CU_ASSERT_TRUE(fake_zone_quiet());
  CU_ASSERT_TRUE(run_intact());
  end();
}

static void refused_population_is_no_failure(void) {
  int err;
  begin();
  fake.refuse[FAKE_POPULATE] = -EINVAL;
  fake_zone_refuse(FAKE_ZONE_SHIFT, -EBUSY, 1, 1);
  CU_ASSERT_EQUAL(move(&err), 2);
  CU_ASSERT_TRUE(run_intact());
  end();
}

static void refused_moves_change_nothing(void) {
  static const int errors[] = {-EINVAL, -ENOMEM, -EEXIST, -ENOENT, -EBUSY};
  for (unsigned i = 0; i < array_size(errors); i++) {
    int err;
    begin();
    fake_zone_refuse(FAKE_ZONE_SHIFT, errors[i], 1, 0);
    CU_ASSERT_EQUAL(move(&err), 0);
    CU_ASSERT_EQUAL(err, errors[i]);
    CU_ASSERT_TRUE(fake_zone_quiet());
    CU_ASSERT_TRUE(run_intact());
    end();
  }
}

/* The staging range can't be read while it is watched: back with everything. */
static void staging_that_stays_watched_is_not_used(void) {
  int err;
  begin();
  fake_zone_refuse(FAKE_ZONE_UNWATCH, -EIO, 1, 1);
  CU_ASSERT_EQUAL(move(&err), 0);
  CU_ASSERT_NOT_EQUAL(err, 0);
  CU_ASSERT_TRUE(run_intact());
  CU_ASSERT_EQUAL(move(&err), 2); /* it goes on being possible */
  CU_ASSERT_TRUE(run_intact());
  end();
}

/* Nobody may wait for ever: the watch itself goes, and with it everything that is watched. */
static void a_run_that_stays_watched_ends_the_watch(void) {
  int err;
  begin();
  fake_zone_refuse(FAKE_ZONE_UNWATCH, -EIO, 2, 0);
  CU_ASSERT_EQUAL(move(&err), 2);
  CU_ASSERT_TRUE(run_intact());
  CU_ASSERT_TRUE(fake_zone_quiet());
  fake_zone_permit();
  CU_ASSERT_EQUAL(move(&err), 0);
  CU_ASSERT_EQUAL(err, -EBADF);
  CU_ASSERT_TRUE(run_intact());
  /* A new zone has a new one. */
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
  CU_ASSERT_EQUAL(zone_plain(frame(0), N), 0);
  write_run();
  CU_ASSERT_EQUAL(move(&err), 2);
  CU_ASSERT_TRUE(run_intact());
  end();
}

static void who_is_not_woken_does_not_wait_for_ever(void) {
  int err;
  begin();
  fake_zone_refuse(FAKE_ZONE_WAKE, -EINVAL, 1, 0);
  CU_ASSERT_EQUAL(move(&err), 2);
  CU_ASSERT_TRUE(run_intact());
  CU_ASSERT_TRUE(fake_zone_quiet());
  end();
}

static void refused_maps_are_put_back(void) {
  for (unsigned nth = 1; nth <= 3; nth++) {
    int err;
    begin();
    fake_zone_refuse(FAKE_ZONE_SHARE, -ENOMEM, nth, nth == 3 ? 0 : 1);
    if (nth == 3) fake_zone_refuse(FAKE_ZONE_SHARE, -ENOMEM, 1, 0);
    CU_ASSERT_EQUAL(move(&err), nth == 3 ? 0 : 1);
    CU_ASSERT_EQUAL(guests(), nth == 1 ? 8 : nth == 2 ? 4 : 0);
    CU_ASSERT_TRUE(run_intact());
    end();
  }
}

/* Pages that can't be moved back are put back by their entries in the page table; and if that
 * fails, it is tried until it doesn't. */
static void what_must_come_back_does(void) {
  for (unsigned failures = 1; failures <= 5; failures++) {
    struct lift lift;
    begin();
    CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), 0);
    fake_zone_refuse(FAKE_ZONE_SHIFT, -EINVAL, 1, 0);
    fake_zone_refuse(FAKE_ZONE_REPLACE, -ENOMEM, 1, failures);
    lift_put_back(&lift, 0, 5);
    lift_put_back(&lift, 5, N - 5);
    lift_end(&lift);
    CU_ASSERT_TRUE(fake_zone.calls[FAKE_ZONE_REPLACE] > failures);
    CU_ASSERT_TRUE(fake_zone_quiet());
    CU_ASSERT_TRUE(run_intact());
    end();
  }
}

/* One page can't be moved back: it goes the other way, and all others by themselves. */
static void a_partial_way_back_goes_on_by_the_other(void) {
  struct lift lift;
  begin();
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), 0);
  fake_zone.pinned = lift.staging + 9 * FRAME_SIZE;
  lift_put_back(&lift, 0, N);
  lift_end(&lift);
  CU_ASSERT_EQUAL(fake_zone_logged(FAKE_ZONE_REPLACE), 1);
  CU_ASSERT_TRUE(run_intact());
  end();
}

/* What stays in the staging range would look like somebody's contents the next time. */
static void staging_that_is_not_discarded_is_never_taken_for_contents(void) {
  struct lift lift;
  int err;
  begin();
  fake.refuse[FAKE_DISCARD] = -EINVAL; /* as on locked memory */
  CU_ASSERT_EQUAL(move(&err), 2);
  CU_ASSERT_TRUE(run_intact());
  /* Frame 212 was never touched, and lies where frame 12 lay in staging. */
  if (lift_begin(&lift, frame(200), 16) == 0) {
    for (size_t i = 0; i < 16; i++) CU_ASSERT_TRUE(filled_with(lift.staging + i * FRAME_SIZE, 0));
    lift_put_back(&lift, 0, 16);
    lift_end(&lift);
  }
  for (size_t i = 0; i < 16; i++) CU_ASSERT_TRUE(filled_with(page(200 + i), 0));
  fake.refuse[FAKE_DISCARD] = 0;
  end();
}

static void a_closed_zone_lifts_nothing(void) {
  struct lift lift;
  begin();
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), -EBADF);
  CU_ASSERT_TRUE(run_intact());
  end();
}

static void memory_of_the_zone_is_not_lifted_again(void) {
  struct lift lift;
  int err;
  begin();
  (void)move(&err);
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), -EINVAL);
  CU_ASSERT_TRUE(fake_zone_quiet());
  CU_ASSERT_TRUE(run_intact());
  end();
}

/* Every call of a move, refused once, and twice running. */
static void each_call_refused(void) {
  unsigned refused = 0;
  for (unsigned times = 1; times <= 2; times++)
    for (enum fake_zone_call call = FAKE_ZONE_SHARE; call < FAKE_ZONE_CALLS; call++)
      for (unsigned n = 1; n < 20; n++) {
        int err;
        begin();
        fake_zone_refuse(call, -ENOMEM, n, times);
        unsigned mapped = move(&err);
        bool reached = fake_zone.calls[call] >= n;
        refused += reached;
        CU_ASSERT_TRUE(run_intact());
        CU_ASSERT_TRUE(backed_as(mapped));
        end();
        if (!reached) break;
      }
  CU_ASSERT_TRUE(refused >= 20);
}

/* The same for memory's calls. */
static void each_memory_call_refused(void) {
  for (unsigned n = 1; n < 30; n++) {
    int err;
    begin();
    fake_zone_refuse(FAKE_ZONE_SHIFT, -EBUSY, 1, 1);
    fake.refuse_at = fake.total + n;
    unsigned mapped = move(&err);
    bool reached = fake.total >= fake.refuse_at;
    fake.refuse_at = 0;
    CU_ASSERT_TRUE(run_intact());
    CU_ASSERT_TRUE(backed_as(mapped));
    end();
    if (!reached) break;
  }
}

/* Runs of all lengths and places, parts that go and come back by chance, refusals by chance. */
static void random_lifts_lose_nothing(void) {
  enum { FRAMES = 256 };
  struct random r = {test_seed()};
  uint64_t steps = test_steps(20000) / 10;
  begin();
  for (size_t i = 0; i < FRAMES; i++) memset(page(i), (int)(i % 251), FRAME_SIZE);
  for (uint64_t step = 0; step < steps; step++) {
    struct lift lift;
    size_t n = 1 + random_below(&r, 64), at = random_below(&r, FRAMES - n + 1);
    enum fake_zone_call call =
        FAKE_ZONE_SHARE + random_below(&r, FAKE_ZONE_CALLS - FAKE_ZONE_SHARE);
    if (call != FAKE_ZONE_WATCH_OPEN)
      fake_zone_refuse(call, -ENOMEM, 1 + (unsigned)random_below(&r, 4), 1);
    if (random_below(&r, 2) == 0) fake_zone.migrating = page(at + random_below(&r, n));
    if (lift_begin(&lift, frame(at), n) == 0) {
      if (random_below(&r, 2) == 0)
        fake_zone.migrating = lift.staging + random_below(&r, n) * FRAME_SIZE;
      for (size_t i = 0, k; i < n; i += k) {
        k = 1 + random_below(&r, n - i);
        pfn_t host = frame(FRAMES + random_below(&r, HUGEPAGE_FRAMES - FRAMES - k + 1));
        memcpy(zone_view(host), lift.staging + i * FRAME_SIZE, k * FRAME_SIZE);
        bool go = random_below(&r, 2) == 0;
        if (!go || lift_map(&lift, i, k, host) != 0) lift_put_back(&lift, i, k);
        if (go && zone_backing(frame(at + i)) == ZONE_GUEST) {
          /* Its contents are the zone's until the host is used again: read them now. */
          bool same = true;
          for (size_t j = 0; j < k; j++)
            same = same && filled_with(page(at + i + j), (int)((at + i + j) % 251));
          CU_ASSERT_TRUE(same);
        }
      }
      lift_end(&lift);
    }
    fake_zone_permit();
    CU_ASSERT_TRUE(fake_zone_quiet());
    /* Private memory again for the next. */
    for (size_t i = 0; i < FRAMES; i++) {
      if (zone_backing(frame(i)) == ZONE_PLAIN) {
        CU_ASSERT_TRUE(filled_with(page(i), (int)(i % 251)));
        continue;
      }
      CU_ASSERT_EQUAL(zone_plain(frame(i), 1), 0);
      memset(page(i), (int)(i % 251), FRAME_SIZE);
    }
    if (zone.watch < 0) { /* given up for a refusal */
      (void)zone_freeze();
      CU_ASSERT_EQUAL_FATAL(zone_open(false, -1), ZONE_OPEN);
    }
  }
  end();
}

/* ---- how long others wait ---- */

static unsigned each_us, frame_us; /* what a lift costs here: so much, and so much for each frame */

static void take_time(enum fake_zone_call call, unused char *p, unused char *to, size_t length) {
  if (call == FAKE_ZONE_SHIFT) fake.cpu_us += each_us + frame_us * (length / FRAME_SIZE);
}

static void lift_once(size_t n) {
  struct lift lift;
  CU_ASSERT_EQUAL_FATAL(lift_begin(&lift, frame(0), n), 0);
  fake_zone.seen = NULL; /* its way back is not of interest */
  lift_put_back(&lift, 0, n);
  fake_zone.seen = take_time;
  lift_end(&lift);
}

static unsigned lift_often(unsigned most) {
  unsigned n = 0;
  for (int i = 0; i < 400; i++) lift_once(n = (unsigned)size_min(lift_longest(), most));
  return n;
}

static void begin_timed(unsigned budget_us, unsigned each, unsigned per_frame) {
  begin();
  lift_configure(budget_us);
  each_us = each;
  frame_us = per_frame;
  fake_zone.seen = take_time;
}

static void end_timed(void) {
  fake_zone.seen = NULL;
  lift_configure(200);
  end();
}

/* Whatever lifts cost: as long as the budget allows, and no longer. */
static void runs_are_as_long_as_the_budget_allows(void) {
  static const struct {
    unsigned budget_us, each_us, frame_us;
  } cases[] = {{200, 40, 4},    {200, 5, 9},  {200, 150, 5},
               {1000, 100, 20}, {100, 0, 10}, {50, 20, 2}};
  for (unsigned i = 0; i < array_size(cases); i++) {
    begin_timed(cases[i].budget_us, cases[i].each_us, cases[i].frame_us);
    unsigned n = lift_often(HUGEPAGE_FRAMES), took = each_us + frame_us * n;
    CU_ASSERT_TRUE(took <= cases[i].budget_us);
    CU_ASSERT_TRUE(took + 3 * frame_us >= cases[i].budget_us);
    end_timed();
  }
}

/* A budget that even one frame exceeds, and one that nothing does. */
static void a_run_is_a_frame_at_least(void) {
  begin_timed(10, 500, 10);
  CU_ASSERT_EQUAL(lift_often(HUGEPAGE_FRAMES), 1);
  CU_ASSERT_EQUAL(lift_longest(), 1);
  end_timed();
  begin_timed(100000, 10, 1);
  CU_ASSERT_EQUAL(lift_often(HUGEPAGE_FRAMES), HUGEPAGE_FRAMES);
  end_timed();
  begin_timed(200, 0, 0); /* faster than the clock */
  CU_ASSERT_EQUAL(lift_often(HUGEPAGE_FRAMES), HUGEPAGE_FRAMES);
  end_timed();
}

/* Slower memory shortens runs in a few lifts; it takes many for them to be long again. One lift
 * that took ten times as long is nearly no reason. */
static void it_is_quick_to_believe_in_slowness(void) {
  begin_timed(200, 20, 4);
  unsigned before = lift_often(16);
  CU_ASSERT_EQUAL(before, 16);
  before = lift_longest();
  frame_us = 80;
  lift_once(16);
  CU_ASSERT_TRUE(lift_longest() < before && lift_longest() >= before / 2);
  for (int i = 0; i < 12; i++) lift_once(16);
  CU_ASSERT_EQUAL(lift_longest(), 1);
  frame_us = 4;
  for (int i = 0; i < 12; i++) lift_once(16);
  CU_ASSERT_TRUE(lift_longest() < before / 2);
  for (int i = 0; i < 400; i++) lift_once(16);
  CU_ASSERT_TRUE(lift_longest() + 1 >= before);
  end_timed();
}

/* What is refused has kept others waiting too. */
static void refused_lifts_count(void) {
  struct lift lift;
  begin_timed(200, 900, 0);
  unsigned before = lift_longest();
  fake_zone.pinned = page(10);
  CU_ASSERT_EQUAL(lift_begin(&lift, frame(0), N), -EBUSY);
  fake_zone.pinned = NULL;
  CU_ASSERT_TRUE(lift_longest() < before);
  end_timed();
}

/* Who has worked for long rests before others come to wait for it, and not while they do. */
static void a_lift_begins_rested(void) {
  struct lift lift;
  begin_timed(200, 100, 0);
  lift_once(1);
  fake.rests = 0;
  for (int i = 0; i < 5; i++) lift_once(1);
  CU_ASSERT_EQUAL(fake.rests, 1);
  fake.cpu_us += 10000; /* at something else */
  CU_ASSERT_EQUAL_FATAL(lift_begin(&lift, frame(0), 1), 0);
  CU_ASSERT_EQUAL(fake.rests, 2);
  fake.cpu_us += 10000;
  lift_put_back(&lift, 0, 1);
  lift_end(&lift);
  CU_ASSERT_EQUAL(fake.rests, 2);
  end_timed();
}

/* What others in the kernel do with the zone's mappings is waited for before anything is taken
 * away, and not for ever: a few lifts later it is done beside them. */
static void a_lift_begins_when_others_have_finished(void) {
  begin_timed(200, 100, 0);
  fake_zone.contended = 3;
  fake.rests = 0;
  lift_once(1);
  CU_ASSERT_EQUAL(fake_zone.contended, 0);
  unsigned rests = fake.rests;
  CU_ASSERT_TRUE(rests >= 3);
  lift_once(1);
  CU_ASSERT_EQUAL(fake.rests, rests);
  for (int i = 0; i < 20; i++) lift_once(1); /* quiet ones */
  fake_zone.contended = 1000;
  lift_once(1);
  unsigned looks = 1000 - fake_zone.contended;
  CU_ASSERT_TRUE(looks > 3 && looks < 20);
  for (int i = 0; i < 20; i++) lift_once(1);
  CU_ASSERT_EQUAL(1000 - fake_zone.contended, looks + 20);
  fake_zone.contended = 0;
  lift_once(1);
  lift_once(1); /* two quiet ones */
  fake_zone.contended = 1000;
  lift_once(1);
  CU_ASSERT_EQUAL(1000 - fake_zone.contended, 3);
  fake_zone.contended = 0;
  CU_ASSERT_TRUE(run_intact());
  end_timed();
}

static const struct unit_test tests[] = {
    {"what_is_lifted_is_gone_until_it_is_back", what_is_lifted_is_gone_until_it_is_back},
    {"holes_stay_holes", holes_stay_holes},
    {"parts_go_to_hosts", parts_go_to_hosts},
    {"steps_come_in_order", steps_come_in_order},
    {"a_run_without_memory_is_lifted_too", a_run_without_memory_is_lifted_too},
    {"refused_watches_change_nothing", refused_watches_change_nothing},
    {"a_page_that_was_shared_is_tried_again", a_page_that_was_shared_is_tried_again},
    {"a_pinned_page_stays", a_pinned_page_stays},
    {"a_partial_move_is_undone_and_tried_again", a_partial_move_is_undone_and_tried_again},
    {"pages_that_move_uncounted_are_not_lost", pages_that_move_uncounted_are_not_lost},
    {"pages_that_come_back_uncounted_are_not_lost", pages_that_come_back_uncounted_are_not_lost},
    {"what_is_not_known_to_be_away_is_not_replaced", what_is_not_known_to_be_away_is_not_replaced},
    {"refused_population_is_no_failure", refused_population_is_no_failure},
    {"refused_moves_change_nothing", refused_moves_change_nothing},
    {"staging_that_stays_watched_is_not_used", staging_that_stays_watched_is_not_used},
    {"a_run_that_stays_watched_ends_the_watch", a_run_that_stays_watched_ends_the_watch},
    {"who_is_not_woken_does_not_wait_for_ever", who_is_not_woken_does_not_wait_for_ever},
    {"refused_maps_are_put_back", refused_maps_are_put_back},
    {"what_must_come_back_does", what_must_come_back_does},
    {"a_partial_way_back_goes_on_by_the_other", a_partial_way_back_goes_on_by_the_other},
    {"staging_that_is_not_discarded_is_never_taken_for_contents",
     staging_that_is_not_discarded_is_never_taken_for_contents},
    {"a_closed_zone_lifts_nothing", a_closed_zone_lifts_nothing},
    {"memory_of_the_zone_is_not_lifted_again", memory_of_the_zone_is_not_lifted_again},
    {"each_call_refused", each_call_refused},
    {"each_memory_call_refused", each_memory_call_refused},
    {"random_lifts_lose_nothing", random_lifts_lose_nothing},
    {"runs_are_as_long_as_the_budget_allows", runs_are_as_long_as_the_budget_allows},
    {"a_run_is_a_frame_at_least", a_run_is_a_frame_at_least},
    {"it_is_quick_to_believe_in_slowness", it_is_quick_to_believe_in_slowness},
    {"refused_lifts_count", refused_lifts_count},
    {"a_lift_begins_rested", a_lift_begins_rested},
    {"a_lift_begins_when_others_have_finished", a_lift_begins_when_others_have_finished},
    {0},
};

int main(void) { return zone_unit_main("mover", tests); }
