/* Memory that leaves the zone while it is open: hosts and guests, part by part, each refusal; on a
 * fake zone. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/sys.h"
#include "page/compact.h"
#include "page/zone.h"
#include "slab/mesh.h"
#include "slab/migrate.h"
#include "slab/pin.h"
#include "tests/unit/check.h"
#include "tests/unit/fake_zone.h"

#define ARENA ((size_t)32 * HUGEPAGE_SIZE)

/* Slots straddle frames: slot 21 lies in frames 0 and 1. */
enum { SIZE = 192, STRADDLES = 21, SLABS = 8, OBJECTS = 4096 };

static unsigned size_class, nslots;
static size_t most_mappings; /* of the process; 0: many */
static struct slab *host, *guest;
static struct migration m;
static uint32_t host_frames[SLABS];
static uint16_t host_rooms[SLABS];
static struct host_list hosts[COMPACT_CLASSES];

static struct {
  uint32_t *p;
  uint32_t value;
} objects[OBJECTS];
static size_t nobjects;

static struct slab *slab_of(const void *p) { return memdesc_owner(memmap_get(arena_pfn(p))); }

static uint32_t *at_slot(const struct slab *slab, unsigned slot) {
  return (uint32_t *)((char *)slab_addr(slab) + slot * SIZE);
}

static void fill(size_t i, uint32_t value) {
  objects[i].value = value;
  for (unsigned k = 0; k < SIZE / 4; k++) objects[i].p[k] = value + k;
}

static bool all_intact(void) {
  for (size_t i = 0; i < nobjects; i++)
    for (unsigned k = 0; k < SIZE / 4; k++)
      if (objects[i].p[k] != objects[i].value + k) return false;
  return true;
}

static size_t get(size_t n) {
  size_t first = nobjects;
  while (nobjects < first + n) {
    void *p = NULL;
    CU_ASSERT_EQUAL_FATAL(bin_refill(size_class, &p, 1), 1);
    objects[nobjects].p = p;
    fill(nobjects, 1000 * (uint32_t)nobjects);
    nobjects++;
  }
  return first;
}

static void put(const void *p) {
  for (size_t i = 0; i < nobjects; i++)
    if (objects[i].p == p) {
      objects[i] = objects[--nobjects];
      bin_free_now(size_class, (void *)(uintptr_t)p);
      return;
    }
  CU_FAIL("not an object");
}

/* Everybody writes, wherever their memory is. */
static void refill(uint32_t by) {
  for (size_t i = 0; i < nobjects; i++) fill(i, objects[i].value + by);
}

static void keep(const struct slab *slab, const unsigned *slots, unsigned n) {
  for (unsigned s = 0; s < nslots; s++) {
    bool kept = false;
    for (unsigned i = 0; i < n; i++) kept = kept || slots[i] == s;
    if (!kept) put(at_slot(slab, s));
  }
}

static void migrate(struct slab *slab) {
  CU_ASSERT_EQUAL_FATAL(slab_isolate(slab, slab->pfn), OWNER_DONE);
  (void)slab_migrate(slab, &m);
  slab_put_back(slab);
}

/* Two slabs with a few objects each; the first becomes a host. */
static const unsigned of_host[] = {3, STRADDLES + 1, 100};
static const unsigned of_guest[] = {5, STRADDLES, 60, 150};

static void begin_host(void) {
  zone_heap_begin(ARENA);
  if (most_mappings != 0) fake_zone.max_mappings = most_mappings;
  size_class = class_of(SIZE);
  nslots = size_classes[size_class].nslots;
  nobjects = 0;
  CU_ASSERT_EQUAL_FATAL(class_size(size_class), SIZE);
  CU_ASSERT_EQUAL_FATAL(zone_open(false, -1), ZONE_OPEN);
  memset(hosts, 0, sizeof hosts);
  hosts[size_class] = (struct host_list){host_frames, host_rooms, 0, SLABS};
  m = (struct migration){.mesh = true, .shortest = 1, .mappings_left = 30000, .hosts = hosts};
  get(2 * nslots);
  host = slab_of(objects[0].p);
  guest = slab_of(objects[nobjects - 1].p);
  CU_ASSERT_TRUE_FATAL(host != guest);
  keep(host, of_host, array_size(of_host));
  keep(guest, of_guest, array_size(of_guest));
  migrate(host);
  CU_ASSERT_EQUAL_FATAL(m.hosts_made, 1);
}

