/* Whole passes of compaction over made-up heaps: what they gain, what they leave alone, and that
 * nothing is lost whatever the kernel refuses and wherever a fork comes in between. */
#include "page/compact.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/sys.h"
#include "page/hugepage.h"
#include "page/zone.h"
#include "slab/bin.h"
#include "slab/mesh.h"
#include "slab/migrate.h"
#include "tests/unit/check.h"
#include "tests/unit/fake_zone.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)32 * HUGEPAGE_SIZE)

enum { MOST = 120000 };

struct object {
  uint32_t *p;
  uint32_t pattern;
  uint8_t size_class;
};

static struct object objects[MOST];
static size_t nobjects;
static uint32_t next_pattern;
static const struct compact_options defaults = {.map_share = 50, .stall_us = 200, .inherited = -1};

static size_t words_of(const struct object *o) {
  return class_size(o->size_class) / sizeof(uint32_t);
}

static void begin(void) {
  zone_heap_begin(ARENA);
  compact_configure(&defaults);
  nobjects = 0;
  next_pattern = 1;
}

static bool consistent(void) {
  bool ok = frames_consistent() && zone_consistent() && fake_zone_quiet();
  for (unsigned c = 0; c < SLAB_CLASSES; c++) ok = ok && bin_consistent(c);
  return ok && fake_zone.wrong == NULL;
}

static bool intact(void) {
  for (size_t i = 0; i < nobjects; i++)
    for (size_t k = 0; k < words_of(&objects[i]); k++)
      if (objects[i].p[k] != objects[i].pattern + (uint32_t)k) return false;
  return true;
}

static void get(size_t size, size_t n) {
  void *out[64];
  unsigned c = class_of(size);
  while (n > 0 && nobjects < MOST) {
    unsigned got = bin_refill(c, out, (unsigned)size_min(size_min(n, 64), MOST - nobjects));
    CU_ASSERT_TRUE_FATAL(got > 0);
    for (unsigned i = 0; i < got; i++) {
      struct object *o = &objects[nobjects++];
      *o = (struct object){out[i], next_pattern += 0x10001, (uint8_t)c};
      for (size_t k = 0; k < words_of(o); k++) o->p[k] = o->pattern + (uint32_t)k;
    }
    n -= got;
  }
}

static void put(size_t i) {
  struct object o = objects[i];
  objects[i] = objects[--nobjects];
  bin_free_now(o.size_class, o.p);
}

static void thin_out(struct random *r, size_t left) {
  while (nobjects > left) put(random_below(r, nobjects));
}

/* So many bytes of slabs of each of three classes, of which a share lives. */
static void make_heap(size_t bytes_each, unsigned percent) {
  static const size_t sizes[] = {64, 240, 1024};
  struct random r = {5};
  for (unsigned i = 0; i < array_size(sizes); i++) get(sizes[i], bytes_each / sizes[i]);
  thin_out(&r, nobjects * percent / 100);
  (void)bin_trim(true);
  (void)frames_purge(0);
}

static bool is_there(const void *p) {
  unsigned char there = 0;
  return mincore((void *)(uintptr_t)p, FRAME_SIZE, &there) == 0 && (there & 1) != 0;
}

/* Frames of memory behind the heap: private ones, and the zone's once each. */
static size_t held(void) {
  size_t n = 0;
  for (uint32_t i = 0; i < arena.opened * HUGEPAGE_FRAMES; i++) {
    pfn_t pfn = {i};
    if (zone_backing(pfn) == ZONE_PLAIN) n += is_there(arena_addr(pfn));
    if (zone_state() == ZONE_OPEN) n += is_there(zone_view(pfn));
  }
  return n;
}

static void run_pass(bool mesh) {
  compact_begin(mesh);
  CU_ASSERT_TRUE(compact_active());
  while (!compact_step(UINT64_MAX)) {
  }
  CU_ASSERT_FALSE(compact_active());
}

static struct compact_stats stats_now(void) {
  struct compact_stats stats;
  compact_stats(&stats);
  return stats;
}

