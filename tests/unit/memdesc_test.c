#include "page/memdesc.h"

#include "tests/unit/check.h"

static void fields_come_back(void) {
  void *owner = (void *)(((uintptr_t)1 << 47) - 64);
  for (int type = MEMDESC_NONE; type <= MEMDESC_RESERVED; type++)
    for (unsigned c = 0; c < 256; c++) {
      memdesc_t d = memdesc_make((enum memdesc_type)type, c, owner);
      CU_ASSERT_EQUAL((int)memdesc_type(d), type);
      CU_ASSERT_EQUAL(memdesc_class(d), c);
      CU_ASSERT_PTR_EQUAL(memdesc_owner(d), owner);
      CU_ASSERT_EQUAL(memdesc_flags(d), 0);
    }
}

static void flags_are_apart(void) {
  memdesc_t d = memdesc_make(MEMDESC_FOLIO, 255, (void *)64);
  d.word |= MEMDESC_ISOLATED | MEMDESC_PINNED | MEMDESC_HOST | MEMDESC_GUEST;
  CU_ASSERT_EQUAL(memdesc_flags(d), 0xf0);
  CU_ASSERT_EQUAL(memdesc_type(d), MEMDESC_FOLIO);
  CU_ASSERT_EQUAL(memdesc_class(d), 255);
  CU_ASSERT_PTR_EQUAL(memdesc_owner(d), (void *)64);
  CU_ASSERT_TRUE(memdesc_is_allocation(d));
}

static void only_slabs_and_folios_are_allocations(void) {
  for (int type = 0; type < 16; type++) {
    memdesc_t d = memdesc_make((enum memdesc_type)type, 0xff, (void *)~(uintptr_t)0xffff);
    CU_ASSERT_EQUAL(memdesc_is_allocation(d), type == MEMDESC_SLAB || type == MEMDESC_FOLIO);
  }
}

/* The numbers are told to other processes in quire.h: they can't change without its version. */
static void encoding_is_the_published_one(void) {
  memdesc_t d = memdesc_make(MEMDESC_SLAB, 0x12, (void *)0x7f0000000040);
  CU_ASSERT_EQUAL(d.word, 0x7f00000000401202u);
  CU_ASSERT_EQUAL(memdesc_make(MEMDESC_NONE, 0, NULL).word, 0);
  CU_ASSERT_EQUAL(memdesc_make(MEMDESC_FREE, 0, NULL).word, 1);
  CU_ASSERT_EQUAL(memdesc_make(MEMDESC_FOLIO, 0, NULL).word, 3);
  CU_ASSERT_EQUAL(memdesc_make(MEMDESC_META, 0, NULL).word, 4);
  CU_ASSERT_EQUAL(memdesc_make(MEMDESC_OWNED, 0, NULL).word, 5);
  CU_ASSERT_EQUAL(memdesc_make(MEMDESC_POISON, 0, NULL).word, 6);
  CU_ASSERT_EQUAL(memdesc_make(MEMDESC_RESERVED, 0, NULL).word, 7);
  CU_ASSERT_EQUAL(MEMDESC_ISOLATED, 0x10);
  CU_ASSERT_EQUAL(MEMDESC_PINNED, 0x20);
  CU_ASSERT_EQUAL(MEMDESC_HOST, 0x40);
  CU_ASSERT_EQUAL(MEMDESC_GUEST, 0x80);
}

static void types_have_names(void) {
  CU_ASSERT_STRING_EQUAL(memdesc_type_name(MEMDESC_NONE), "none");
  CU_ASSERT_STRING_EQUAL(memdesc_type_name(MEMDESC_SLAB), "slab");
  CU_ASSERT_STRING_EQUAL(memdesc_type_name(MEMDESC_RESERVED), "reserved");
  CU_ASSERT_STRING_EQUAL(memdesc_type_name((enum memdesc_type)15), "invalid");
}

static const struct unit_test tests[] = {
    {"fields_come_back", fields_come_back},
    {"flags_are_apart", flags_are_apart},
    {"only_slabs_and_folios_are_allocations", only_slabs_and_folios_are_allocations},
    {"encoding_is_the_published_one", encoding_is_the_published_one},
    {"types_have_names", types_have_names},
    {0},
};

int main(void) { return unit_main("memdesc", tests); }