static void begin(void) {
  begin_host();
  migrate(guest);
  CU_ASSERT_EQUAL_FATAL(guest->state, SLAB_GUEST);
  CU_ASSERT_EQUAL_FATAL(zone_backing(guest->pfn), ZONE_GUEST);
  CU_ASSERT_TRUE(all_intact());
  fake_zone_clear_log();
}

static void check(void) {
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(size_class));
  CU_ASSERT_TRUE(frames_consistent());
  CU_ASSERT_TRUE(zone_consistent());
  refill(7);
  CU_ASSERT_TRUE(all_intact());
}

static void end(void) {
  check();
  while (nobjects > 0) put(objects[nobjects - 1].p);
  (void)bin_trim(true);
  struct zone_stats stats;
  struct frames_stats frames;
  zone_stats(&stats);
  frames_stats(&frames);
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(frames.hollow, 0);
  CU_ASSERT_EQUAL(stats.home + stats.guest + stats.frozen + stats.mappings, 0);
  CU_ASSERT_EQUAL(bins[size_class].nblocked, 0);
  CU_ASSERT_TRUE(zone_consistent());
  CU_ASSERT_TRUE(fake_zone_quiet());
  CU_ASSERT_PTR_NULL(fake_zone.wrong);
  zone_heap_end();
}

static uint32_t *in_zone(const void *p) {
  char *view = zone_view(arena_pfn(p));
  return (uint32_t *)(view + ((uintptr_t)p & (FRAME_SIZE - 1)));
}

static size_t hollow(void) {
  struct frames_stats stats;
  frames_stats(&stats);
  return stats.hollow;
}

/* ---- guests ---- */

/* What the program stores there does not reach the zone any more; all else is as it was. */
static void a_frame_of_a_guest_leaves(void) {
  begin();
  uint32_t *mine = at_slot(guest, 5), *there = in_zone(at_slot(host, 5));
  size_t before = hollow(), mappings = zone_mappings();
  CU_ASSERT_EQUAL(there[0], mine[0]);
  CU_ASSERT_TRUE(zone_is_shared(guest->pfn, 1));
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, 1), 0);
  CU_ASSERT_FALSE(zone_is_shared(guest->pfn, 1));
  CU_ASSERT_EQUAL(zone_backing(guest->pfn), ZONE_FROZEN);
  CU_ASSERT_EQUAL(zone_backing(pfn_add(guest->pfn, 1)), ZONE_GUEST);
  CU_ASSERT_EQUAL(zone_backing(host->pfn), ZONE_HOME);
  CU_ASSERT_EQUAL(zone_mappings(), mappings + 1);
  CU_ASSERT_EQUAL(hollow(), before - 1);
  CU_ASSERT_FALSE(memdesc_flags(memmap_get(guest->pfn)) & MEMDESC_GUEST);
  CU_ASSERT_TRUE(mesh_is_blocked(host, 5));
  CU_ASSERT_EQUAL(fake_zone_logged(FAKE_ZONE_PUNCH), 0);
  check();
  CU_ASSERT_NOT_EQUAL(there[0], mine[0]);
  /* And back: nothing of the zone's does reach it. */
  memset(there, 0xff, SIZE);
  CU_ASSERT_TRUE(all_intact());
  put(at_slot(guest, 5));
  CU_ASSERT_FALSE(mesh_is_blocked(host, 5));
  check();
  end();
}

/* One slot in two frames, of which one is the zone's still. */
static void half_of_a_slot_leaves(void) {
  for (unsigned frame = 0; frame < 2; frame++) {
    begin();
    CU_ASSERT_EQUAL(slab_move_out(pfn_add(guest->pfn, frame), 1), 0);
    check();
    CU_ASSERT_TRUE(mesh_is_blocked(host, STRADDLES));
    get(nslots); /* whatever the host may hand out */
    check();
    put(at_slot(guest, STRADDLES));
    CU_ASSERT_FALSE(mesh_is_blocked(host, STRADDLES));
    get(nslots);
    end();
  }
}