static struct zone_stats zone_now(void) {
  struct zone_stats stats;
  zone_stats(&stats);
  return stats;
}

static struct frames_stats frames_now(void) {
  struct frames_stats stats;
  frames_stats(&stats);
  return stats;
}

/* All memory goes back, and all of it is plain again. */
static void put_all(void) {
  while (nobjects > 0) put(nobjects - 1);
  (void)bin_trim(true);
  (void)frames_purge(0);
  (void)frames_purge(0);
}

static void end(void) {
  CU_ASSERT_TRUE(intact());
  CU_ASSERT_TRUE(consistent());
  put_all();
  CU_ASSERT_TRUE(consistent());
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(zone_mappings(), 0);
  CU_ASSERT_EQUAL(frames_now().zone, 0);
  CU_ASSERT_EQUAL(frames_now().hollow, 0);
  CU_ASSERT_EQUAL(held(), 0);
  zone_heap_end();
}

/* ---- what is gained ---- */

static void an_empty_heap_is_soon_done(void) {
  begin();
  run_pass(true);
  CU_ASSERT_EQUAL(compact_gained(), 0);
  CU_ASSERT_EQUAL(stats_now().passes, 1);
  CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_SHIFT], 0);
  end();
}

static void a_sparse_heap_shrinks(void) {
  begin();
  make_heap(4 << 20, 10);
  size_t before = held();
  run_pass(true);
  CU_ASSERT_TRUE(stats_now().meshed > 0);
  CU_ASSERT_TRUE(compact_gained() > before / 3);
  CU_ASSERT_TRUE(held() + compact_gained() < before + before / 10);
  /* The next one finds little more. */
  size_t after = held();
  run_pass(true);
  CU_ASSERT_TRUE(held() > after - after / 4);
  CU_ASSERT_EQUAL(stats_now().passes, 2);
  end();
}

static void a_dense_heap_is_left_alone(void) {
  begin();
  make_heap(4 << 20, 97);
  size_t before = held();
  run_pass(true);
  CU_ASSERT_EQUAL(zone_now().guest, 0);
  CU_ASSERT_EQUAL(stats_now().converted, 0);
  /* But for the slab of each class that was being filled. */
  CU_ASSERT_TRUE(fake_zone.calls[FAKE_ZONE_SHIFT] <= 3);
  CU_ASSERT_TRUE(compact_gained() <= 3 * 16);
  CU_ASSERT_TRUE(held() <= before);
  end();
}

/* Frames in which nothing lives go in any case; a refused zone says why it is not more. */
static void without_a_zone_it_hollows(void) {
  begin();
  fake_zone.source[WATCH_CALL] = -EPERM;
  fake_zone.source[WATCH_DEVICE] = -EACCES;
  make_heap(4 << 20, 3);
  size_t before = held();
  run_pass(true);
  CU_ASSERT_EQUAL(zone_state(), ZONE_NO_WATCH);
  CU_ASSERT_TRUE(stats_now().hollowed > 0);
  CU_ASSERT_EQUAL(stats_now().meshed, 0);
  CU_ASSERT_EQUAL(compact_gained(), stats_now().hollowed);
  CU_ASSERT_TRUE(held() < before && held() + stats_now().hollowed >= before);
  CU_ASSERT_EQUAL(frames_now().hollow, stats_now().hollowed);
  end();
}

/* Frames that hold memory though no object of the heap touches them. */
static size_t held_for_nothing(void) {
  static bool used[ARENA / FRAME_SIZE];
  size_t n = 0;
  memset(used, 0, sizeof used);
  for (size_t i = 0; i < nobjects; i++) {
    const char *p = (const char *)objects[i].p, *end = p + class_size(objects[i].size_class);
    for (uint32_t k = arena_pfn(p).n; k <= arena_pfn(end - 1).n; k++) used[k] = true;
  }
  for (uint32_t i = 0; i < arena.opened * HUGEPAGE_FRAMES; i++)
    n += !used[i] && zone_backing((pfn_t){i}) == ZONE_PLAIN && is_there(arena_addr((pfn_t){i}));
  return n;
}

