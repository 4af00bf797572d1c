/* The memdesc: one 8-byte word per frame that says what the frame is and who owns it.
 *
 *   bits 0-3 type, 4-7 flags, 8-15 size class, 16-63 owner (address of a descriptor, 0 for none)
 *
 * Rules. A type is set only from NONE or FREE and goes back only to FREE, by the layer that set it;
 * each transition is one atomic store of the whole word in release order, so that who sees the type
 * also sees the descriptor it points to. Frames that are not contiguous may name the same owner.
 * Peekers read words with no lock; see peek.h for their protocol.
 *
 * | type     | owner points to           | set and cleared by |
 * | NONE     | nothing: never used       | (initial)          |
 * | FREE     | its struct hugepage       | the owner that left|
 * | SLAB     | struct slab               | slab/slab.c        |
 * | FOLIO    | struct folio              | page/folio.c       |
 * | META     | its descriptor cache      | page/              |
 * | OWNED    | struct owned              | page/owned.c       |
 * | POISON   | its struct hugepage       | page/poison.c      |
 * | RESERVED | why                       | page/              |
 *
 * The encoding is part of the peek header's format (include/quire.h): changing it changes its
 * version. SLAB and FOLIO differ in bit 0 alone, so that free() recognises both with one test. */
#ifndef QUIRE_PAGE_MEMDESC_H
#define QUIRE_PAGE_MEMDESC_H

#include "arch/atomic.h"
#include "arch/compiler.h"

enum memdesc_type {
  MEMDESC_NONE = 0,
  MEMDESC_FREE = 1,
  MEMDESC_SLAB = 2,
  MEMDESC_FOLIO = 3,
  MEMDESC_META = 4,
  MEMDESC_OWNED = 5,
  MEMDESC_POISON = 6,
  MEMDESC_RESERVED = 7,
};

enum memdesc_flag {
  MEMDESC_ISOLATED = 1 << 4, /* its owner was asked to stop using it: a migration is under way */
  MEMDESC_PINNED = 1 << 5,   /* physical memory must not change */
  MEMDESC_HOST = 1 << 6,     /* other frames are mapped onto its memory */
  MEMDESC_GUEST = 1 << 7,    /* its address maps onto a host's memory */
};

enum { MEMDESC_TYPE_MASK = 0xf, MEMDESC_CLASS_SHIFT = 8, MEMDESC_OWNER_SHIFT = 16 };

typedef struct memdesc {
  uint64_t word;
} memdesc_t;

_Static_assert(sizeof(memdesc_t) == 8, "the memmap is 0.195 % of what it describes");

static inline memdesc_t memdesc_make(enum memdesc_type type, unsigned size_class,
                                     const void *owner) {
  return (memdesc_t){(uint64_t)type | (uint64_t)size_class << MEMDESC_CLASS_SHIFT |
                     (uint64_t)(uintptr_t)owner << MEMDESC_OWNER_SHIFT};
}

static inline enum memdesc_type memdesc_type(memdesc_t d) {
  return (enum memdesc_type)(d.word & MEMDESC_TYPE_MASK);
}

/* SLAB or FOLIO: memory that malloc handed out. */
static inline bool memdesc_is_allocation(memdesc_t d) { return (d.word & 0xe) == MEMDESC_SLAB; }

static inline unsigned memdesc_class(memdesc_t d) {
  return (unsigned)(d.word >> MEMDESC_CLASS_SHIFT) & 0xff;
}

static inline unsigned memdesc_flags(memdesc_t d) { return (unsigned)d.word & 0xf0; }

static inline void *memdesc_owner(memdesc_t d) {
  return (void *)(uintptr_t)(d.word >> MEMDESC_OWNER_SHIFT);
}

const char *memdesc_type_name(enum memdesc_type type);

#endif