static void all_of_a_guest_leaves(void) {
  begin();
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, guest->nframes), 0);
  for (unsigned i = 0; i < guest->nframes; i++)
    CU_ASSERT_TRUE(zone_backing(pfn_add(guest->pfn, i)) == ZONE_FROZEN ||
                   zone_is_plain(pfn_add(guest->pfn, i), 1));
  CU_ASSERT_EQUAL(guest->state, SLAB_GUEST);
  /* Twice is once. */
  unsigned calls = fake_zone.calls[FAKE_ZONE_FREEZE];
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, guest->nframes), 0);
  CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_FREEZE], calls);
  get(nslots);
  end();
}

/* The guest goes with its last object, whatever its frames have for memory. */
static void an_empty_guest_goes_as_others_do(void) {
  begin();
  pfn_t pfn = guest->pfn;
  size_t n = guest->nframes;
  CU_ASSERT_EQUAL(slab_move_out(pfn, 2), 0);
  for (unsigned i = 0; i < array_size(of_guest); i++) put(at_slot(guest, of_guest[i]));
  CU_ASSERT_TRUE(zone_is_plain(pfn, n));
  CU_ASSERT_EQUAL(bins[size_class].nblocked, 0);
  CU_ASSERT_EQUAL(bins[size_class].nslabs, 1);
  end();
}

/* A guest of which a part has left is never isolated as if it were whole, and when it is, its runs
 * are left alone. */
static void it_may_be_asked_again(void) {
  begin();
  CU_ASSERT_EQUAL(slab_move_out(pfn_add(guest->pfn, 1), 1), 0);
  size_t meshed = m.meshed;
  for (int i = 0; i < 3; i++) {
    if (slab_isolate(guest, guest->pfn) != OWNER_DONE) continue;
    (void)slab_migrate(guest, &m);
    slab_put_back(guest);
  }
  CU_ASSERT_EQUAL(m.meshed, meshed);
  CU_ASSERT_EQUAL(zone_backing(pfn_add(guest->pfn, 1)), ZONE_FROZEN);
  CU_ASSERT_EQUAL(guest->state, SLAB_GUEST);
  end();
}

/* ---- hosts ---- */

/* The host's own stores stay with it; its guest keeps the zone's page. */
static void a_frame_of_a_host_leaves_its_guests(void) {
  begin();
  CU_ASSERT_EQUAL(slab_move_out(host->pfn, 1), 0);
  CU_ASSERT_EQUAL(zone_backing(host->pfn), ZONE_FROZEN);
  CU_ASSERT_EQUAL(zone_backing(guest->pfn), ZONE_GUEST);
  CU_ASSERT_EQUAL(fake_zone_logged(FAKE_ZONE_PUNCH), 0);
  CU_ASSERT_TRUE(mesh_is_blocked(host, 5));
  check();
  CU_ASSERT_EQUAL(in_zone(at_slot(host, 5))[0], at_slot(guest, 5)[0]);
  CU_ASSERT_NOT_EQUAL(in_zone(at_slot(host, 3))[0], at_slot(host, 3)[0]);
  get(nslots);
  check();
  /* The host stays for its guest, also when nothing of its own lives. */
  while (nobjects > array_size(of_guest))
    for (size_t i = 0; i < nobjects; i++)
      if (slab_of(objects[i].p) != guest) put(objects[i].p);
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(zone_backing(host->pfn), ZONE_FROZEN);
  CU_ASSERT_EQUAL(host->state, SLAB_PARTIAL);
  check();
  for (unsigned i = 0; i < array_size(of_guest); i++) put(at_slot(guest, of_guest[i]));
  end();
}

