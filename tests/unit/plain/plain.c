/* check.h's driver without CUnit. */
#include <setjmp.h>
#include <stdio.h>

#include "tests/unit/check.h"

static const char *failed_file, *failed_text, *skip_reason;
static unsigned failed_line;
static jmp_buf leave;

void unit_skip(const char *reason) { skip_reason = reason; }

void plain_assert(int value, const char *file, unsigned line, const char *text, int fatal) {
  if (value) return;
  if (failed_text == NULL) {
    failed_file = file;
    failed_line = line;
    failed_text = text;
  }
  if (fatal) longjmp(leave, 1);
}

int unit_main(const char *suite, const struct unit_test *tests) {
  static const struct unit_test *test;
  static int failures;
  (void)suite;
  for (test = tests; test->name != NULL; test++) {
    failed_text = skip_reason = NULL;
    if (setjmp(leave) == 0) test->run();
    if (failed_text != NULL) {
      failures++;
      printf("FAIL %s: %s:%u: %s\n", test->name, failed_file, failed_line, failed_text);
    } else if (skip_reason != NULL) {
      printf("SKIP %s: %s\n", test->name, skip_reason);
    } else {
      printf("PASS %s\n", test->name);
    }
    fflush(stdout);
  }
  return failures == 0 ? 0 : 1;
}
