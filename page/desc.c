#include "page/desc.h"

#include <errno.h>

#include "arch/sys.h"
#include "page/arena.h"

enum { OPEN_STEP = 256 << 10, CHUNK = 4096 };

/* The region hands out chunks in address order; its lock is taken inside a cache's. */
static struct {
  struct lock lock;
  size_t next;   /* offset of the first chunk never handed out */
  size_t opened; /* offset up to which it may be touched */
} region = {.lock = LOCK_INIT(RANK_REGION)};

static char *region_take(size_t length) {
  char *p = NULL;
  lock_acquire(&region.lock);
  if (region.next + length > region.opened) {
    size_t step = align_up(length, size_max(OPEN_STEP, sys_page_size()));
    if (region.opened + step <= arena.descriptors_size &&
        sys->open_write(arena.descriptors + region.opened, step) == 0)
      store_relaxed(&region.opened, region.opened + step);
  }
  if (region.next + length <= region.opened) {
    p = arena.descriptors + region.next;
    region.next += length;
  }
  lock_release(&region.lock);
  return p;
}

/* A chunk of 4 KiB, or one descriptor's worth if that is larger: little is opened before it's
 * needed. */
static bool refill(struct desc_cache *cache) {
  size_t length = align_up(size_max(CHUNK, cache->size), CHUNK);
  char *chunk = region_take(length);
  if (chunk == NULL) return false;
  cache->bump = chunk;
  cache->end = chunk + length;
  cache->nbytes += length;
  return true;
}

void *desc_alloc(struct desc_cache *cache) {
  struct desc *d = NULL;
  lock_acquire(&cache->lock);
  if (cache->free != NULL) {
    d = cache->free;
    cache->free = d->next_free;
  } else if ((size_t)(cache->end - cache->bump) >= cache->size || refill(cache)) {
    d = (struct desc *)cache->bump;
    cache->bump += cache->size;
    store_relaxed(&d->cache, cache); /* for peekers, who may come by a stale pointer */
  }
  if (d != NULL) cache->nlive++;
  lock_release(&cache->lock);
  return d;
}

void desc_free(void *desc) {
  struct desc *d = desc;
  struct desc_cache *cache = d->cache;
  lock_acquire(&cache->lock);
  d->next_free = cache->free;
  cache->free = d;
  cache->nlive--;
  lock_release(&cache->lock);
}

size_t desc_bytes_opened(void) { return load_relaxed(&region.opened); }
size_t desc_bytes_used(void) { return load_relaxed(&region.next); }
const size_t *desc_bytes_used_place(void) { return &region.next; }
void desc_lock_region(void) { lock_acquire(&region.lock); }
void desc_unlock_region(void) { lock_release(&region.lock); }
void desc_reset_region(void) { lock_reset(&region.lock); }

void desc_fini(void) { region.next = region.opened = 0; }

void desc_cache_fini(struct desc_cache *cache) {
  cache->free = NULL;
  cache->bump = cache->end = NULL;
  cache->nlive = cache->nbytes = 0;
}