/* 2 MiB of slabs of each size, of which a tenth lives. */
static void make_tenth(const size_t *sizes, unsigned n) {
  struct random r = {7};
  for (unsigned i = 0; i < n; i++) get(sizes[i], ((size_t)2 << 20) / sizes[i]);
  thin_out(&r, nobjects / 10);
  (void)bin_trim(true);
  (void)frames_purge(0);
}

static bool is_plain(const struct object *o) {
  return zone_is_plain(arena_pfn(o->p), frames_of(class_size(o->size_class)));
}

/* Slots that are too large to be moved: their idle frames go, also where others are meshed. */
static void large_slots_are_hollowed(void) {
  static const size_t sizes[] = {240, 3800, 6000, 20000, 65536};
  begin();
  make_tenth(sizes, array_size(sizes));
  CU_ASSERT_TRUE(held_for_nothing() > 200);
  run_pass(true);
  CU_ASSERT_TRUE(stats_now().meshed > 0);
  CU_ASSERT_EQUAL(held_for_nothing(), 0);
  for (size_t i = 0; i < nobjects; i++)
    CU_ASSERT_TRUE(objects[i].size_class == class_of(240) || is_plain(&objects[i]));
  end();
}

/* Slots of some KiB are moved, too, slab by slab: no hugepage of theirs becomes hosts. */
static void middling_slots_are_meshed(void) {
  static const size_t sizes[] = {1152, 1664, 2048, 2816, 3584};
  size_t left[2];
  for (int mesh = 0; mesh < 2; mesh++) {
    begin();
    make_tenth(sizes, array_size(sizes));
    run_pass(mesh);
    CU_ASSERT_EQUAL(stats_now().converted, 0);
    CU_ASSERT_EQUAL(stats_now().meshed > 0, mesh);
    CU_ASSERT_TRUE(intact());
    for (size_t i = 0; i < nobjects; i++) put(i);
    CU_ASSERT_TRUE(intact());
    left[mesh] = held();
    end();
  }
  CU_ASSERT_TRUE(left[true] * 10 < left[false] * 8);
}

static void unasked_no_zone_is_opened(void) {
  begin();
  make_heap(2 << 20, 3);
  run_pass(false);
  CU_ASSERT_EQUAL(fake_zone.total, 0);
  CU_ASSERT_TRUE(stats_now().hollowed > 0);
  end();
}

static void pinned_slabs_are_left_alone(void) {
  begin();
  make_heap(2 << 20, 10);
  for (size_t i = 0; i < nobjects; i++) {
    struct slab *slab = memdesc_owner(memmap_get(arena_pfn(objects[i].p)));
    slab->pins = 1;
  }
  size_t before = held();
  run_pass(true);
  CU_ASSERT_EQUAL(compact_gained(), 0);
  CU_ASSERT_EQUAL(held(), before);
  CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_SHIFT], 0);
  CU_ASSERT_TRUE(stats_now().pinned + stats_now().refused > 0);
  for (size_t i = 0; i < nobjects; i++) {
    struct slab *slab = memdesc_owner(memmap_get(arena_pfn(objects[i].p)));
    slab->pins = 0;
  }
  size_t gained = 0; /* what refused is left alone for some passes */
  for (int i = 0; i < 20; i++) {
    run_pass(true);
    gained += compact_gained();
  }
  CU_ASSERT_TRUE(gained > before / 4);
  end();
}

/* ---- budgets ---- */

static void the_budget_of_mappings_is_kept(void) {
  static const size_t most[] = {0, 8, 100, 400};
  size_t gained[array_size(most)];
  for (unsigned i = 0; i < array_size(most); i++) {
    begin();
    fake_zone.max_mappings = 2 * most[i]; /* of which it may use half */
    make_heap(4 << 20, 6);
    run_pass(true);
    CU_ASSERT_TRUE(zone_mappings() <= most[i] + 8); /* hugepages that become hosts, two each */
    gained[i] = compact_gained();
    end();
  }
  CU_ASSERT_TRUE(gained[1] <= gained[2] && gained[2] <= gained[3] && gained[0] < gained[3]);
}

