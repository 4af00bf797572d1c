/* CUnit without its banners: one line per test, as every test of this repository prints.
 *
 *   static void adds(void) { CU_ASSERT_EQUAL(1 + 1, 2); }
 *   static const struct unit_test tests[] = {{"adds", adds}, {0}};
 *   int main(void) { return unit_main("sums", tests); }
 *
 * prints "PASS adds", or "FAIL adds: file:line: " and the text of the first assertion that failed.
 * A test that finds that it can't run here calls unit_skip and returns. */
#ifndef QUIRE_TESTS_UNIT_CHECK_H
#define QUIRE_TESTS_UNIT_CHECK_H

#include <CUnit/CUnit.h>

struct unit_test {
  const char *name;
  void (*run)(void);
};

/* Runs the tests in order, up to one without a name. The exit status for main: 0 if none failed. */
int unit_main(const char *suite, const struct unit_test *tests);

/* The running test prints "SKIP name: reason" unless an assertion failed. The text must outlive it.
 */
void unit_skip(const char *reason);

#endif
