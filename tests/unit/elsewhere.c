#include "tests/unit/elsewhere.h"

#include <CUnit/CUnit.h>
#include <pthread.h>

#include "slab/bin.h"

struct flush {
  unsigned size_class, n;
  void *const *objects;
};

static void *flush_thread(void *arg) {
  const struct flush *f = arg;
  bin_flush(f->size_class, f->objects, f->n);
  return NULL;
}

void flush_elsewhere(unsigned size_class, void *const *objects, unsigned n) {
  struct flush f = {size_class, n, objects};
  pthread_t thread;
  CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, flush_thread, &f), 0);
  CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
}
