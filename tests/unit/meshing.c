#include "tests/unit/meshing.h"

#include <string.h>

#include "slab/mesh.h"
#include "tests/unit/check.h"

#define ARENA ((size_t)64 * HUGEPAGE_SIZE)

const uint32_t meshing_sizes[MESHING_SIZES] = {16,   48,   64,   112,   240,   256,
                                               576,  640,  1024, 1280,  1536,  3072,
                                               4096, 6144, 8192, 20480, 22528, 65536};

void meshing_end(void) {
  for (unsigned c = 0; c < SLAB_CLASSES; c++) CU_ASSERT_TRUE(bin_consistent(c));
  CU_ASSERT_TRUE(frames_consistent());
  CU_ASSERT_TRUE(zone_consistent());
  CU_ASSERT_TRUE(fake_zone_quiet());
  CU_ASSERT_PTR_NULL(fake_zone.wrong);
  zone_heap_end();
}

/* ---- objects: each is filled with a pattern of its own ---- */

struct object objects[OBJECTS_MOST];
size_t nobjects, object_bytes;
unsigned object_class;
static uint32_t next_pattern;

void fill_object(struct object *o) {
  uint32_t *words = (uint32_t *)o->p;
  for (size_t i = 0; i < object_bytes / sizeof *words; i++) words[i] = o->pattern + (uint32_t)i;
}

bool is_intact(const struct object *o) {
  const uint32_t *words = (const uint32_t *)o->p;
  for (size_t i = 0; i < object_bytes / sizeof *words; i++)
    if (words[i] != o->pattern + (uint32_t)i) return false;
  return true;
}

bool all_intact(void) {
  for (size_t i = 0; i < nobjects; i++)
    if (!is_intact(&objects[i])) return false;
  return true;
}

void get_objects(size_t n) {
  void *out[64];
  for (n = size_min(n, OBJECTS_MOST - nobjects); n > 0;) {
    unsigned got = bin_refill(object_class, out, (unsigned)size_min(n, 64));
    CU_ASSERT_TRUE_FATAL(got > 0);
    for (unsigned i = 0; i < got; i++) {
      objects[nobjects] = (struct object){out[i], next_pattern += 0x10001};
      fill_object(&objects[nobjects++]);
    }
    n -= got;
  }
}

void put_object(size_t i) {
  void *p = objects[i].p;
  objects[i] = objects[--nobjects];
  bin_free_now(object_class, p);
}

void put_all(void) {
  while (nobjects > 0) put_object(nobjects - 1);
}

struct slab *slab_of(const void *p) {
  return memdesc_owner(memmap_get(arena_pfn(p)));
}

void meshing_begin(size_t object_size) {
  zone_heap_begin(ARENA);
  object_bytes = object_size;
  object_class = class_of(object_bytes);
  CU_ASSERT_EQUAL_FATAL(class_size(object_class), object_bytes);
  nobjects = 0;
  next_pattern = 1;
  CU_ASSERT_EQUAL_FATAL(zone_open(false, -1), ZONE_OPEN);
}

/* Every slab of the class, by the memmap. */
size_t all_slabs(struct slab **out, size_t most) {
  size_t n = 0;
  for (uint32_t at = 0; at < arena.opened * HUGEPAGE_FRAMES; at++) {
    memdesc_t d = memmap_get((pfn_t){at});
    if (memdesc_type(d) != MEMDESC_SLAB || memdesc_class(d) != object_class) continue;
    struct slab *slab = memdesc_owner(d);
    if (slab->pfn.n == at && n < most) out[n++] = slab;
  }
  return n;
}

void thin_out(struct random *r, size_t left) {
  while (nobjects > left) put_object(random_below(r, nobjects));
}

static uint32_t host_frames[SLABS_MOST];
static uint16_t host_rooms[SLABS_MOST];
static struct host_list hosts[COMPACT_CLASSES];

struct migration migration(void) {
  memset(hosts, 0, sizeof hosts);
  hosts[object_class] = (struct host_list){host_frames, host_rooms, 0, SLABS_MOST};
  return (struct migration){.mesh = true, .shortest = 1, .mappings_left = 30000, .hosts = hosts};
}

/* Asks every slab of the class; the sparsest last, so that the first become hosts. */
void migrate_all(struct migration *m) {
  static struct slab *slabs[SLABS_MOST];
  size_t n = all_slabs(slabs, SLABS_MOST);
  for (size_t i = 0; i < n; i++) {
    pfn_t pfn = slabs[i]->pfn;
    if (slab_isolate(slabs[i], pfn) != OWNER_DONE) continue;
    (void)slab_migrate(slabs[i], m);
    slab_put_back(slabs[i]);
  }
}

/* Slabs in which so many objects live on average, anywhere. */
void make_sparse(struct random *r, size_t slabs, size_t each) {
  get_objects(slabs * size_classes[object_class].nslots);
  slabs = nobjects / size_classes[object_class].nslots; /* there may be room for fewer */
  thin_out(r, slabs * each);
  CU_ASSERT_EQUAL(zone_is_plain((pfn_t){0}, arena.opened * HUGEPAGE_FRAMES), true);
}

struct zone_stats zone_now(void) {
  struct zone_stats stats;
  zone_stats(&stats);
  return stats;
}

void everything_goes(void) {
  put_all();
  (void)bin_trim(true);
  CU_ASSERT_EQUAL(frames_used(), 0);
  CU_ASSERT_EQUAL(zone_now().home + zone_now().guest + zone_now().frozen, 0);
  CU_ASSERT_EQUAL(zone_mappings(), 0);
}
