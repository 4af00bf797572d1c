/* The arena: one reservation of address space, treated as physical memory.
 *
 * Frames are 4 KiB, numbered from the base (pfn); hugepages are 512 frames (hpn). Beside the arena
 * stands one more reservation, the tables: the memmap (a memdesc per frame), the hugepage
 * descriptors, and the region that descriptor caches carve up. Both are opened for use in growing
 * steps, so that strict overcommit charges only what is used. The memmap is readable everywhere
 * from the start: free() of any address inside the arena may load its word.
 *
 * `arena` is written once by arena_init, but for `opened`, which frames.c raises under its lock. */
#ifndef QUIRE_PAGE_ARENA_H
#define QUIRE_PAGE_ARENA_H

#include "page/memdesc.h"

enum {
  FRAME_SHIFT = 12,
  FRAME_SIZE = 1 << FRAME_SHIFT,
  HUGEPAGE_SHIFT = 21,
  HUGEPAGE_SIZE = 1 << HUGEPAGE_SHIFT,
  HUGEPAGE_FRAMES = HUGEPAGE_SIZE / FRAME_SIZE,
};

/* Numbers that must not be mixed are different types; counts are size_t. */
typedef struct {
  uint32_t n;
} pfn_t; /* frame number: 16 TiB at most */
typedef struct {
  uint32_t n;
} hpn_t; /* hugepage number */

struct hugepage;

struct arena {
  uintptr_t base;              /* 2 MiB aligned; 0 before arena_init */
  size_t size;                 /* bytes of address space, a multiple of 2 MiB */
  memdesc_t *memmap;           /* size / 4096 words */
  uintptr_t memmap_by_address; /* address of the word that frame number 0 of address 0 would have */
  struct hugepage *hugepages;
  uint32_t nhugepages;
  uint32_t opened;   /* hugepages below this number may be touched */
  char *descriptors; /* the descriptor region, opened by desc.c */
  size_t descriptors_size;
  size_t tables_opened; /* bytes of memmap and hugepage descriptors opened so far */
};

extern struct arena arena;

/* Reserves address space. want: bytes, 0 for about 16 x RAM; halved until it fits. 0 or -ENOMEM. */
nodiscard int arena_init(size_t want);

/* Opens at least `count` more hugepages behind those opened, more if the arena is large; the tables
 * first. Raises arena.opened. The caller holds the frames lock. 0 or a negative errno. */
nodiscard int arena_open(uint32_t count);

/* Gives all address space back: tests that build many arenas. Nobody may use the arena any more. */
void arena_fini(void);

static always_inline bool arena_contains(const void *p) {
  return (uintptr_t)p - arena.base < arena.size;
}

static always_inline pfn_t arena_pfn(const void *p) {
  return (pfn_t){(uint32_t)(((uintptr_t)p - arena.base) >> FRAME_SHIFT)};
}

static inline void *arena_addr(pfn_t pfn) {
  return (void *)(arena.base + ((uintptr_t)pfn.n << FRAME_SHIFT));
}

static inline void *hugepage_addr(hpn_t hpn) {
  return (void *)(arena.base + ((uintptr_t)hpn.n << HUGEPAGE_SHIFT));
}

static inline hpn_t pfn_hugepage(pfn_t pfn) { return (hpn_t){pfn.n / HUGEPAGE_FRAMES}; }
static inline unsigned pfn_index(pfn_t pfn) { return pfn.n % HUGEPAGE_FRAMES; }
static inline pfn_t hugepage_pfn(hpn_t hpn) { return (pfn_t){hpn.n * HUGEPAGE_FRAMES}; }
static inline pfn_t pfn_add(pfn_t pfn, size_t n) { return (pfn_t){pfn.n + (uint32_t)n}; }
static inline size_t frames_of(size_t bytes) { return (bytes + FRAME_SIZE - 1) >> FRAME_SHIFT; }

/* For who was handed the pointer by quire and so knows the frame to be used: no order needed. */
static always_inline memdesc_t memmap_get(pfn_t pfn) {
  return (memdesc_t){load_relaxed(&arena.memmap[pfn.n].word)};
}

/* The same for any address inside the arena; free() begins with it, so it is one shift and one
 * load. */
static always_inline memdesc_t memmap_of(const void *p) {
  return (memdesc_t){
      load_relaxed((uint64_t *)(arena.memmap_by_address + ((uintptr_t)p >> FRAME_SHIFT << 3)))};
}

/* For peekers: what the owner field points to is visible after this load. */
static inline memdesc_t memmap_peek(pfn_t pfn) {
  return (memdesc_t){load_acquire(&arena.memmap[pfn.n].word)};
}

/* Transitions; each checks where it comes from (always in debug builds; `clear` in all builds). */
void memmap_set(pfn_t pfn, size_t nframes, memdesc_t to);
void memmap_reclass(pfn_t pfn, size_t nframes, unsigned size_class); /* type and owner stay */
void memmap_clear(pfn_t pfn, size_t nframes, enum memdesc_type from);

/* Sets or clears a flag (enum memdesc_flag) of frames that keep their owner meanwhile; others may
 * change other flags at the same time. Transitions clear all flags. */
void memmap_flag(pfn_t pfn, size_t nframes, unsigned flag, bool on);

/* Has any of these frames the flag? Racy. */
bool memmap_flagged(pfn_t pfn, size_t nframes, unsigned flag);

#endif
