/* A pool of objects of one size that are reached by handles: what a program would write that lets
 * quire compact its data. It knows nothing of quire but quire.h.
 *
 * An object's address holds until the pool is unlocked: objects move. Thread safe. */
#ifndef QUIRE_TESTS_UNIT_POOL_H
#define QUIRE_TESTS_UNIT_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;

/* most: objects that it can ever hold. */
struct pool *pool_new(size_t object_size, uint32_t most);

/* False while objects are left. */
bool pool_delete(struct pool *pool);

/* A handle, 0 without memory. */
uint32_t pool_get(struct pool *pool);
void pool_put(struct pool *pool, uint32_t handle);

void pool_lock(struct pool *pool);
void pool_unlock(struct pool *pool);
void *pool_at(struct pool *pool, uint32_t handle); /* locked */

/* Whatever compaction asks for long-term pins: refused. Until then they are granted. */
void pool_refuse_long_pins(struct pool *pool);

struct pool_counts {
  uint32_t objects, runs;
  uint32_t described, isolated, put_back, migrated, moved, busy; /* so far */
};

struct pool_counts pool_counts(struct pool *pool);

#endif
