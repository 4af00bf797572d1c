/* The assertions of CUnit that the tests use, for machines for which there is no CUnit (cross
 * builds): put this folder before the system's, and link plain.c instead of check.c and CUnit. */
#ifndef QUIRE_TESTS_UNIT_PLAIN_CUNIT_H
#define QUIRE_TESTS_UNIT_PLAIN_CUNIT_H

#include <string.h>

/* Notes the first failure of a test; a fatal one leaves it. */
void plain_assert(int value, const char *file, unsigned line, const char *text, int fatal);

#define PLAIN(value, text, fatal) plain_assert(!!(value), __FILE__, __LINE__, text, fatal)

#define CU_PASS(message) PLAIN(1, #message, 0)
#define CU_FAIL(message) PLAIN(0, "CU_FAIL(" #message ")", 0)
#define CU_FAIL_FATAL(message) PLAIN(0, "CU_FAIL_FATAL(" #message ")", 1)
#define CU_ASSERT(v) PLAIN(v, #v, 0)
#define CU_ASSERT_FATAL(v) PLAIN(v, #v, 1)
#define CU_ASSERT_TRUE(v) PLAIN(v, "CU_ASSERT_TRUE(" #v ")", 0)
#define CU_ASSERT_TRUE_FATAL(v) PLAIN(v, "CU_ASSERT_TRUE_FATAL(" #v ")", 1)
#define CU_ASSERT_FALSE(v) PLAIN(!(v), "CU_ASSERT_FALSE(" #v ")", 0)
#define CU_ASSERT_FALSE_FATAL(v) PLAIN(!(v), "CU_ASSERT_FALSE_FATAL(" #v ")", 1)
#define CU_ASSERT_EQUAL(a, b) PLAIN((a) == (b), "CU_ASSERT_EQUAL(" #a "," #b ")", 0)
#define CU_ASSERT_EQUAL_FATAL(a, b) PLAIN((a) == (b), "CU_ASSERT_EQUAL_FATAL(" #a "," #b ")", 1)
#define CU_ASSERT_NOT_EQUAL(a, b) PLAIN((a) != (b), "CU_ASSERT_NOT_EQUAL(" #a "," #b ")", 0)
#define CU_ASSERT_NOT_EQUAL_FATAL(a, b)                                                            \
  PLAIN((a) != (b), "CU_ASSERT_NOT_EQUAL_FATAL(" #a "," #b ")", 1)
#define CU_ASSERT_PTR_EQUAL(a, b)                                                                  \
  PLAIN((const void *)(a) == (const void *)(b), "CU_ASSERT_PTR_EQUAL(" #a "," #b ")", 0)
#define CU_ASSERT_PTR_EQUAL_FATAL(a, b)                                                            \
  PLAIN((const void *)(a) == (const void *)(b), "CU_ASSERT_PTR_EQUAL_FATAL(" #a "," #b ")", 1)
#define CU_ASSERT_PTR_NOT_EQUAL(a, b)                                                              \
  PLAIN((const void *)(a) != (const void *)(b), "CU_ASSERT_PTR_NOT_EQUAL(" #a "," #b ")", 0)
#define CU_ASSERT_PTR_NULL(p) PLAIN((p) == NULL, "CU_ASSERT_PTR_NULL(" #p ")", 0)
#define CU_ASSERT_PTR_NULL_FATAL(p) PLAIN((p) == NULL, "CU_ASSERT_PTR_NULL_FATAL(" #p ")", 1)
#define CU_ASSERT_PTR_NOT_NULL(p) PLAIN((p) != NULL, "CU_ASSERT_PTR_NOT_NULL(" #p ")", 0)
#define CU_ASSERT_PTR_NOT_NULL_FATAL(p)                                                            \
  PLAIN((p) != NULL, "CU_ASSERT_PTR_NOT_NULL_FATAL(" #p ")", 1)
#define CU_ASSERT_STRING_EQUAL(a, b)                                                               \
  PLAIN(strcmp((const char *)(a), (const char *)(b)) == 0,                                         \
        "CU_ASSERT_STRING_EQUAL(" #a "," #b ")", 0)
#define CU_ASSERT_STRING_EQUAL_FATAL(a, b)                                                         \
  PLAIN(strcmp((const char *)(a), (const char *)(b)) == 0,                                         \
        "CU_ASSERT_STRING_EQUAL_FATAL(" #a "," #b ")", 1)
#define CU_ASSERT_STRING_NOT_EQUAL(a, b)                                                           \
  PLAIN(strcmp((const char *)(a), (const char *)(b)) != 0,                                         \
        "CU_ASSERT_STRING_NOT_EQUAL(" #a "," #b ")", 0)
#define CU_ASSERT_NSTRING_EQUAL(a, b, n)                                                           \
  PLAIN(strncmp((const char *)(a), (const char *)(b), n) == 0,                                     \
        "CU_ASSERT_NSTRING_EQUAL(" #a "," #b ")", 0)
#define CU_ASSERT_DOUBLE_EQUAL(a, b, e)                                                            \
  PLAIN((a) - (b) <= (e) && (b) - (a) <= (e), "CU_ASSERT_DOUBLE_EQUAL(" #a "," #b ")", 0)

#endif
