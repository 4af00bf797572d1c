/* The table of size classes, checked against the rules that it is said to follow. */
#include "slab/size_class.h"

#include "page/arena.h"
#include "page/compact.h"
#include "slab/slab.h"
#include "tests/unit/check.h"

/* The sizes by their rule: 8, 16 to 128 in steps of 16, then eight per doubling. */
static uint32_t next_size(uint32_t size) {
  if (size == 8) return 16;
  if (size < 128) return size + 16;
  uint32_t doubling = 128;
  while (doubling * 2 <= size) doubling *= 2;
  return size + doubling / 8;
}

static void sizes_follow_their_rule(void) {
  uint32_t size = 8;
  for (unsigned c = 0; c < CACHED_CLASSES; c++) {
    if (c == 2) CU_ASSERT_EQUAL(size, 32);
    CU_ASSERT_EQUAL(size_classes[c].size, size);
    size = next_size(size);
  }
  CU_ASSERT_EQUAL(class_size(SLAB_CLASSES - 1), SLAB_MAX);
  CU_ASSERT_EQUAL(class_size(CACHED_CLASSES - 1), CACHED_MAX);
}

static void slabs_are_cut_well(void) {
  for (unsigned c = 0; c < SLAB_CLASSES; c++) {
    const struct size_class *k = &size_classes[c];
    uint32_t bytes = k->nframes * (uint32_t)FRAME_SIZE, tail = bytes - k->nslots * k->size;
    CU_ASSERT_TRUE(k->nframes >= 1 && k->nframes <= 64);
    CU_ASSERT_TRUE(k->nslots >= 1 && k->nslots <= 1024);
    CU_ASSERT_TRUE((uint32_t)k->nslots * k->size <= bytes);
    CU_ASSERT_TRUE(tail < k->size || k->nslots == 1024);
    CU_ASSERT_TRUE(tail * 100 < bytes * 3);
  }
  for (unsigned c = SLAB_CLASSES; c < CACHED_CLASSES; c++) {
    CU_ASSERT_EQUAL(size_classes[c].nslots, 1);
    CU_ASSERT_EQUAL(size_classes[c].nframes * (uint32_t)FRAME_SIZE, size_classes[c].size);
  }
}

/* Every offset, not only slots' beginnings: interior pointers are told by this, too. */
static void reciprocals_are_exact(void) {
  unsigned wrong = 0;
  for (unsigned c = 0; c < SLAB_CLASSES; c++) {
    const struct size_class *k = &size_classes[c];
    CU_ASSERT_EQUAL(k->reciprocal, (((uint64_t)1 << 40) + k->size - 1) / k->size);
    for (uint32_t offset = 0; offset < 256u << 10; offset++)
      wrong += class_slot(k, offset) != offset / k->size;
  }
  CU_ASSERT_EQUAL(wrong, 0);
}

static void class_of_is_the_smallest_that_holds(void) {
  unsigned c = 0, wrong = 0;
  for (size_t size = 0; size <= CACHED_MAX; size++) {
    while (class_size(c) < size) c++;
    wrong += class_of(size) != c;
    if (size > 128) wrong += class_of_large(size) != c;
  }
  CU_ASSERT_EQUAL(wrong, 0);
}

static void waste_is_at_most_an_eighth(void) {
  unsigned wrong = 0;
  for (size_t size = 129; size <= CACHED_MAX; size++)
    wrong += (class_size(class_of(size)) - size) * 8 > class_size(class_of(size));
  CU_ASSERT_EQUAL(wrong, 0);
}

static void slots_are_aligned(void) {
  for (unsigned c = 1; c < CACHED_CLASSES; c++) CU_ASSERT_EQUAL(class_size(c) % 16, 0);
  for (size_t size = 16; size <= 4096; size *= 2) {
    CU_ASSERT_EQUAL(class_size(class_of(size)), size);
  }
}

static void aligned_classes_fit(void) {
  unsigned wrong = 0;
  for (size_t align = 16; align <= 4096; align *= 2)
    for (size_t size = 0; size <= SLAB_MAX; size++) {
      unsigned c = class_of_aligned(size, align);
      wrong += c >= SLAB_CLASSES || class_size(c) < size || class_size(c) % align != 0;
      bool direct = align >= 512;
      wrong += direct && class_size(c) <= COMPACT_SLOT_MAX;
      /* No smaller class would have done. */
      for (unsigned less = class_of(size); size % 257 == 0 && less < c; less++)
        wrong += class_size(less) % align == 0 && class_size(less) >= size &&
                 (!direct || class_size(less) > COMPACT_SLOT_MAX);
    }
  CU_ASSERT_EQUAL(wrong, 0);
}

static const struct unit_test tests[] = {
    {"sizes_follow_their_rule", sizes_follow_their_rule},
    {"slabs_are_cut_well", slabs_are_cut_well},
    {"reciprocals_are_exact", reciprocals_are_exact},
    {"class_of_is_the_smallest_that_holds", class_of_is_the_smallest_that_holds},
    {"waste_is_at_most_an_eighth", waste_is_at_most_an_eighth},
    {"slots_are_aligned", slots_are_aligned},
    {"aligned_classes_fit", aligned_classes_fit},
    {0},
};

int main(void) { return unit_main("size_class", tests); }
