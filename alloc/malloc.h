/* malloc's semantics over thread caches, slabs and folios. The slow paths behind alloc/fast.h and
 * what has no fast path. All set errno to ENOMEM when they return NULL, and leave it alone
 * otherwise. Thread safe. */
#ifndef QUIRE_ALLOC_MALLOC_H
#define QUIRE_ALLOC_MALLOC_H

#include "alloc/fast.h"

void *alloc_calloc(size_t count, size_t size);
void *alloc_realloc(void *p, size_t size);

/* align: a power of two. */
void *alloc_aligned(size_t align, size_t size);

/* Usable bytes; 0 for NULL. A pointer of another allocator is asked there. */
size_t alloc_usable_size(const void *p);

/* Other allocators' pointers, which can reach quire where it is loaded into a running libc:
 * preload/ sets these; NULL means there is nobody to ask, and such pointers are misuse. Each
 * returns false when the pointer is nobody's. */
struct foreign_ops {
  bool (*free)(void *p);
  bool (*realloc)(void *p, size_t size, void **out);
  bool (*usable_size)(const void *p, size_t *out);
};
extern const struct foreign_ops *foreign;

/* Reports what the memmap knows of p in one line and aborts. what: "double free", ... */
_Noreturn void misuse_report(const char *what, const void *p, size_t size);

#endif
