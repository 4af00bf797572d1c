/* Compaction of a heap that is divided by nodes of memory: what is merged is of one node. */
#include "page/compact.h"

#include "page/zone.h"
#include "slab/mesh.h"
#include "tests/unit/check.h"
#include "tests/unit/fake_numa.h"
#include "tests/unit/fake_zone.h"
#include "tests/unit/random.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

static const int two[] = {0, 1, NO_CPU};

static bool consistent(void) {
  bool ok = frames_consistent() && zone_consistent();
  for (unsigned c = 0; c < SLAB_CLASSES; c++) ok = ok && bin_consistent(c);
  return ok;
}

enum { OBJECTS = 60000 };

static uint32_t *objects[OBJECTS];
static unsigned object_class;

static void fill_object(unsigned i) {
  for (size_t k = 0; k < class_size(object_class) / sizeof(uint32_t); k++)
    objects[i][k] = i * 2654435761u + (uint32_t)k;
}

static bool is_intact(unsigned i) {
  for (size_t k = 0; k < class_size(object_class) / sizeof(uint32_t); k++)
    if (objects[i][k] != i * 2654435761u + (uint32_t)k) return false;
  return true;
}

/* Every guest's hosts are of its node. */
static bool apart(unsigned *guests) {
  bool ok = true;
  for (unsigned node = 0; node < numa.count; node++) {
    struct bin *bin = bin_at(node, object_class);
    lock_acquire(&bin->lock);
    for (const struct slab *slab = bin->guests; slab != NULL; slab = slab->next, guests[node]++)
      for (const struct mesh_run *run = first_as_guest(slab); run != NULL; run = next_of_guest(run))
        ok = ok && slab->node == node && run_host(run)->node == node;
    lock_release(&bin->lock);
  }
  return ok;
}

static void compaction_keeps_to_a_node(void) {
  static const struct compact_options options = {.map_share = 50, .inherited = -1};
  struct random r = {7};
  unsigned guests[NODES_MAX] = {0};
  zone_heap_begin(ARENA);
  fake_numa_install();
  fake_numa_divide(two);
  compact_configure(&options);
  object_class = class_of(240);
  for (unsigned i = 0; i < OBJECTS; i++) {
    fake_cpu = (int)(i / 64 % 2);
    CU_ASSERT_EQUAL_FATAL(bin_refill(object_class, (void **)&objects[i], 1), 1);
    fill_object(i);
  }
  for (unsigned i = 0; i < OBJECTS; i++)
    if (random_below(&r, 8) != 0) {
      bin_free_now(object_class, objects[i]);
      objects[i] = NULL;
    }
  (void)bin_trim(true);
  (void)frames_purge(0);
  for (int i = 0; i < 2; i++) {
    compact_begin(true);
    while (!compact_step(0)) {
    }
  }
  CU_ASSERT_TRUE(apart(guests));
  CU_ASSERT_EQUAL(guests[NODE_UNKNOWN], 0);
  CU_ASSERT_TRUE(guests[1] > 10);
  CU_ASSERT_TRUE(guests[2] > 10);
  CU_ASSERT_TRUE(compact_gained() > 0 || guests[1] + guests[2] > 100);
  /* What was copied was to be had on its node, and the thread is as it was. */
  CU_ASSERT_TRUE(fake_numa.prefers > 4);
  CU_ASSERT_EQUAL(fake_numa.preferred, OS_NODE_NONE);
  CU_ASSERT_TRUE(consistent());
  for (unsigned i = 0; i < OBJECTS; i++)
    if (objects[i] != NULL) {
      CU_ASSERT_TRUE(is_intact(i));
      bin_free_now(object_class, objects[i]);
    }
  CU_ASSERT_TRUE(consistent());
  compact_fini();
  zone_heap_end();
  nodes_over();
}

static const struct unit_test tests[] = {
    {"compaction_keeps_to_a_node", compaction_keeps_to_a_node},
    {0},
};

int main(void) { return zone_unit_main("compact_nodes", tests); }