static void pass_with(unsigned percent, size_t mappings, size_t *converted, size_t *runs) {
  struct random r = {5};
  begin();
  fake_zone.max_mappings = 2 * mappings;
  get(240, (8 << 20) / 240);
  get(1024, (8 << 20) / 1024);
  thin_out(&r, nobjects * percent / 100);
  run_pass(true);
  *converted = stats_now().converted;
  *runs = stats_now().runs;
  end();
}

static size_t converted_with(size_t mappings) {
  size_t converted, runs;
  pass_with(40, mappings, &converted, &runs);
  return converted;
}

/* Of 4,096 frames with something in most of them half are thought to need a mapping. */
static void few_mappings_make_more_hosts(void) {
  size_t plenty = converted_with(30000), enough = converted_with(2200);
  size_t fewer = converted_with(1500), few = converted_with(900);
  CU_ASSERT_EQUAL(plenty, enough);
  CU_ASSERT_TRUE(enough <= fewer && fewer <= few);
  CU_ASSERT_TRUE(plenty < few);
  CU_ASSERT_EQUAL(few, converted_with(200));
}

static size_t runs_with(size_t mappings) {
  size_t converted, runs;
  pass_with(2, mappings, &converted, &runs);
  return runs;
}

/* Of as many with 860 objects in them, no more than these touch: runs need not be long. */
static void few_objects_need_few_mappings(void) {
  size_t plenty = runs_with(30000);
  CU_ASSERT_EQUAL(plenty, runs_with(1100));
  CU_ASSERT_TRUE(plenty > runs_with(200));
}

/* A budget of nothing is one unit of work at a time; all are done in the end. */
static void steps_are_short_and_add_up(void) {
  unsigned steps = 0;
  begin();
  make_heap(2 << 20, 10);
  size_t before = held();
  compact_begin(true);
  bool ok = true;
  for (; !compact_step(0) && steps < 100000; steps++)
    if (steps % 16 == 0) ok = ok && consistent();
  CU_ASSERT_TRUE(ok);
  CU_ASSERT_TRUE(steps > 50 && steps < 100000);
  CU_ASSERT_FALSE(compact_active());
  CU_ASSERT_TRUE(held() < before);
  CU_ASSERT_TRUE(compact_step(0)); /* over is over */
  end();
}

/* Between steps the program goes on. */
static void the_program_goes_on_between_steps(void) {
  struct random r = {test_seed()};
  begin();
  make_heap(2 << 20, 10);
  bool ok = true;
  for (int pass = 0; pass < 3; pass++) {
    unsigned steps = 0;
    compact_begin(true);
    while (!compact_step(0)) {
      if (steps++ % 8 != 0) continue;
      for (unsigned k = 0; k < 8; k++) put(random_below(&r, nobjects));
      get((size_t)16 << random_below(&r, 7), 8);
      if (steps % 64 == 1) ok = ok && intact() && consistent();
    }
  }
  CU_ASSERT_TRUE(ok);
  end();
}

/* ---- refusals ---- */

static struct hugepage *first_converted(void) {
  for (uint32_t n = 0; n < arena.opened; n++)
    if (arena.hugepages[n].flags & HUGEPAGE_ZONE) return &arena.hugepages[n];
  return NULL;
}

static uint32_t number(const struct hugepage *hp) { return (uint32_t)(hp - arena.hugepages); }

/* Fills two hugepages to a share that makes them hosts and empties six. */
static void make_hosts(void) {
  struct random r = {9};
  get(256, (size_t)8 * HUGEPAGE_SIZE / 256);
  for (size_t i = nobjects; i-- > 0;) {
    bool dense = pfn_hugepage(arena_pfn(objects[i].p)).n < 2;
    if (random_below(&r, 100) >= (dense ? 40 : 4)) put(i);
  }
  (void)bin_trim(true);
  (void)frames_purge(0);
}

