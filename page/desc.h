/* Type-stable descriptor caches.
 *
 * Memory that once held a descriptor of one cache only ever holds descriptors of that cache, and
 * never goes back to the system, so a peeker may follow a stale owner pointer and read a descriptor
 * of the right type: then it takes the owner, loads the memdesc again and compares. Every
 * descriptor begins with a struct desc, whose first field names the cache.
 *
 * Thread safe; each cache has a lock of rank RANK_DESC. */
#ifndef QUIRE_PAGE_DESC_H
#define QUIRE_PAGE_DESC_H

#include "arch/lock.h"
#include "page/arena.h"

struct desc {
  struct desc_cache *cache;
  struct desc
      *next_free; /* meaningful while free; small descriptors use its place while they live */
};

enum { DESC_UNIT = 32 };

struct owner_ops;

struct desc_cache {
  struct lock lock;
  uint32_t size; /* bytes of one descriptor: a multiple of DESC_UNIT, and of 64 for an owner's */
  const char *name;
  const struct owner_ops *ops; /* of what its descriptors own; NULL for nothing */
  struct desc *free;
  char *bump, *end; /* the part of its last chunk that was never used */
  size_t nlive;
  size_t nbytes; /* taken from the region so far */
};

#define DESC_CACHE_INIT(desc_size, desc_name, owner_ops)                                           \
  { .lock = LOCK_INIT(RANK_DESC), .size = (desc_size), .name = (desc_name), .ops = (owner_ops) }

/* A descriptor with everything behind struct desc as its last user left it (zeros when new), or
 * NULL when memory ran out. Aligned to the lowest power of two in its size. */
nodiscard void *desc_alloc(struct desc_cache *cache);
void desc_free(void *desc);

/* A pointer to a descriptor in 32 bits, for records of which there are many; 0 is NULL. The region
 * is at most 2^32 - 1 units long (page/arena.c). */
static inline uint32_t desc_ref(const void *desc) {
  return desc == NULL ? 0 : (uint32_t)(((const char *)desc - arena.descriptors) / DESC_UNIT) + 1;
}

static inline void *desc_at(uint32_t ref) {
  return ref == 0 ? NULL : arena.descriptors + (size_t)(ref - 1) * DESC_UNIT;
}

/* Bytes of the descriptor region: opened for use, and handed to caches so far. */
size_t desc_bytes_opened(void);
size_t desc_bytes_used(void);
const size_t *desc_bytes_used_place(void); /* for other processes */

/* Fork: the region's own lock, with the caches' taken by their owners. */
void desc_lock_region(void);
void desc_unlock_region(void);
void desc_reset_region(void);

/* Tests that build a new arena: forget the region. Caches must be reset by their owners. */
void desc_fini(void);
void desc_cache_fini(struct desc_cache *cache);

#endif