/* No guest comes to a frame that has left: it would see what the host stores there no more. */
static void a_frame_that_has_left_takes_no_guest(void) {
  begin_host();
  CU_ASSERT_EQUAL(slab_move_out(host->pfn, host->nframes), 0);
  migrate(guest);
  CU_ASSERT_EQUAL(host->mesh->as_host, 0);
  CU_ASSERT_NOT_EQUAL(guest->state, SLAB_GUEST);
  end();
}

static void it_takes_guests_beside_it(void) {
  begin_host();
  CU_ASSERT_EQUAL(slab_move_out(pfn_add(host->pfn, 2), 1), 0);
  m.shortest = 1;
  migrate(guest);
  for (unsigned i = 0; i < guest->nframes; i++) {
    pfn_t pfn = pfn_add(guest->pfn, i);
    if (zone_backing(pfn) == ZONE_GUEST) CU_ASSERT_NOT_EQUAL(zone_frame_of(pfn).n, host->pfn.n + 2);
  }
  end();
}

/* Two copies of a page would be a waste; where nobody has the zone's it is given back. */
static void a_page_without_guests_is_given_back(void) {
  begin_host();
  char *view = zone_view(host->pfn);
  fake_zone_clear_log();
  size_t before = fake_resident(view, host->nframes * (size_t)FRAME_SIZE);
  CU_ASSERT_EQUAL(slab_move_out(host->pfn, 2), 0);
  CU_ASSERT_EQUAL(fake_zone_logged(FAKE_ZONE_PUNCH), 2);
  CU_ASSERT_EQUAL(fake_resident(view, host->nframes * (size_t)FRAME_SIZE), before - 2 * FRAME_SIZE);
  check();
  end();
}

/* ---- refusals ---- */

static void expect_refusal(void) {
  enum zone_backing before = zone_backing(guest->pfn);
  size_t mappings = zone_mappings(), holes = hollow();
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, 1), -ENOMEM);
  CU_ASSERT_EQUAL(zone_backing(guest->pfn), before);
  CU_ASSERT_EQUAL(zone_mappings(), mappings);
  CU_ASSERT_EQUAL(hollow(), holes);
  check();
}

static void a_refused_mapping_changes_nothing(void) {
  begin();
  fake_zone_refuse(FAKE_ZONE_FREEZE, -ENOMEM, 1, 1);
  expect_refusal();
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, 1), 0);
  end();
}

/* What is left is the program's. */
static void the_last_mappings_are_not_used(void) {
  most_mappings = 4;
  begin();
  most_mappings = 0;
  expect_refusal();
  CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_FREEZE], 0);
  end();
}

/* The second of three runs is refused: the first has left, the others are where they were. */
static void a_refusal_in_the_midst_is_no_harm(void) {
  begin();
  CU_ASSERT_EQUAL(slab_move_out(pfn_add(guest->pfn, 1), 1), 0);
  fake_zone_refuse(FAKE_ZONE_FREEZE, -ENOMEM, 2, 1);
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, 3), -ENOMEM);
  CU_ASSERT_EQUAL(zone_backing(guest->pfn), ZONE_FROZEN);
  CU_ASSERT_EQUAL(zone_backing(pfn_add(guest->pfn, 2)), ZONE_GUEST);
  get(nslots);
  check();
  end();
}

/* Without memory for the copies: the zone's pages are still read, and nobody changes them. */
static void a_page_that_is_not_copied_is_read_still(void) {
  begin();
  fake.refuse[FAKE_POPULATE] = -ENOMEM;
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, 1), -ENOMEM);
  CU_ASSERT_EQUAL(slab_move_out(host->pfn, host->nframes), -ENOMEM);
  CU_ASSERT_EQUAL(zone_backing(guest->pfn), ZONE_FROZEN);
  CU_ASSERT_EQUAL(fake_zone_logged(FAKE_ZONE_PUNCH), 0);
  size_t first = get(3 * nslots);
  for (size_t i = first; i < nobjects; i++) fill(i, 5);
  CU_ASSERT_TRUE(all_intact());
  fake.refuse[FAKE_POPULATE] = 0;
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, 1), 0);
  check();
  end();
}

/* ---- forks ---- */