static void dense_hugepages_become_hosts_whole(void) {
  begin();
  make_hosts();
  size_t before = held();
  run_pass(true);
  CU_ASSERT_TRUE(stats_now().converted >= 1);
  struct hugepage *hp = first_converted();
  CU_ASSERT_PTR_NOT_NULL_FATAL(hp);
  CU_ASSERT_TRUE(number(hp) < 2);
  CU_ASSERT_TRUE(zone_is_home(hugepage_pfn((hpn_t){number(hp)}), HUGEPAGE_FRAMES));
  CU_ASSERT_TRUE(fake.calls[FAKE_COLLAPSE] > 0);
  CU_ASSERT_TRUE(held() < before / 2);
  CU_ASSERT_EQUAL(stats_now().refused, 0);
  end();
}

/* Two classes side by side, of which these shares live. */
static uint64_t converted_of(unsigned percent_240, unsigned percent_1024) {
  struct random r = {5};
  begin();
  for (int i = 0; i < 32; i++) {
    get(240, ((size_t)256 << 10) / 240);
    get(1024, 256);
  }
  for (size_t i = nobjects; i-- > 0;)
    if (random_below(&r, 100) >= (words_of(&objects[i]) < 64 ? percent_240 : percent_1024)) put(i);
  run_pass(true);
  uint64_t converted = stats_now().converted;
  CU_ASSERT_TRUE(intact());
  end();
  return converted;
}

/* What lives in them is as much; but the sparse class would fill a few hosts only. */
static void hosts_are_made_for_the_classes_that_need_them(void) {
  uint64_t alike = converted_of(35, 35), apart = converted_of(5, 65);
  CU_ASSERT_TRUE(apart >= 1 && apart < alike);
}

/* Frees the objects from there on that are not to stay. */
static void keep(size_t from, bool (*stays)(const struct object *o, uint32_t hugepage)) {
  for (size_t i = nobjects; i-- > from;)
    if (!stays(&objects[i], pfn_hugepage(arena_pfn(objects[i].p)).n)) put(i);
  (void)bin_trim(true);
  (void)frames_purge(0);
}

static bool some_beside_the_first(const struct object *o, uint32_t hugepage) {
  return hugepage != 0 && (uintptr_t)o->p / 256 % 32 < (hugepage == 1 ? 13 : 2);
}

/* Of the first hugepage half is full and half is free: more lives there than anywhere else, but
 * nobody fits onto it. */
static void what_has_no_room_is_no_host(void) {
  begin();
  get(240, HUGEPAGE_SIZE / 2 / 240);
  const struct slab *last = memdesc_owner(memmap_peek(arena_pfn(objects[nobjects - 1].p)));
  get(240, last->nfree);
  size_t full = nobjects;
  get(256, (size_t)4 * HUGEPAGE_SIZE / 256);
  keep(full, some_beside_the_first);
  run_pass(true);
  CU_ASSERT_PTR_EQUAL(first_converted(), &arena.hugepages[1]);
  end();
}

static bool most_of_what_is_plain(const struct object *o, uint32_t hugepage) {
  return zone_is_plain(hugepage_pfn((hpn_t){hugepage}), HUGEPAGE_FRAMES) &&
         (uintptr_t)o->p / 256 % 6 != 0;
}

/* A fork has left sparse slabs as they were: they will not move, and what is plain is dense. */
static void what_is_frozen_needs_no_host(void) {
  begin();
  make_hosts();
  run_pass(true);
  uint64_t converted = stats_now().converted;
  CU_ASSERT_TRUE(converted >= 1);
  CU_ASSERT_EQUAL(zone_freeze(), 0);
  slab_thaw_all();
  size_t frozen = nobjects;
  get(256, (size_t)12 * HUGEPAGE_SIZE / 256);
  keep(frozen, most_of_what_is_plain);
  run_pass(true);
  CU_ASSERT_EQUAL(zone_state(), ZONE_OPEN);
  CU_ASSERT_EQUAL(stats_now().converted, converted);
  end();
}

