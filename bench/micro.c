/*
 * The micro-benchmarks' main program. It runs under whatever malloc is loaded, and says in its
 * report which shared object that is, so that the runner can refuse a run on the wrong one.
 */
#include <dlfcn.h>
#include <string.h>

#include "bench.h"

/* The object that all the functions used here come from, or an explanation. */
static const char *malloc_provider(void) {
  static const char *const names[] = {"malloc", "free", "calloc", "realloc", "posix_memalign"};
  const char *provider = NULL;

  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    Dl_info info;
    void *function = dlsym(RTLD_DEFAULT, names[i]);

    if (function == NULL || dladdr(function, &info) == 0) return "unknown";
    if (provider != NULL && strcmp(provider, info.dli_fname) != 0) return "mixed";
    provider = info.dli_fname;
  }
  return provider;
}

int main(int argc, char **argv) {
  gb_context("malloc", malloc_provider());
  register_pairs();
  register_live();
  register_batches();
  register_threads();
  register_large();
  return gb_run(argc, argv);
}
