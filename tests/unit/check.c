#include "tests/unit/check.h"

#include <CUnit/TestRun.h>
#include <stdbool.h>
#include <stdio.h>

static unsigned failed;
static const char *skip_reason;

void unit_skip(const char *reason) { skip_reason = reason; }

static void before(const CU_pTest test, const CU_pSuite suite) {
  (void)test;
  (void)suite;
  skip_reason = NULL;
}

static void after(const CU_pTest test, const CU_pSuite suite, const CU_pFailureRecord failure) {
  (void)suite;
  if (failure != NULL) {
    failed++;
    printf("FAIL %s: %s:%u: %s\n", test->pName, failure->strFileName, failure->uiLineNumber,
           failure->strCondition);
  } else if (skip_reason != NULL) {
    printf("SKIP %s: %s\n", test->pName, skip_reason);
  } else {
    printf("PASS %s\n", test->pName);
  }
  fflush(stdout);
}

int unit_main(const char *suite, const struct unit_test *tests) {
  CU_pSuite into = NULL;
  bool ok = CU_initialize_registry() == CUE_SUCCESS;
  if (ok) into = CU_add_suite(suite, NULL, NULL);
  for (ok = into != NULL; ok && tests->name != NULL; tests++)
    ok = CU_add_test(into, tests->name, tests->run) != NULL;
  CU_set_test_start_handler(before);
  CU_set_test_complete_handler(after);
  if (ok) ok = CU_run_all_tests() == CUE_SUCCESS;
  if (!ok) printf("FAIL %s: CUnit: %s\n", suite, CU_get_error_msg());
  CU_cleanup_registry();
  return ok && failed == 0 ? 0 : 1;
}
