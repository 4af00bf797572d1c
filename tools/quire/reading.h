/* What reading a snapshot (snapshot.c) and drawing it (draw.c) share; nobody else includes it. */
#ifndef QUIRE_TOOLS_READING_H
#define QUIRE_TOOLS_READING_H

#include "tools/quire/snapshot.h"

enum { HUGEPAGE_FRAMES = 512 };

struct reading {
  struct target *target;
  struct quire_peek header;
  const struct snapshot_numbers *numbers;
  uint32_t nframes, nhugepages;
  uint64_t *words, *words_before; /* of the memmap */
  char *hugepages;                /* records as in the target */
  uint32_t *backing;              /* zeros beyond nbacking */
  uint64_t backing_address, nbacking;
  char *descriptors;     /* the region */
  uint64_t ndescriptors; /* bytes */
  uint32_t *run_of;      /* by descriptor: its run, SNAPSHOT_NO_RUN before there is one */
  bool *sure;            /* by frame: word and descriptor belong together */
};

/* An owner as its descriptor says, checked. */
struct reading_owner {
  uint64_t at; /* of the descriptor in the region */
  struct snapshot_run run;
  uint64_t bitmap[16]; /* of a slab: free slots, as many words as it has, no bit beyond the last */
};

/* Of a word: all but its flags. */
#define READING_OWNER_MASK (~(uint64_t)0xf0)

static inline bool reading_has_owner(uint64_t word) {
  unsigned type = word & 0xf;
  return type == SNAPSHOT_SLAB || type == SNAPSHOT_FOLIO || type == SNAPSHOT_OWNED;
}

/* At least `size` bytes, of anything, that free() takes back; on hugepages where there are any,
 * since filling small ones takes longer than reading. */
void *reading_buffer(size_t size);

/* The owner that a frame's word names; false when that can't be it. */
bool reading_owner(const struct reading *r, uint32_t frame, struct reading_owner *out);

/* Makes the arrays of what was read. */
enum snapshot_status reading_draw(struct reading *r, struct snapshot *out);

#endif
