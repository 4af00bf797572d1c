/* A slab: a run of frames cut into equal slots of one size class.
 *
 * All its metadata is here, out of band: a bitmap of free slots (1 = free). Nothing is ever written
 * into a free slot. The bin of the class (bin.h) owns every slab of it and its lock guards all
 * fields; peekers read without it and check the memdesc again.
 *
 *   nfree = |free|, 0 <= nfree <= nslots; a slab with nfree = nslots is empty
 *   state PARTIAL: in the bin's list for its fullness; FULL: nfree = 0, in no list; FREE: not a
 * slab; ISOLATED, GUEST: see migrate.h; RETIRED: see pin.h
 *
 * A frame in which no slot is taken may have been discarded (holes); it counts as resident again
 * once a slot in it is handed out. */
#ifndef QUIRE_SLAB_SLAB_H
#define QUIRE_SLAB_SLAB_H

#include "page/desc.h"
#include "page/frames.h"
#include "slab/size_class.h"

enum slab_state {
  SLAB_FREE = 0, /* in no bin: new, or about to be destroyed */
  SLAB_PARTIAL = 1,
  SLAB_FULL = 2,
  SLAB_ISOLATED = 3, /* compaction has it: in no list, hands out nothing */
  SLAB_GUEST = 4,    /* some of its frames have their memory from other slabs: the same */
  SLAB_RETIRED = 5,  /* memory of it has failed: hands out nothing, goes when it is empty */
};

enum { SLAB_WORDS_SMALL = 8, SLAB_WORDS_LARGE = 16 };

struct mesh;

struct slab {
  struct desc desc;
  struct slab *next, *prev; /* in the bin's list */
  pfn_t pfn;
  uint16_t nfree;
  uint16_t nslots;
  uint16_t nframes;
  uint8_t size_class;
  uint8_t state;      /* enum slab_state */
  uint8_t fullness;   /* the list it is in */
  uint8_t hint;       /* words of the bitmap before this one are zero */
  uint16_t pins;      /* promises that its memory doesn't change */
  uint32_t holes;     /* bit i: frame i holds no memory of its own */
  uint16_t nfree_max; /* more free slots than this belong in an emptier list */
  uint8_t skip;       /* attempts of compaction to pass over, since a page was pinned */
  uint8_t node;       /* its hugepage's, and which of the class's bins it is in */
  struct mesh *mesh;  /* its part in meshing, mostly NULL */
  uint64_t free[];    /* SLAB_WORDS_SMALL, or SLAB_WORDS_LARGE where a slab has over 512 slots */
};

_Static_assert(sizeof(struct slab) == 64, "the bitmap begins a line of its own");

extern struct desc_cache slab_cache_small, slab_cache_large;

/* A new slab with all slots free, its frames' memdescs set. NULL when memory ran out. The caller
 * puts it into its bin. */
nodiscard struct slab *slab_new(unsigned size_class);

/* Gives an empty slab's frames and its descriptor back. */
void slab_destroy(struct slab *slab);

/* The frames that slots [from, to) touch, a bit each. */
uint32_t slab_frames_of(const struct slab *slab, unsigned from, unsigned to);

/* The frames in which a slot is taken. */
uint32_t slab_live_frames(const struct slab *slab);

static inline uint32_t slab_all_frames(const struct slab *slab) {
  return slab->nframes >= 32 ? ~(uint32_t)0 : ((uint32_t)1 << slab->nframes) - 1;
}

static inline bool slab_slot_is_free(const struct slab *slab, unsigned slot) {
  return load_relaxed(&slab->free[slot / 64]) >> slot % 64 & 1;
}

/* The slot that begins at p, -1 when none does. */
int slab_slot(const struct slab *slab, const void *p);

/* Takes up to n free slots, lowest addresses first; stores the pointers last to first, so that a
 * stack filled with them hands out the lowest first. Number taken. */
unsigned slab_take(struct slab *slab, void **out, unsigned n);

enum slab_verdict { SLAB_OK, SLAB_INTERIOR, SLAB_DOUBLE_FREE };

/* Marks slots free: objects[0] and those behind it as long as they lie in this slab, at most n.
 * Returns how many, at least 1; *verdict tells of the next one, which was not freed, if it is not
 * SLAB_OK. */
unsigned slab_put(struct slab *slab, void *const *objects, unsigned n, enum slab_verdict *verdict);

/* Is p the beginning of a slot that is taken? */
enum slab_verdict slab_check(const struct slab *slab, const void *p);

static inline unsigned slab_words(const struct slab *slab) { return (slab->nslots + 63u) / 64; }
static inline bool slab_is_empty(const struct slab *slab) { return slab->nfree == slab->nslots; }
static inline void *slab_addr(const struct slab *slab) { return arena_addr(slab->pfn); }

bool slab_consistent(const struct slab *slab);

#endif
