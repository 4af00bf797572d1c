/* C++'s operators new and delete, by their mangled names, so that quire needs no C++ library.
 *
 * [new.delete] of ISO C++20. A failing new calls the new_handler as long as there is one, then
 * throws std::bad_alloc; the nothrow forms catch what a handler throws only in so far as they don't
 * call one that is not there. libstdc++'s functions for both are found when they are needed. */
#include <dlfcn.h>
#include <stdlib.h>

#include "alloc/malloc.h"

typedef void new_handler(void);

extern new_handler *_ZSt15get_new_handlerv(void) __attribute__((weak));
extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak));

/* libstdc++ may have come later, by dlopen, and out of the global scope. */
static void *cxx_symbol(const char *name) {
  void *symbol = dlsym(RTLD_DEFAULT, name);
  if (symbol != NULL) return symbol;
  void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
  return library != NULL ? dlsym(library, name) : NULL;
}

static new_handler *present_handler(void) {
  new_handler *(*get)(void) = _ZSt15get_new_handlerv;
  if (get == NULL) get = (new_handler * (*)(void)) cxx_symbol("_ZSt15get_new_handlerv");
  return get != NULL ? get() : NULL;
}

static cold void throw_bad_alloc(void) {
  void (*throw)(void) = _ZSt17__throw_bad_allocv;
  if (throw == NULL) throw = (void (*)(void))cxx_symbol("_ZSt17__throw_bad_allocv");
  if (throw != NULL) throw();
  abort(); /* no C++ library in the process: nobody could catch it */
}

static void *allocate(size_t align, size_t size) {
  return align == 0 ? fast_malloc(size) : alloc_aligned(align, size);
}

/* A nothrow form returns NULL when a handler throws. C can't catch, but libstdc++'s nothrow form
 * can: it calls the throwing form, which is quire's, and so comes back to new_failed. */
static void *new_nothrow_caught(size_t align, size_t size) {
  const char *name = align == 0 ? "_ZnwmRKSt9nothrow_t" : "_ZnwmSt11align_val_tRKSt9nothrow_t";
  void *next = dlsym(RTLD_NEXT, name);
  const char nothrow = 0; /* std::nothrow_t is empty: any address will do */
  if (next == NULL) return NULL;
  if (align == 0) return ((void *(*)(size_t, const void *))next)(size, &nothrow);
  return ((void *(*)(size_t, size_t, const void *))next)(size, align, &nothrow);
}

/* [new.delete.single]: loop until memory is there, or there is no handler. */
static cold void *new_failed(size_t align, size_t size, bool nothrow) {
  for (;;) {
    new_handler *handler = present_handler();
    if (nothrow) return handler != NULL ? new_nothrow_caught(align, size) : NULL;
    if (handler == NULL) throw_bad_alloc();
    handler();
    void *p = allocate(align, size);
    if (p != NULL) return p;
  }
}

static always_inline void *operator_new(size_t size) {
  void *p = fast_malloc(size);
  return likely(p != NULL) ? p : new_failed(0, size, false);
}

static always_inline void *operator_new_nothrow(size_t size) {
  void *p = fast_malloc(size);
  return likely(p != NULL) ? p : new_failed(0, size, true);
}

static inline void *operator_new_aligned(size_t size, size_t align, bool nothrow) {
  void *p = alloc_aligned(align, size);
  return likely(p != NULL) ? p : new_failed(align, size, nothrow);
}

#define CXX(result, name, ...)                                                                     \
  result name(__VA_ARGS__);                                                                        \
  public_symbol result name(__VA_ARGS__)

CXX(void *, _Znwm, size_t n) { return operator_new(n); }
CXX(void *, _Znam, size_t n) { return operator_new(n); }
CXX(void *, _ZnwmRKSt9nothrow_t, size_t n, unused const void *t) { return operator_new_nothrow(n); }
CXX(void *, _ZnamRKSt9nothrow_t, size_t n, unused const void *t) { return operator_new_nothrow(n); }
CXX(void *, _ZnwmSt11align_val_t, size_t n, size_t a) { return operator_new_aligned(n, a, false); }
CXX(void *, _ZnamSt11align_val_t, size_t n, size_t a) { return operator_new_aligned(n, a, false); }
CXX(void *, _ZnwmSt11align_val_tRKSt9nothrow_t, size_t n, size_t a, unused const void *t) {
  return operator_new_aligned(n, a, true);
}
CXX(void *, _ZnamSt11align_val_tRKSt9nothrow_t, size_t n, size_t a, unused const void *t) {
  return operator_new_aligned(n, a, true);
}

CXX(void, _ZdlPv, void *p) { fast_free(p); }
CXX(void, _ZdaPv, void *p) { fast_free(p); }
CXX(void, _ZdlPvm, void *p, size_t n) { fast_free_sized(p, n, true); }
CXX(void, _ZdaPvm, void *p, size_t n) { fast_free_sized(p, n, true); }
CXX(void, _ZdlPvRKSt9nothrow_t, void *p, unused const void *t) { fast_free(p); }
CXX(void, _ZdaPvRKSt9nothrow_t, void *p, unused const void *t) { fast_free(p); }
CXX(void, _ZdlPvSt11align_val_t, void *p, unused size_t a) { fast_free(p); }
CXX(void, _ZdaPvSt11align_val_t, void *p, unused size_t a) { fast_free(p); }
CXX(void, _ZdlPvmSt11align_val_t, void *p, unused size_t n, unused size_t a) { fast_free(p); }
CXX(void, _ZdaPvmSt11align_val_t, void *p, unused size_t n, unused size_t a) { fast_free(p); }
CXX(void, _ZdlPvSt11align_val_tRKSt9nothrow_t, void *p, unused size_t a, unused const void *t) {
  fast_free(p);
}
CXX(void, _ZdaPvSt11align_val_tRKSt9nothrow_t, void *p, unused size_t a, unused const void *t) {
  fast_free(p);
}