enum { FIRST_LIFTS = 16 }; /* by which it has learnt what they take */

static size_t longest_lift, lifts;

static void lifts_take_time(enum fake_zone_call call, char *p, unused char *to, size_t length) {
  if (call != FAKE_ZONE_SHIFT || !arena_contains(p)) return;
  fake.cpu_us += 40 + 4 * (length / FRAME_SIZE);
  if (++lifts > FIRST_LIFTS) longest_lift = size_max(longest_lift, length / FRAME_SIZE);
}

/* Nothing is moved at once that takes longer than others may have to wait. */
static void pieces_are_as_short_as_the_budget_wants(void) {
  static const unsigned budgets[] = {20, 100, 200, 10000};
  size_t made[array_size(budgets)];
  for (unsigned i = 0; i < array_size(budgets); i++) {
    struct compact_options few = defaults;
    begin();
    few.stall_us = budgets[i];
    compact_configure(&few);
    make_hosts();
    longest_lift = lifts = 0;
    fake_zone.seen = lifts_take_time;
    run_pass(true);
    fake_zone.seen = NULL;
    made[i] = lifts;
    CU_ASSERT_TRUE(stats_now().converted > 0);
    CU_ASSERT_TRUE(longest_lift == 1 || 40 + 4 * longest_lift <= budgets[i] + budgets[i] / 8);
    CU_ASSERT_TRUE(longest_lift <= 64);
    CU_ASSERT_TRUE(intact());
    CU_ASSERT_TRUE(i == 0 || made[i] <= made[i - 1]);
    end();
  }
  CU_ASSERT_TRUE(made[0] > 4 * made[array_size(budgets) - 1]);
  compact_configure(&defaults);
}

static void what_refused_is_skipped_for_a_while(void) {
  begin();
  make_hosts();
  fake_zone.pinned = arena_addr((pfn_t){10});
  run_pass(true);
  CU_ASSERT_EQUAL(stats_now().refused, 1);
  CU_ASSERT_TRUE(arena.hugepages[0].skip > 0);
  CU_ASSERT_TRUE(zone_is_plain((pfn_t){0}, HUGEPAGE_FRAMES));
  CU_ASSERT_TRUE(intact());
  fake_zone.pinned = NULL;
  unsigned passes = 0;
  while (arena.hugepages[0].skip > 1 && passes < 100) {
    run_pass(true);
    passes++;
    CU_ASSERT_TRUE(zone_is_plain((pfn_t){0}, HUGEPAGE_FRAMES));
  }
  CU_ASSERT_TRUE(passes > 1 && passes < 100);
  end();
}

/* Pieces that had become the zone's stay it. When all is free again, nothing of what was written
 * to the others may pass for zeros. */
static void half_a_hugepage_becomes_plain_again(void) {
  struct frames_run run;
  begin();
  make_hosts();
  fake_zone.pinned = arena_addr((pfn_t){200});
  run_pass(true);
  fake_zone.pinned = NULL;
  CU_ASSERT_TRUE_FATAL((arena.hugepages[0].flags & HUGEPAGE_ZONE) != 0);
  CU_ASSERT_EQUAL(zone_backing((pfn_t){0}), ZONE_HOME);
  CU_ASSERT_EQUAL(zone_backing((pfn_t){200}), ZONE_PLAIN);
  CU_ASSERT_TRUE(intact());
  put_all();
  CU_ASSERT_EQUAL(arena.hugepages[0].flags & HUGEPAGE_ZONE, 0);
  CU_ASSERT_EQUAL(frames_alloc(HUGEPAGE_FRAMES, 1, FRAMES_FOLIO, &run), 0);
  bool zero = true;
  const uint64_t *words = arena_addr(run.pfn);
  for (size_t i = 0; i < HUGEPAGE_SIZE / sizeof *words; i++) zero = zero && words[i] == 0;
  CU_ASSERT_EQUAL(run.pfn.n, 0);
  CU_ASSERT_TRUE(!run.zero || zero);
  frames_free(run.pfn, HUGEPAGE_FRAMES);
  (void)frames_purge(0);
  end();
}

