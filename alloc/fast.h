/* The fast paths of malloc and free: one screen, no lock, no atomic, no system call, no other
 * function.
 *
 * malloc: the class of the size (a byte table), this thread's stack of the class, pop.
 * free: the frame's memdesc (one load that tells type and class), this thread's stack of the class,
 * push. Both branches that leave are misses and end in a tail call. */
#ifndef QUIRE_ALLOC_FAST_H
#define QUIRE_ALLOC_FAST_H

#include "alloc/tcache.h"
#include "page/arena.h"

/* malloc.c: what the fast paths leave. All set errno to ENOMEM when they return NULL. */
void *malloc_miss(unsigned size_class);
void *malloc_large(size_t size);
void free_uncommon(void *p); /* NULL, foreign, large, or not allocated */
void free_overflow(unsigned size_class, void *p);
void free_wrong_size(void *p, size_t size, bool exact); /* class and size disagree: misuse? */

static always_inline void *fast_malloc_class(unsigned c) {
  struct tcache *tc = tcache_self;
  void *p = rseq_stack_pop(&tc->stacks, c, tc->rseq_area);
  return likely(p != NULL) ? p : malloc_miss(c);
}

static always_inline void *fast_malloc(size_t size) {
  if (likely(size <= CLASS_TABLE_MAX)) return fast_malloc_class(class_table[(size + 7) / 8]);
  if (likely(size <= CACHED_MAX)) return fast_malloc_class(class_of_large(size));
  return malloc_large(size);
}

/* An aligned object from this thread's cache, or NULL: then alloc_aligned sees to it. align: a
 * power of two. */
static always_inline void *fast_aligned(size_t align, size_t size) {
  struct tcache *tc = tcache_self;
  if (unlikely(align > SLAB_MAX || size > CACHED_MAX)) return NULL;
  bool plain = align <= 16 && size >= align;
  unsigned c = plain ? class_of(size) : class_of_aligned(size, size_max(align, 16));
  if (unlikely(!class_is_slab(c))) return NULL;
  return rseq_stack_pop(&tc->stacks, c, tc->rseq_area);
}

static always_inline void fast_free_class(unsigned c, void *p) {
  struct tcache *tc = tcache_self;
  if (unlikely(!rseq_stack_push(&tc->stacks, c, p, tc->rseq_area))) free_overflow(c, p);
}

static always_inline void fast_free(void *p) {
  if (unlikely(!arena_contains(p))) return free_uncommon(p);
  memdesc_t d = memmap_of(p);
  if (unlikely(!memdesc_is_allocation(d))) return free_uncommon(p);
  fast_free_class(memdesc_class(d), p);
}

/* The caller says how many bytes it asked for (exact: of a function that never resizes in place): a
 * wrong number is found out here. */
static always_inline void fast_free_sized(void *p, size_t size, bool exact) {
  if (unlikely(!arena_contains(p))) return free_uncommon(p);
  memdesc_t d = memmap_of(p);
  if (unlikely(!memdesc_is_allocation(d))) return free_uncommon(p);
  unsigned c = memdesc_class(d);
  if (unlikely(size > CACHED_MAX || class_of(size) != c)) return free_wrong_size(p, size, exact);
  fast_free_class(c, p);
}

#endif
