/* Slabs of one class with objects in them, each filled with a pattern of its own, on a fake zone:
 * what the tests of meshing share. */
#ifndef QUIRE_TESTS_UNIT_MESHING_H
#define QUIRE_TESTS_UNIT_MESHING_H

#include "page/compact.h"
#include "page/zone.h"
#include "slab/migrate.h"
#include "tests/unit/fake_zone.h"
#include "tests/unit/random.h"

enum { OBJECTS_MOST = 20000, SLABS_MOST = 512, MESHING_SIZES = 18 };

/* Powers of two, sizes whose slots straddle frames, slots longer than a frame. */
extern const uint32_t meshing_sizes[MESHING_SIZES];

struct object {
  unsigned char *p;
  uint32_t pattern;
};

extern struct object objects[OBJECTS_MOST];
extern size_t nobjects, object_bytes; /* of each */
extern unsigned object_class;

void meshing_begin(size_t object_size); /* a heap with an open zone */
void meshing_end(void);                 /* everything must be consistent and the zone left alone */

void fill_object(struct object *o);
bool is_intact(const struct object *o);
bool all_intact(void);
void get_objects(size_t n);
void put_object(size_t i);
void put_all(void);
void thin_out(struct random *r, size_t left); /* at random, until so many are left */

/* Slabs in which so many objects live on average, anywhere. */
void make_sparse(struct random *r, size_t slabs, size_t each);

struct slab *slab_of(const void *p);
size_t all_slabs(struct slab **out, size_t most); /* of the class, by the memmap */
struct zone_stats zone_now(void);

/* A migration to all hosts of the class, and all slabs asked to take part, the sparsest last, so
 * that the first become hosts. */
struct migration migration(void);
void migrate_all(struct migration *m);

void everything_goes(void); /* frees all: nothing may be left of it */

#endif
