/* What bitmaps.c writes and matching.c reads. */
#ifndef QUIRE_BENCH_BITMAPS_H
#define QUIRE_BENCH_BITMAPS_H

#include <stdint.h>

enum { BITMAP_WORDS_MOST = 128 };

/* Followed by (slots + 63) / 64 words of 64 bits: slot i is taken where bit i % 64 of word i / 64
 * is set. */
struct slab_bitmap {
  uint32_t size, slots, frames; /* of a slot, in bytes */
};

#endif