static void no_memory_for_lists_is_no_failure(void) {
  begin();
  make_heap(2 << 20, 3);
  CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
  fake.refuse[FAKE_RESERVE] = -ENOMEM;
  run_pass(true);
  fake.refuse[FAKE_RESERVE] = 0;
  CU_ASSERT_TRUE(stats_now().hollowed > 0);
  CU_ASSERT_EQUAL(zone_now().guest, 0);
  end();
}

/* ---- forks ---- */

/* The zone is frozen between any two units of work: the pass is over, nothing is half done. */
static void a_fork_ends_the_pass(void) {
  unsigned step = 3, forks = 0;
  for (bool over = false; !over; step += 1 + step / 6, forks += !over) {
    begin();
    make_heap(1 << 20, 10);
    compact_begin(true);
    for (unsigned i = 0; i < step && !over; i++) over = compact_step(0);
    CU_ASSERT_EQUAL(zone_freeze(), 0);
    CU_ASSERT_TRUE(over || compact_step(0));
    CU_ASSERT_FALSE(compact_active());
    CU_ASSERT_TRUE(intact());
    CU_ASSERT_TRUE(consistent());
    CU_ASSERT_EQUAL(zone_now().guest + zone_now().home, 0);
    slab_thaw_all();
    CU_ASSERT_TRUE(consistent());
    for (size_t i = 0; i < nobjects; i++) { /* everybody's own from here on */
      objects[i].pattern += 99;
      for (size_t k = 0; k < words_of(&objects[i]); k++)
        objects[i].p[k] = objects[i].pattern + (uint32_t)k;
    }
    get(240, 2000);
    CU_ASSERT_TRUE(intact());
    run_pass(true);
    end();
  }
  CU_ASSERT_TRUE(forks > 5);
}

static void an_abandoned_pass_leaves_nothing_half_done(void) {
  begin();
  make_heap(1 << 20, 10);
  for (unsigned step = 1; step < 200; step = step * 2 + 1) {
    compact_begin(true);
    for (unsigned i = 0; i < step; i++) (void)compact_step(0);
    compact_abandon();
    CU_ASSERT_FALSE(compact_active());
    CU_ASSERT_TRUE(intact() && consistent());
  }
  end();
}

/* ---- every call refused ---- */

enum table { MEMORY, ZONE };

/* A life with the n-th call of one of the tables refused; calls that it made. A range that can't
 * be made plain again is given up, so that frames may stay used. */
static unsigned live(enum table table, unsigned n, bool *ok) {
  begin();
  make_heap(512 << 10, 10);
  unsigned before = fake.total;
  if (table == MEMORY)
    fake.refuse_at = before + n;
  else
    fake_zone.refuse_at = n;
  run_pass(true);
  *ok = intact() && consistent();
  struct random r = {n};
  thin_out(&r, nobjects / 2);
  get(240, 500);
  run_pass(true);
  *ok = *ok && intact() && consistent();
  thin_out(&r, nobjects / 4);
  unsigned calls = table == MEMORY ? fake.total - before : fake_zone.total;
  fake.refuse_at = fake_zone.refuse_at = 0;
  *ok = *ok && intact() && consistent();
  get(64, 2000);
  *ok = *ok && intact();
  run_pass(true);
  *ok = *ok && intact() && consistent();
  put_all();
  size_t poisoned = 0;
  for (uint32_t i = 0; i < arena.opened * HUGEPAGE_FRAMES; i++)
    poisoned += memdesc_type(memmap_get((pfn_t){i})) == MEMDESC_POISON;
  *ok = *ok && consistent() && frames_used() == poisoned;
  zone_heap_end();
  return calls;
}