/* A zone of which a part is frozen is given up as any, and its guests are ordinary slabs then. */
static void the_rest_is_frozen_by_a_fork(void) {
  for (int copied = 0; copied < 2; copied++) {
    begin();
    if (!copied) fake.refuse[FAKE_POPULATE] = -ENOMEM;
    CU_ASSERT_EQUAL(slab_move_out(guest->pfn, 1), copied ? 0 : -ENOMEM);
    CU_ASSERT_EQUAL(slab_move_out(pfn_add(host->pfn, 1), 1), copied ? 0 : -ENOMEM);
    fake.refuse[FAKE_POPULATE] = 0;
    CU_ASSERT_EQUAL(zone_freeze(), 0);
    CU_ASSERT_FALSE(zone_is_shared(guest->pfn, guest->nframes));
    CU_ASSERT_FALSE(zone_is_shared(host->pfn, host->nframes));
    slab_thaw_all();
    CU_ASSERT_EQUAL(guest->state, SLAB_PARTIAL);
    CU_ASSERT_EQUAL(bins[size_class].nblocked, 0);
    check();
    get(2 * nslots);
    check();
    /* With the next zone open it is nothing to move out. */
    CU_ASSERT_EQUAL(zone_open(false, -1), ZONE_OPEN);
    fake_zone_clear_log();
    CU_ASSERT_EQUAL(slab_move_out(guest->pfn, guest->nframes), 0);
    CU_ASSERT_EQUAL(fake_zone.calls[FAKE_ZONE_FREEZE] + fake_zone.calls[FAKE_ZONE_PUNCH], 0);
    end();
  }
}

/* Nobody knows what a refused freeze has left shared. */
static void after_a_refused_freeze_all_counts_as_shared(void) {
  begin();
  fake_zone_refuse(FAKE_ZONE_FREEZE, -ENOMEM, 1, 1);
  CU_ASSERT_NOT_EQUAL(zone_freeze(), 0);
  CU_ASSERT_TRUE(zone_is_shared(guest->pfn, 1));
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, 1), 0);
  CU_ASSERT_TRUE(zone_is_shared(guest->pfn, 1));
  end();
}

/* ---- settled for good ---- */

static void plain_frames_are_left_alone(void) {
  begin_host();
  unsigned calls = fake.total;
  CU_ASSERT_EQUAL(slab_move_out(guest->pfn, guest->nframes), 0);
  CU_ASSERT_EQUAL(fake.total, calls);
  CU_ASSERT_TRUE(zone_is_plain(guest->pfn, guest->nframes));
  end();
}

static const struct unit_test tests[] = {
    {"a_frame_of_a_guest_leaves", a_frame_of_a_guest_leaves},
    {"half_of_a_slot_leaves", half_of_a_slot_leaves},
    {"all_of_a_guest_leaves", all_of_a_guest_leaves},
    {"an_empty_guest_goes_as_others_do", an_empty_guest_goes_as_others_do},
    {"it_may_be_asked_again", it_may_be_asked_again},
    {"a_frame_of_a_host_leaves_its_guests", a_frame_of_a_host_leaves_its_guests},
    {"a_frame_that_has_left_takes_no_guest", a_frame_that_has_left_takes_no_guest},
    {"it_takes_guests_beside_it", it_takes_guests_beside_it},
    {"a_page_without_guests_is_given_back", a_page_without_guests_is_given_back},
    {"a_refused_mapping_changes_nothing", a_refused_mapping_changes_nothing},
    {"the_last_mappings_are_not_used", the_last_mappings_are_not_used},
    {"a_refusal_in_the_midst_is_no_harm", a_refusal_in_the_midst_is_no_harm},
    {"a_page_that_is_not_copied_is_read_still", a_page_that_is_not_copied_is_read_still},
    {"the_rest_is_frozen_by_a_fork", the_rest_is_frozen_by_a_fork},
    {"after_a_refused_freeze_all_counts_as_shared", after_a_refused_freeze_all_counts_as_shared},
    {"plain_frames_are_left_alone", plain_frames_are_left_alone},
    {0},
};

int main(void) { return zone_unit_main("move_out", tests); }
