/* The operations of a slab as an owner (page/owner.h), but for describe. They take the lock of its
 * bin; isolate and what follows it is for one thread at a time. */
#ifndef QUIRE_SLAB_MIGRATE_H
#define QUIRE_SLAB_MIGRATE_H

#include "page/owner.h"

enum owner_verdict slab_isolate(void *owner, pfn_t pfn);
uint64_t slab_dirty(void *owner);
enum owner_verdict slab_migrate(void *owner, struct migration *m);
void slab_put_back(void *owner);

/* After the zone was frozen: guests' frames are their own again, so they are ordinary slabs, and
 * their hosts need keep nothing for them. */
void slab_thaw_all(void);

#endif
