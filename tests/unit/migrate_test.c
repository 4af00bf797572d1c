/* Migration of slabs on a fake zone: contents stay what they were, whatever happens meanwhile. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "arch/sys.h"
#include "page/mover.h"
#include "page/zone.h"
#include "slab/mesh.h"
#include "tests/unit/check.h"
#include "tests/unit/meshing.h"

enum { PAIR_SIZE = 192, PAIR_SLOTS = 170 };

/* ---- by the real migration ---- */

/* Every live object is at its own address as it was, uses less memory, and all goes on. */
static void migrate_size(size_t object_size, struct random *r) {
  meshing_begin(object_size);
  make_sparse(r, 40, size_min(1 + size_classes[object_class].nslots / 8, 14));
  struct migration m = migration();
  migrate_all(&m);
  if (!all_intact()) printf("%zu bytes: contents\n", object_bytes);
  CU_ASSERT_TRUE_FATAL(all_intact());
  CU_ASSERT_TRUE(bin_consistent(object_class));
  bool small = object_bytes <= COMPACT_SLOT_MAX; /* others stay where they are */
  CU_ASSERT_EQUAL(m.hosts_made > 0 && m.meshed > 0, small);
  CU_ASSERT_TRUE(small || (m.hosts_made + m.meshed == 0 && m.hollowed > 0));
  CU_ASSERT_EQUAL(m.pinned, 0);
  for (int round = 0; round < 20; round++) {
    for (size_t k = nobjects / 8; k > 0; k--) put_object(random_below(r, nobjects));
    get_objects(nobjects / 8);
    for (size_t i = 0; i < nobjects; i++) { /* the program goes on writing */
      objects[i].pattern += 77;
      fill_object(&objects[i]);
    }
    if (round % 4 == 3) migrate_all(&m);
    CU_ASSERT_TRUE_FATAL(all_intact());
    CU_ASSERT_TRUE(bin_consistent(object_class));
  }
  everything_goes();
  meshing_end();
}

static void migration_loses_nothing(void) {
  struct random r = {test_seed()};
  for (unsigned i = 0; i < MESHING_SIZES; i++) migrate_size(meshing_sizes[i], &r);
}

static size_t longest_lift;

static void lifts_are_slow(enum fake_zone_call call, char *p, unused char *to, size_t length) {
  if (call != FAKE_ZONE_SHIFT || !arena_contains(p)) return;
  fake.cpu_us += 10000;
  longest_lift = size_max(longest_lift, length / FRAME_SIZE);
}

/* With a budget for hardly a frame all is moved as it is otherwise: hosts, guests, and slabs that
 * are both. Without one, slabs are moved whole. */
static void short_lifts_lose_nothing(void) {
  static const uint32_t some[] = {64, 240, 640};
  struct random r = {5};
  for (unsigned i = 0; i < array_size(some); i++)
    for (unsigned budget = 10; budget <= 100000; budget *= 100) {
      meshing_begin(some[i]);
      lift_configure(budget);
      make_sparse(&r, 40, size_min(1 + size_classes[object_class].nslots / 8, 14));
      struct migration m = migration();
      longest_lift = 0;
      fake_zone.seen = lifts_are_slow;
      migrate_all(&m);
      fake_zone.seen = NULL;
      CU_ASSERT_TRUE(m.meshed > 0 && m.hosts_made > 0);
      if (budget == 10) CU_ASSERT_EQUAL(longest_lift, 1);
      if (budget == 100000) CU_ASSERT_TRUE(longest_lift > 4);
      CU_ASSERT_TRUE(all_intact());
      for (size_t k = 0; k < nobjects; k++) {
        objects[k].pattern += 77;
        fill_object(&objects[k]);
      }
      get_objects(nobjects / 2);
      CU_ASSERT_TRUE(all_intact());
      lift_configure(200);
      everything_goes();
      meshing_end();
    }
}

/* A page in the midst is pinned: what went before it is where it is, the rest stays. */
static void a_pinned_page_ends_a_host_of_many_lifts(void) {
  meshing_begin(PAIR_SIZE);
  get_objects(PAIR_SLOTS);
  struct slab *slab = slab_of(objects[0].p);
  for (size_t i = nobjects; i-- > 0;)
    if ((uintptr_t)objects[i].p / FRAME_SIZE % 2 == 0) put_object(i);
  lift_configure(10);
  longest_lift = 0;
  fake_zone.seen = lifts_are_slow;
  fake_zone.pinned = arena_addr(pfn_add(slab->pfn, 4));
  struct migration m = migration();
  CU_ASSERT_EQUAL_FATAL(slab_isolate(slab, slab->pfn), OWNER_DONE);
  (void)slab_migrate(slab, &m);
  slab_put_back(slab);
  fake_zone.seen = NULL;
  CU_ASSERT_EQUAL(m.pinned, 1);
  CU_ASSERT_EQUAL(longest_lift, 1);
  CU_ASSERT_TRUE(zone_is_home(slab->pfn, 4));
  CU_ASSERT_TRUE(zone_is_plain(pfn_add(slab->pfn, 4), slab->nframes - 4u));
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(object_class));
  fake_zone_permit();
  lift_configure(200);
  get_objects(PAIR_SLOTS / 2);
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  meshing_end();
}