static void refuse_each(enum table table) {
  bool ok;
  unsigned calls = live(table, 0, &ok), wrong = 0, first_wrong = 0;
  CU_ASSERT_TRUE(ok);
  CU_ASSERT_TRUE(calls > 40);
  unsigned step = 1 + calls / (1 + (unsigned)test_steps(400));
  for (unsigned n = 1; n <= calls; n += step) {
    (void)live(table, n, &ok);
    if (!ok && wrong++ == 0) first_wrong = n;
  }
  printf("of %u calls each %uth refused\n", calls, step);
  if (wrong > 0) printf("%u went wrong, the first at %u\n", wrong, first_wrong);
  CU_ASSERT_EQUAL(wrong, 0);
}

static void each_memory_call_refused(void) { refuse_each(MEMORY); }
static void each_zone_call_refused(void) { refuse_each(ZONE); }

/* Kinds of calls that are refused from some point on, for good. */
static void whole_kinds_refused(void) {
  for (enum fake_zone_call call = FAKE_ZONE_OPEN; call < FAKE_ZONE_CALLS; call++)
    for (unsigned from = 1; from <= 9; from += 4) {
      if (call == FAKE_ZONE_FREEZE) continue;  /* no pass calls it */
      if (call == FAKE_ZONE_REPLACE) continue; /* the last resort: tried until it succeeds */
      begin();
      make_heap(512 << 10, 10);
      fake_zone_refuse(call, call == FAKE_ZONE_SHIFT ? -EBUSY : -ENOMEM, from, 0);
      run_pass(true);
      run_pass(true);
      bool ok = intact() && consistent();
      if (!ok) printf("kind %d refused from its call %u on\n", (int)call, from);
      CU_ASSERT_TRUE(ok);
      fake_zone_permit();
      if (call == FAKE_ZONE_PUNCH) { /* what could not be punched stays with the zone */
        put_all();
        CU_ASSERT_TRUE(consistent());
        CU_ASSERT_EQUAL(zone_freeze(), 0);
      }
      end();
    }
}

static const struct unit_test tests[] = {
    {"an_empty_heap_is_soon_done", an_empty_heap_is_soon_done},
    {"a_sparse_heap_shrinks", a_sparse_heap_shrinks},
    {"a_dense_heap_is_left_alone", a_dense_heap_is_left_alone},
    {"without_a_zone_it_hollows", without_a_zone_it_hollows},
    {"large_slots_are_hollowed", large_slots_are_hollowed},
    {"middling_slots_are_meshed", middling_slots_are_meshed},
    {"unasked_no_zone_is_opened", unasked_no_zone_is_opened},
    {"pinned_slabs_are_left_alone", pinned_slabs_are_left_alone},
    {"the_budget_of_mappings_is_kept", the_budget_of_mappings_is_kept},
    {"few_mappings_make_more_hosts", few_mappings_make_more_hosts},
    {"few_objects_need_few_mappings", few_objects_need_few_mappings},
    {"steps_are_short_and_add_up", steps_are_short_and_add_up},
    {"the_program_goes_on_between_steps", the_program_goes_on_between_steps},
    {"dense_hugepages_become_hosts_whole", dense_hugepages_become_hosts_whole},
    {"hosts_are_made_for_the_classes_that_need_them",
     hosts_are_made_for_the_classes_that_need_them},
    {"what_has_no_room_is_no_host", what_has_no_room_is_no_host},
    {"what_is_frozen_needs_no_host", what_is_frozen_needs_no_host},
    {"pieces_are_as_short_as_the_budget_wants", pieces_are_as_short_as_the_budget_wants},
    {"what_refused_is_skipped_for_a_while", what_refused_is_skipped_for_a_while},
    {"half_a_hugepage_becomes_plain_again", half_a_hugepage_becomes_plain_again},
    {"no_memory_for_lists_is_no_failure", no_memory_for_lists_is_no_failure},
    {"a_fork_ends_the_pass", a_fork_ends_the_pass},
    {"an_abandoned_pass_leaves_nothing_half_done", an_abandoned_pass_leaves_nothing_half_done},
    {"each_memory_call_refused", each_memory_call_refused},
    {"each_zone_call_refused", each_zone_call_refused},
    {"whole_kinds_refused", whole_kinds_refused},
    {0},
};

int main(void) { return zone_unit_main("compact", tests); }
