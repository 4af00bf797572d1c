/* Size classes.
 *
 *   class 0          8 bytes
 *   classes 1..8     16 to 128 bytes, in steps of 16
 *   then             eight per doubling: 144, 160, ... 256, 288, ... at most 12.5 % wasted
 *   up to class 80   64 KiB: slots of slabs
 *   up to class 112  1 MiB: folios of the class's size, so that thread caches can hold them
 *   CLASS_LARGE      folios of any other size
 *
 * Alignment: every class from 16 bytes up is a multiple of 16, and slabs and folios begin at
 * addresses aligned to the largest power of two that divides their class, so every object is
 * aligned to it.
 *
 * Who asks for an alignment of a disk's blocks or more may have the kernel write there by direct
 * I/O, past the page tables. If the page were another by the time it does, as a fork makes it of
 * memory that is meshed and then written to, that would be lost. So such memory is in slots of a
 * frame at least, which are never meshed. */
#ifndef QUIRE_SLAB_SIZE_CLASS_H
#define QUIRE_SLAB_SIZE_CLASS_H

#include "arch/compiler.h"

enum {
  SLAB_CLASSES = 81,
  CACHED_CLASSES = 113, /* slabs' and those of folios that thread caches hold */
  CLASS_LARGE = 113,
  ALL_CLASSES = 114,
  SLAB_MAX = 64 << 10,
  CACHED_MAX = 1 << 20,
  CLASS_TABLE_MAX = 1024, /* sizes up to here find their class in the byte table */
  DIRECT_ALIGN = 512,     /* what direct I/O asks for, and the least that it gets */
  DIRECT_LEAST = 4096,
};

/* How slabs of a class are cut. */
struct size_class {
  uint32_t size;       /* bytes of a slot */
  uint16_t nframes;    /* frames of a slab; of the folio, for folio classes */
  uint16_t nslots;     /* 1 for folio classes */
  uint64_t reciprocal; /* ceil(2^40 / size): offset to slot by multiplication */
};

extern const struct size_class size_classes[CACHED_CLASSES];
extern const uint8_t class_table[CLASS_TABLE_MAX / 8 + 1]; /* by (size + 7) / 8 */

/* For sizes above 128 B and up to CACHED_MAX. */
static always_inline unsigned class_of_large(size_t size) {
  unsigned lg = 63 - (unsigned)__builtin_clzll(size - 1);
  return (lg - 7) * 8 + 1 + (unsigned)((size - 1) >> (lg - 3));
}

/* The smallest class that holds `size` bytes, 0 <= size <= CACHED_MAX. */
static always_inline unsigned class_of(size_t size) {
  if (likely(size <= CLASS_TABLE_MAX)) return class_table[(size + 7) / 8];
  return class_of_large(size);
}

static inline bool class_is_slab(unsigned size_class) { return size_class < SLAB_CLASSES; }

static inline size_t class_size(unsigned size_class) { return size_classes[size_class].size; }

/* What every object of a class is aligned to: the largest power of two that divides its size. */
static inline size_t class_alignment(unsigned size_class) {
  size_t size = class_size(size_class);
  return size & -size;
}

/* The smallest class that holds `size` bytes at addresses aligned to `align` (a power of two, 16
 * bytes to 64 KiB; size at most CACHED_MAX), and that is fit for direct I/O if it could be meant.
 */
static always_inline unsigned class_of_aligned(size_t size, size_t align) {
  if (align >= DIRECT_ALIGN) size = size_max(size, DIRECT_LEAST);
  unsigned c = class_of(align_up(size_max(size, align), align));
  while (class_alignment(c) < align) c++; /* ends at the next power of two at the latest */
  return c;
}

/* offset < 256 KiB: exact, see the unit test. */
static always_inline unsigned class_slot(const struct size_class *c, size_t offset) {
  return (unsigned)(offset * c->reciprocal >> 40);
}

#endif