/* A freed slot of a guest is to be had again, in its host: no slab is made for as many objects as
 * were freed. */
static void freed_slots_of_guests_are_their_hosts(void) {
  struct random r = {3};
  struct bin_stats before, after;
  meshing_begin(64);
  make_sparse(&r, 40, 20);
  struct migration m = migration();
  migrate_all(&m);
  CU_ASSERT_TRUE(m.meshed > 0);
  bin_stats(object_class, &before);
  size_t nblocked = bins[object_class].nblocked;
  CU_ASSERT_TRUE(nblocked > 0);
  CU_ASSERT_EQUAL(before.free_slots, before.nslabs * size_classes[object_class].nslots - nobjects);
  size_t freed = 0;
  for (size_t i = nobjects; i-- > 0;) {
    if (slab_of(objects[i].p)->state != SLAB_GUEST) continue;
    put_object(i);
    freed++;
  }
  CU_ASSERT_TRUE(freed > 0);
  CU_ASSERT_EQUAL(bins[object_class].nblocked, 0);
  CU_ASSERT_PTR_NULL(bins[object_class].guests); /* nothing lives in any: plain memory again */
  CU_ASSERT_EQUAL(zone_now().guest, 0);
  bin_stats(object_class, &after);
  CU_ASSERT_TRUE(after.nslabs < before.nslabs);
  get_objects(freed);
  CU_ASSERT_TRUE(all_intact());
  bin_stats(object_class, &after);
  CU_ASSERT_TRUE(after.nslabs < before.nslabs);
  everything_goes();
  meshing_end();
}

/* ---- while others free ---- */

static struct object *to_free;
static size_t nto_free;
static uint32_t freeing, freed;

/* Touches no object: in the fake nobody is made to wait for one. */
static void *freer(unused void *arg) {
  while (!load_acquire(&freeing)) cpu_relax();
  for (size_t i = 0; i < nto_free; i++) bin_free_now(object_class, to_free[i].p);
  store_release(&freed, 1);
  return NULL;
}

/* Slabs are chosen, moved and settled while their objects go: none of those that stay is touched.
 */
static void frees_meanwhile(size_t object_size, struct random *r) {
  pthread_t thread;
  meshing_begin(object_size);
  make_sparse(r, 100, size_min(size_classes[object_class].nslots / 3, 60));
  for (size_t i = nobjects; i > 1; i--) { /* those that go last, in any order */
    size_t k = random_below(r, i);
    struct object o = objects[k];
    objects[k] = objects[i - 1];
    objects[i - 1] = o;
  }
  nto_free = nobjects / 2;
  nobjects -= nto_free;
  to_free = objects + nobjects;
  freeing = freed = 0;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, freer, NULL), 0);
  struct migration m = migration();
  store_release(&freeing, 1);
  while (!load_acquire(&freed)) migrate_all(&m);
  pthread_join(thread, NULL);
  migrate_all(&m);
  if (!all_intact()) printf("%zu bytes: contents\n", object_bytes);
  CU_ASSERT_TRUE(all_intact());
  CU_ASSERT_TRUE(bin_consistent(object_class));
  get_objects(nobjects / 2);
  CU_ASSERT_TRUE(all_intact());
  everything_goes();
  meshing_end();
}

static void others_free_while_it_moves(void) {
  struct random r = {test_seed()};
  for (uint64_t round = 0; round < test_steps(30000) / 300; round++)
    frees_meanwhile(meshing_sizes[random_below(&r, 8)], &r);
}

static const struct unit_test tests[] = {
    {"migration_loses_nothing", migration_loses_nothing},
    {"short_lifts_lose_nothing", short_lifts_lose_nothing},
    {"a_pinned_page_ends_a_host_of_many_lifts", a_pinned_page_ends_a_host_of_many_lifts},
    {"freed_slots_of_guests_are_their_hosts", freed_slots_of_guests_are_their_hosts},
    {"others_free_while_it_moves", others_free_while_it_moves},
    {0},
};

int main(void) { return zone_unit_main("migrate", tests); }
